"""Whether a study can do the attacks it asks for, before it is planned."""

from collections.abc import Iterator

from raymcu.errors import shown, unknown_name
from raymcu.planning.facts import Surroundings
from raymcu.study.attacks import GROUPS
from raymcu.study.search_space import SearchSpace
from raymcu.study.settings import UnlearnerKey


def attack_faults(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    """Say which attacks do not suit the models, or are to be done to points that are not there."""
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
        for name in use.on:
            if name in GROUPS:
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
