"""Whether a study can do the attacks it asks for, before it is planned."""

from collections.abc import Iterator

from raymcu.errors import shown, unknown_name
from raymcu.planning.facts import Surroundings
from raymcu.study.attacks import GROUPS
from raymcu.study.search_space import SearchSpace
from raymcu.study.settings import UnlearnerKey

_WHERE: dict[str, tuple[str, str]] = {
    "ensembles": ("curves.ensemble", "is not set, so there is none"),
    "walks": ("walks", "has none"),
    "blends": ("blends", "has none"),
    "models": ("models", "has none"),
    "learners": ("learners", "has none"),
}
"""By group of points: the key that makes some, and what to say where it does not."""


def attack_faults(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    """Say which attacks do not suit the models, or are to be done to points that are not there."""
    has_pairs = bool(space.unlearning.settings)
    titles = [method.title for method in space.methods]
    labels = [
        *(use.label for use in space.models),
        *(use.label for use in space.blends),
        *(f"{use.label}/seed{seed}" for use in space.learners for seed in use.seeds),
        *(f"{title}/seed{seed}" for title in titles for seed in space.unlearning.seeds),
    ]
    for index, use in enumerate(space.attacks):
        where, attack = f"attacks.{index}", around.attacks[use.title]
        if around.modality not in attack.modalities:
            yield (
                f"{where}: '{use.name}' does not suit benchmark '{space.benchmark.name}', whose "
                f"models are of kind '{around.modality}'; it suits {', '.join(attack.modalities)}. "
                "Leave it out."
            )
        if attack.way == "asking" and attack.beside == "retrained" and not space.retrained.train:
            yield f"{where}: asks the retrained model besides, and retrained.train is false."
        for name in use.on:
            if name in GROUPS:
                if name in ("unlearners", "curves") and not (has_pairs or space.walks):
                    yield (
                        f"{where}.on: names {name}, and unlearning.settings = [] makes none. "
                        "Name settings there, or other points here."
                    )
                elif name in _WHERE and not _is_there(space, name):
                    key, why = _WHERE[name]
                    yield f"{where}.on: names {name}, and {key} {why}. Add some, or leave it out."
                continue
            unlearner = UnlearnerKey.read(name)
            is_unlearner = unlearner is not None and unlearner.method in titles
            if name not in labels and not is_unlearner:
                known = [*GROUPS, *labels]
                yield f"{where}.on: {unknown_name('group or label of points', name, known)}"
        if use.title in titles:
            yield (
                f"{where}.label: {shown(use.title)} is the name of a method here. Give the attack "
                "another label."
            )


def learner_faults(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    """Say which further learners cannot learn what they should, or are called as another model."""
    taken = [*(m.title for m in space.methods), *(m.label for m in space.models)]
    taken += ["original", "retrained"]
    for index, use in enumerate(space.learners):
        if use.knows in ("paraphrased", "perturbed") and around.is_classifier:
            yield (
                f"learners.{index}.knows: is '{use.knows}', and benchmark '{space.benchmark.name}' "
                "has classes, not answers in words. Use answers or nothing."
            )
        if use.label in taken:
            yield (
                f"learners.{index}.label: '{use.label}' is called another model here. Give it "
                "another label."
            )


def _is_there(space: SearchSpace, group: str) -> bool:
    if group == "ensembles":
        return space.curves.ensemble is not None and bool(space.unlearning.settings)
    return bool(getattr(space, group))
