"""Classifiers on a CUDA device: the CPU's logits and states, and losses that fall."""

import numpy as np
import pytest
import torch

from raymcu.benchmarks import classified
from raymcu.models.image_classifier import ImageClassifiers
from raymcu.models.image_text_classifier import ImageTextClassifiers
from raymcu.models.text_classifier import TextClassifiers
from raymcu.study.scratch_classifiers import (
    ScratchBert,
    ScratchResNet,
    ScratchVilt,
    ScratchViT,
)
from raymcu.study.training_tables import Training
from raymcu.training.optimizers import Optimizer

from .place import DEVICE, IS_REHEARSAL

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
DRAWN = np.random.default_rng(0)
IMAGES = [DRAWN.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(24)]
ROWS = [
    classified(n % 3, f"sentence {n} " * (1 + n % 4), (image,)) for n, image in enumerate(IMAGES)
]
each = pytest.mark.parametrize(
    ("modality", "shape"),
    [
        (ImageClassifiers(), ScratchResNet(depth=10, width=16)),
        (ImageClassifiers(), ScratchViT()),
        (TextClassifiers(), ScratchBert(vocab_size=300)),
        (ImageTextClassifiers(), ScratchVilt(vocab_size=300, patch_size=8)),
    ],
    ids=["resnet", "vit", "bert", "vilt"],
)


@each
def test_logits_and_states_are_the_cpu_s(modality, shape, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    modality.save(*modality.create(shape, ROWS, "abc", 0, "float32"), tmp_path)
    encoder = modality.open_encoder(tmp_path)
    found = []
    for device in (CPU, DEVICE):
        scorer = modality.Scorer(modality.open_model(tmp_path, "float32", device))
        scorer.check()
        assert scorer.device.type == device.type
        batch = encoder.collate([*map(encoder.encode, ROWS)], device)
        with torch.no_grad():
            found.append(scorer(batch.inputs, batch.row, batch.column, layer=0))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs.cpu(), atol=1e-3)


@each
def test_losses_fall(modality, shape):
    model, encoder = modality.create(shape, ROWS, "abc", 0, "float32")
    scorer = modality.Scorer(model.to(DEVICE))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    batch = encoder.collate([*map(encoder.encode, ROWS)], DEVICE)
    losses = []
    for _ in range(60):
        logits = scorer(batch.inputs, batch.row, batch.column)
        loss = torch.nn.functional.cross_entropy(logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_a_network_with_batch_normalisation_lies_channel_by_channel():
    """Its optimizer's state, too, after it was saved and loaded: a fused step takes no other."""
    model, encoder = ImageClassifiers().create(
        ScratchResNet(depth=8, width=8), ROWS, "abc", 0, "float32"
    )
    scorer = ImageClassifiers.Scorer(model.to(DEVICE), encoder).train()
    weights = dict(model.named_parameters())
    lies = weights["blocks.0.conv1.weight"].is_contiguous(memory_format=torch.channels_last)
    assert lies == (not IS_REHEARSAL)  # a CPU is no faster for it
    optimizer = Optimizer(weights, Training())
    batch = scorer.collate([*map(encoder.encode, ROWS)])
    for _ in range(2):
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            logits = scorer(batch.inputs, batch.row, batch.column)
        torch.nn.functional.cross_entropy(logits.float(), batch.labels).backward()
        optimizer.step(1.0)
        optimizer.load(optimizer.state())
    assert all(torch.isfinite(weight).all() for weight in weights.values())
