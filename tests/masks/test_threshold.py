"""Radix selection against a sort of everything."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from raymcu.errors import WorkError
from raymcu.masks._base import MASKS, threshold

NAMES = [entry.name for entry in MASKS]


def random_scores(kind):
    random = torch.Generator().manual_seed(0)
    normal = torch.randn(3000, generator=random).abs()
    power = torch.rand(3000, generator=random) * 76 - 38
    return {
        "normal": normal,
        "ties": (normal * 3).round(),
        "zeros": torch.where(normal < 1, torch.zeros(()), normal),
        "denormal": normal * 1e-42,
        "any size": (normal.double() * 10 ** power.double()).float(),
        "largest": torch.where(normal > 2, torch.tensor(torch.finfo().max), normal),
        "infinite": torch.where(normal > 2, torch.tensor(torch.inf), normal),
        "equal": torch.full((3000,), 0.1),
        "bfloat16": normal.bfloat16(),
    }[kind]


KINDS = ["normal", "ties", "zeros", "denormal", "any size"]
KINDS += ["largest", "infinite", "equal", "bfloat16"]


def pieces(scores):
    """As weights of several shapes, one of them empty and one a scalar."""
    shapes = [(7, 11), (0,), (), (500,), (3, 5, 7), (1000, 2)]
    sizes = [torch.Size(shape).numel() for shape in shapes]
    parts = scores.split([*sizes, len(scores) - sum(sizes)])
    return [part.reshape(shape) for part, shape in zip(parts, [*shapes, (-1,)], strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 150, 1500, 2850, 2999, 3000])
def test_threshold_is_the_count_th_largest_score(kind, count):
    scores = random_scores(kind)
    expected = float(scores.float().topk(count).values[-1])
    assert threshold(lambda: pieces(scores), count) == expected


def test_negative_zero_is_zero():
    assert threshold(lambda: [torch.tensor([-0.0, 1.0])], 2) == 0


@pytest.mark.parametrize("count", [0, 4])
def test_more_scores_than_there_are_is_an_error(count):
    with pytest.raises(ValueError, match="among 3"):
        threshold(lambda: [torch.ones(3)], count)


@pytest.mark.parametrize("made", [torch.tensor(torch.nan), torch.zeros(()) / 0])
def test_nan_is_refused(made):
    with pytest.raises(WorkError, match="NaN") as raised:
        threshold(lambda: [torch.ones(3), made], 1)
    assert raised.value.reason == "diverged"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.95, 1.0])
def test_a_mask_does_not_depend_on_the_sharding(kind, keep):
    scores = random_scores(kind)
    mask = MASKS["salun"](keep=keep)
    count = mask.count(len(scores))
    whole = mask.movable(scores, threshold(lambda: [scores], count))
    parts = [part.flatten().tensor_split(2) for part in pieces(scores)]
    barrier, histograms = Barrier(2), {}

    def work(rank):
        shards = [part[rank] for part in parts]

        def add(histogram):
            histograms[rank] = histogram
            barrier.wait(10)
            total = histograms[0] + histograms[1]
            barrier.wait(10)
            return total

        bound = threshold(lambda: shards, count, add)
        return [mask.movable(shard, bound) for shard in shards]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, range(2)))
    joined = [half for halves in zip(*found, strict=True) for half in halves]
    assert torch.equal(torch.cat(joined), whole)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_that_reach_the_bound_move_but_never_scores_of_zero(name, kind):
    scores = random_scores(kind)
    mask = MASKS[name](keep=0.5)
    movable = mask.movable(scores, threshold(lambda: [scores], mask.count(len(scores))))
    ranked = scores.sort(descending=True).values
    assert torch.equal(movable, (scores >= ranked[1499]) & (scores > 0))


@pytest.mark.parametrize("name", NAMES)
def test_keeping_all_masks_nothing_not_even_zeros(name):
    mask = MASKS[name](keep=1.0)
    scores = torch.tensor([0.0, 0.0, 1.0])
    assert mask.count(3) == 3
    assert mask.movable(scores, threshold(lambda: [scores], 3)).all()


def test_at_least_one_weight_may_move():
    assert MASKS["salun"](keep=1e-9).count(10) == 1
