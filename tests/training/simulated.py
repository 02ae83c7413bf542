"""Prints what one worker of several holds at most in a step that allocates nothing: fake tensors.

Run as a script, as a process has one torch.distributed group: `simulated.py WORKERS LAYERS TOKENS`,
of a model as wide as Llama 3 8B in bfloat16, whose blocks are computed again.
"""

import sys
import weakref

import torch
from torch import distributed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import AutoConfig, AutoModelForCausalLM

from raymcu.methods._logits import Logits, nll, read
from raymcu.models.scorer import Scorer
from raymcu.study.training_tables import Training
from raymcu.training.recompute import recompute


class Peak(TorchDispatchMode):
    """Most bytes of all storages that live at once; FSDP frees gathered weights by resizing."""

    def __init__(self, held):
        super().__init__()
        self.live, self.now, self.most = {}, 0, 0
        for tensor in held:
            self.see(tensor)

    def see(self, tensor):
        if tensor.device.type == "meta":  # not one that only allocates nothing
            return
        storage = getattr(tensor, "_local_tensor", tensor).untyped_storage()
        if storage._cdata not in self.live:
            weakref.finalize(storage, self.sized, storage._cdata, 0)
        self.sized(storage._cdata, storage.nbytes())

    def sized(self, key, size):
        self.now += size - self.live.get(key, 0)
        self.live[key] = size
        if not size:
            del self.live[key]
        self.most = max(self.most, self.now)

    def __enter__(self):
        self.old = old = torch.UntypedStorage.resize_

        def resize_(storage, size):
            out = old(storage, size)
            if storage._cdata in self.live or size:
                self.sized(storage._cdata, size)
            return out

        torch.UntypedStorage.resize_ = resize_
        return super().__enter__()

    def __exit__(self, *error):
        torch.UntypedStorage.resize_ = self.old
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.see, out)
        return out


def step(scorer, optimizer, tokens):
    """Two parts, one after the other, read as a training reads them."""
    ids = torch.zeros(1, tokens, dtype=torch.long)
    labels = torch.zeros(tokens, dtype=torch.long)
    for _ in range(2):
        states = scorer(ids, torch.zeros_like(labels), labels, None, False)
        logits = Logits(states, scorer.logits, scorer.num_tokens)
        read(logits, nll, labels).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def main(workers, layers, tokens):
    """Print the bytes of the second step, in which optimizer states exist."""
    config = AutoConfig.for_model(
        "llama", hidden_size=4096, intermediate_size=14336, num_attention_heads=32,
        num_key_value_heads=8, num_hidden_layers=layers, vocab_size=128256,
        tie_word_embeddings=False, max_position_embeddings=8192,
    )  # fmt: skip
    distributed.init_process_group("fake", rank=0, world_size=workers, store=FakeStore())
    mesh = init_device_mesh("cpu", (workers,))
    with FakeTensorMode():
        scorer = Scorer(AutoModelForCausalLM.from_config(config).train())
        recompute(scorer, Training(recompute="blocks"), torch.device("cpu"), workers)
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
        for module in (*scorer.layers, scorer) if workers > 1 else ():
            fully_shard(module, mesh=mesh, mp_policy=policy)
        optimizer = torch.optim.AdamW(scorer.parameters(), fused=True)
        step(scorer, optimizer, tokens)
        states = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
        with Peak([*scorer.parameters(), *scorer.buffers(), *states]) as peak:
            step(scorer, optimizer, tokens)
    print(peak.most)  # noqa: T201


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
