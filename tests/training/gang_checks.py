"""What the workers of a gang check together, each in its process."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import AutoModelForCausalLM

from raymcu.models import causal_lm
from raymcu.models.empty import open_empty, twins_of
from raymcu.models.scorer import Scorer
from raymcu.training.sharding import drop_gathered, gathered, mesh_of, shard
from raymcu.training.whole_weights import Kept, OtherNamesError, fill_from, write_together

CPU = torch.device("cpu")
IDS = torch.arange(4, 12)[None]


def opens_as_whole(group, folder, replicas):
    """A model filled row by row is the one that is opened whole, and is saved to the same bytes."""
    folder = Path(folder)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model = open_empty(folder, "float32")
    scorer = Scorer(model)
    shard(scorer, "float32", CPU, replicas)
    fill_from(folder, causal_lm.saved_weights(model), twins_of(model))
    weights, mesh = causal_lm.saved_weights(model), mesh_of(CPU, replicas)
    whole = causal_lm.saved_weights(plain)
    assert weights.keys() == whole.keys()
    for name, weight in weights.items():
        if not isinstance(weight, DTensor):
            assert torch.equal(weight, whole[name]), name
            continue
        part = distribute_tensor(whole[name].detach(), mesh, weight.placements, src_data_rank=None)
        assert torch.equal(weight.to_local(), part.to_local()), name
        share = -(-len(whole[name]) // (group.size // replicas))
        assert len(weight.to_local()) <= share, "a worker holds more than its part"
    with torch.no_grad():
        at = torch.arange(IDS.shape[1])
        assert torch.allclose(scorer(IDS, 0 * at, at), plain(input_ids=IDS).logits[0], atol=1e-5)
    how = {"attention_mask": torch.ones_like(IDS), "max_new_tokens": 3, "do_sample": False}
    with gathered(scorer):
        assert torch.equal(model.generate(IDS, synced_gpus=True, **how), plain.generate(IDS, **how))
    drop_gathered(scorer)
    for dtype in (torch.float32, torch.bfloat16):
        kept = {name: Kept(weight, dtype) for name, weight in weights.items()}
        path = folder.parent / f"{folder.name}-{dtype}.safetensors" if group.rank == 0 else None
        write_together(path, kept, group.moving)
        if path is not None:
            same = copy.deepcopy(plain).to(dtype)
            same.save_pretrained(folder.parent / "same", save_original_format=False)
            written = folder.parent / "same" / "model.safetensors"
            assert path.read_bytes() == written.read_bytes()


def writes_mixed_types(group, folder):
    """Types are laid out as safetensors lays them out, whatever the names say."""
    held = {
        "a": torch.arange(6).reshape(2, 3).half(),
        "b": torch.arange(4),
        "c": torch.arange(3).float(),
        "d": torch.ones(2, dtype=torch.bool),
    }
    path = Path(folder) / "mixed.safetensors" if group.rank == 0 else None
    write_together(path, {n: Kept(w, w.dtype) for n, w in held.items()}, group.moving)
    if path is not None:
        assert all(torch.equal(w, held[n]) for n, w in load_file(path).items())


def tells_other_names(group, folder):
    """Files that have other names than the modules are told, not filled with nothing."""
    del group
    model = open_empty(Path(folder), "float32")
    shard(Scorer(model), "float32", CPU)
    with pytest.raises(OtherNamesError, match="has no weight called"):
        fill_from(Path(folder), causal_lm.saved_weights(model), twins_of(model))
