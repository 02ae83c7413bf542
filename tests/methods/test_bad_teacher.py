"""Bad teaching against divergences worked out by hand; reference sheet, B."""

import math

import pytest
import torch

from raymcu.methods._base import FORGET, METHODS, RETAIN
from raymcu.methods._logits import Logits

TEACHER = (0.5, 0.25, 0.25)
STUDENT = (0.2, 0.3, 0.5)


def teach(step, **options):
    return METHODS["bad_teacher"](**options).loss(step)


@pytest.fixture
def step(batches):
    """One forget and two retain inputs of three classes; teachers are known only as asked for."""

    def of(forget=(TEACHER,), retain=(STUDENT, TEACHER)):
        known = batches.table()

        def logits_of(said):
            return Logits.of(torch.tensor(said, dtype=torch.float64).log())

        def inputs(said, random=None):
            return batches.replace(
                known,
                current=Logits.of(torch.tensor(said, dtype=torch.float64).log().requires_grad_()),
                labels=torch.zeros(len(said), dtype=torch.long),
                sequence=torch.arange(len(said)),
                num_sequences=len(said),
                total_positions=len(said),
                total_sequences=len(said),
                reference=None,
                random=None if random is None else logits_of(random),
            )

        made = {FORGET: inputs([STUDENT], random=forget)}
        made[RETAIN] = batches.replace(
            inputs([STUDENT, STUDENT]),
            reference=logits_of(retain),
        )
        return made

    return of


def kl(teacher, student):
    return sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))


def softened(p, temperature):
    powers = [x ** (1 / temperature) for x in p]
    return [x / sum(powers) for x in powers]


def test_known_values(step):
    """0.5 ln 2.5 + 0.25 ln (5/6) + 0.25 ln 0.5 of the forget input; half as much of two others."""
    found = teach(step())
    known = 0.2392781816
    assert kl(TEACHER, STUDENT) == pytest.approx(known, abs=5e-11)
    assert found.forget.item() == pytest.approx(known, abs=5e-11)
    assert found.retain.item() == pytest.approx(known / 2, abs=5e-11)
    assert found.total.item() == pytest.approx(1.5 * known, abs=1e-10)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 4.0])
def test_the_temperature_softens_teachers_and_student(step, temperature):
    expected = kl(softened(TEACHER, temperature), softened(STUDENT, temperature))
    found = teach(step(), temperature=temperature)
    assert found.forget.item() == pytest.approx(expected, rel=1e-12)
    assert found.retain.item() == pytest.approx(expected / 2, rel=1e-12)


def test_the_published_reduction_is_torch_s_own(step):
    """The authors' code: `F.kl_div(log_softmax(student / T), teachers)`, by the default mean."""
    mixed = step()
    student = torch.cat([mixed[FORGET].logits, mixed[RETAIN].logits])
    teachers = torch.cat([mixed[FORGET].random_logits, mixed[RETAIN].reference_logits])
    published = torch.nn.functional.kl_div(
        student.log_softmax(-1), teachers.softmax(-1), reduction="none"
    ).mean()
    weights = {"forget_weight": 1 / 3, "retain_weight": 2 / 3}  # as many of each as in the batch
    found = teach(mixed, reduction="elements", **weights)
    assert found.total.item() == pytest.approx(published.item(), rel=1e-12)
    inputs = teach(mixed, **weights)
    assert inputs.total.item() == pytest.approx(3 * published.item(), rel=1e-12)


def test_it_is_descended_towards_the_untrained_model(step, gradient_of):
    """The gradient is student less teacher: MCU's text has the sign of the forget term wrong."""
    mixed = step()
    own = gradient_of(teach(mixed, retain="none").total, mixed[FORGET])
    assert torch.allclose(own, torch.tensor([STUDENT]) - torch.tensor([TEACHER]).double())


def test_who_agrees_with_both_teachers_stays(step, gradient_of):
    mixed = step(forget=[STUDENT], retain=[STUDENT, STUDENT])
    found = teach(mixed)
    assert found.total.item() == pytest.approx(0, abs=1e-15)
    for part in (FORGET, RETAIN):
        own = gradient_of(found.total, mixed[part])
        assert torch.allclose(own, torch.zeros_like(own), atol=1e-15)
