"""Training against cached answers of the start model, and against the start model in the loop."""

import copy

import pytest
import torch

from raymcu.methods._base import METHODS
from raymcu.models.encoding import collate
from raymcu.models.scorer import Scorer
from raymcu.training.reference import Reference


class InTheLoop(Reference):
    """Keeps a second model, and asks it at every step."""

    def __init__(self, model, known):
        super().__init__(means=known.means)
        self.scorer = Scorer(copy.deepcopy(model)).eval().requires_grad_(False)
        self.head = self.scorer.head

    def _inputs(self, part, rows):
        how = {"every_position": part.every_position, "read": part.read}
        batch = collate(list(rows), 0, torch.device("cpu"), **how)
        return (batch.inputs, batch.row, batch.column), batch.mask, batch.labels

    def nll(self, part, rows, device):
        inputs, _, labels = self._inputs(part, rows)
        return torch.nn.functional.cross_entropy(self.scorer(*inputs), labels, reduction="none")

    def hidden(self, part, rows, device):
        inputs, mask, _ = self._inputs(part, rows)
        return self.scorer.hidden(*inputs, mask)

    def states(self, part, needs, rows, device):
        inputs, mask, _ = self._inputs(part, rows)
        return self.scorer.states(*inputs, needs.layer, mask, needs.final_norm)


METHODS_IN_TURN = {
    "npo": METHODS["npo"](),
    "npo and kl": METHODS["npo"](retain="kl"),
    "kl of prompts": METHODS["grad_diff"](retain="kl", kl_mask="all"),
    "kl of padding": METHODS["grad_diff"](retain="kl", kl_mask="padded"),
    "kl reversed": METHODS["grad_diff"](retain="kl", kl_direction="current_to_reference"),
    "rmu": METHODS["rmu"](layer=1),
    "rmu of openunlearning": METHODS["rmu"](variant="ou", layer=1),
    "rmu behind the norm": METHODS["rmu"](layer=1, final_norm=True),
    "rmu and kl": METHODS["rmu"](variant="geffect", layer=0),
    "undial": METHODS["undial"](),
    "dpo": METHODS["dpo"](),
    "pdu": METHODS["pdu"](warmup_epochs=0),
}


@pytest.mark.parametrize("kind", METHODS_IN_TURN)
def test_cached_answers_train_as_a_second_model_does(make, kind):
    histories, weights = [], []
    for is_cached in (True, False):
        loop = make(METHODS_IN_TURN[kind], double=True, epochs=1.3)
        if not is_cached:
            loop.reader.reference = InTheLoop(loop.scorer.model, loop.reader.reference)
        for _ in loop.run():
            pass
        histories.append(loop.progress.history)
        weights.append({name: w.detach().clone() for name, w in loop.weights.items()})
    for cached, asked in zip(*histories, strict=True):
        assert cached["loss"] == pytest.approx(asked["loss"], rel=1e-5, abs=1e-6)
        assert cached["gradient_norm"] == pytest.approx(asked["gradient_norm"], rel=1e-4)
    assert all((weights[0][n] - weights[1][n]).abs().max() < 1e-5 for n in weights[0])
