"""A training that is asked to stop saves, and goes on bit for bit."""

import os
import signal
import threading

import pytest

from raymcu.store.run_folder import RunFolder
from raymcu.training import stopping
from raymcu.training.stopping import Interrupt, Stop, StoppedError
from raymcu.training.workshop import Workshop


def test_a_stopped_training_goes_on_to_the_same_bits(study, recipes, lab, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_LOOK_S", 0.0)
    run = RunFolder(str(tmp_path / "run"))
    recipe = recipes.unlearner(study.original, "npo", options={"retain": "kl"})
    stores = {}
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
        stores[name] = study.copy(tmp_path / name)
    Workshop(stores["whole"], 1e9).make(recipe, lambda *_: None)

    def ask_at_two(step, steps, loss):
        assert step <= 2, "it went on"
        if step == 2:
            Stop(run).ask()

    with pytest.raises(StoppedError, match="stopped at step 2"):
        Workshop(stores["stopped"], 1e9, stop=Stop(run)).make(recipe, ask_at_two)
    assert run.names("stop") == sorted(["asked", recipe.id])
    assert not stores["stopped"].is_done(recipe.id)
    Stop(run).forget()
    steps = []
    workshop = Workshop(stores["stopped"], 1e9, stop=Stop(run))
    workshop.make(recipe, lambda step, *_: steps.append(step))
    assert steps[0] == 3
    assert lab.same_bits(*(lab.weights(store, recipe) for store in stores.values()))


def test_the_driver_hears_of_answers(tmp_path):
    stop = Stop(RunFolder(str(tmp_path)))
    assert not Stop(stop.run).is_asked()
    stop.ask()
    assert stop.is_asked()
    assert not stop.is_asked(), "it looks once a second"
    assert stop.saved() == 0
    stop.answer("one")
    assert stop.saved() == 1
    stop.forget()
    assert not Stop(stop.run).is_asked()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_asks_and_the_second_one_is_what_it_was(tmp_path, number):
    run, before = RunFolder(str(tmp_path)), signal.getsignal(number)
    Stop(run).ask()
    interrupt, seen = Interrupt(run), []
    assert not interrupt.is_over(1), "what was asked of the run before is forgotten"
    signal.signal(number, lambda *_: seen.append("second"))
    try:
        with interrupt.awaited():
            os.kill(os.getpid(), number)
            assert interrupt.came is not None
            assert Stop(run).is_asked()
            assert not interrupt.is_over(2)
            os.kill(os.getpid(), number)
        assert seen == ["second"]
    finally:
        signal.signal(number, before)
    interrupt.stop.answer("one")
    assert interrupt.is_over(1)
    assert not interrupt.is_over(2)
    interrupt.came -= stopping._PATIENCE_S + 1
    assert interrupt.is_over(2), "what has not begun gives no answer"


def test_signals_are_left_alone_in_another_thread(tmp_path):
    def wait():
        with Interrupt(RunFolder(str(tmp_path))).awaited():
            handlers.append(signal.getsignal(signal.SIGINT))

    handlers = []
    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
