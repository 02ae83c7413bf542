"""The same bits on a GPU: what is refused for them, and what comes of a training that needs it."""

from contextlib import contextmanager

import pytest
import torch

from raymcu.errors import WorkError
from raymcu.training import workshop
from raymcu.training.determinism import is_refusal, strictly
from raymcu.training.workshop import Workshop

REFUSED = (
    "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
    "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this "
    "operation, or you can use the 'warn_only=True' option."
)


@pytest.fixture
def lenient():
    """As `repeat_bits` leaves it on a GPU."""
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled


@pytest.mark.usefixtures("lenient")
def test_a_training_on_a_gpu_is_strict_where_all_else_only_warns():
    """Attention's own kernels look whether it is only a warning."""

    def look():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )

    with strictly(torch.device("cuda"), is_asked=True):
        assert look() == (True, False)
    assert look() == (True, True)
    with pytest.raises(ZeroDivisionError), strictly(torch.device("cuda"), is_asked=True):
        raise ZeroDivisionError
    assert look() == (True, True)
    for device, is_asked in (("cuda", False), ("cpu", True)):
        with strictly(torch.device(device), is_asked=is_asked):
            assert look() == (True, True)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("method", ["npo", "catnip", "undial", "rmu"])
def test_nothing_that_trainings_do_is_refused_on_a_cpu(monkeypatch, store, study, recipes, method):
    """Of the operations that torch knows to differ on any device."""
    real = strictly
    monkeypatch.setattr(
        workshop, "strictly", lambda device, is_asked: real(torch.device("cuda"), is_asked)
    )
    options = {"layer": 1} if method == "rmu" else {}
    recipe = recipes.unlearner(study.original, method, options=options)
    Workshop(store, 1e9).make(recipe, lambda *_: None)
    assert store.is_done(recipe.id)


@pytest.fixture
def refusing(monkeypatch):
    """A torch that refuses in every second step."""

    @contextmanager
    def strict(device, is_asked):
        step = workshop.Loop.run

        def run(loop):
            for progress in step(loop):
                yield progress
                if is_asked:
                    raise RuntimeError(REFUSED)

        with monkeypatch.context() as patched:
            patched.setattr(workshop.Loop, "run", run)
            yield

    monkeypatch.setattr(workshop, "strictly", strict)


@pytest.mark.usefixtures("refusing")
def test_what_has_no_such_kernel_is_told_and_trained_all_the_same(store, study, recipes, lab):
    shop = Workshop(store, 1e9)
    first, second = (recipes.unlearner(study.original, "npo", seed=seed) for seed in (3, 4))
    with pytest.warns(UserWarning, match="npo|unlearner") as told:
        shop.make(first, lambda *_: None)
    (warning,) = told
    assert "adaptive_avg_pool2d_backward_cuda does not have a deterministic" in str(warning.message)
    assert "execution.deterministic = false" in str(warning.message)
    shop.make(second, lambda *_: None)  # without another try
    made = lab.weights(store, second)
    store.folder.remove(second.id)
    Workshop(store, 1e9, deterministic=False).make(second, lambda *_: None)
    assert lab.same_bits(made, lab.weights(store, second))


@pytest.mark.usefixtures("refusing")
def test_workers_that_share_a_training_end_it(store, study, recipes):
    """Some may have gone on to wait for the one that was refused."""
    recipe = recipes.unlearner(study.original, "npo", seed=3)
    shop = Workshop(store, 1e9)
    shop.shard = shop.models
    with pytest.raises(WorkError, match=r"Set execution.deterministic = false") as caught:
        shop.make(recipe, lambda *_: None)
    assert caught.value.reason == "not_deterministic"
    assert not store.is_done(recipe.id)


def test_refusals_are_known_by_their_words():
    assert is_refusal(RuntimeError(REFUSED))
    assert not is_refusal(RuntimeError("shape mismatch"))
    assert not is_refusal(ValueError(REFUSED))
