"""Whether a study can have the sets, walks and blends it asks for, before it is planned."""

from collections.abc import Iterator

from raymcu.errors import folded, shown, unknown_name
from raymcu.planning.attack_checks import attack_faults, learner_faults
from raymcu.planning.facts import Surroundings
from raymcu.study.search_space import SearchSpace
from raymcu.study.settings import MEMORIZER, SETTINGS, UnlearnerKey
from raymcu.study.walks import BEND


def plan_faults(space: SearchSpace, around: Surroundings) -> list[str]:
    """Say what the benchmark, as configured, lacks, and which models the study cannot have."""
    return [
        *_missing_sets(space, around),
        *_method_faults(space, around),
        *_class_faults(space, around),
        *_model_faults(space, around),
        *_walk_faults(space, around),
        *_blend_faults(space, around),
        *attack_faults(space, around),
        *learner_faults(space, around),
        *_reading_faults(space, around),
        *_surface_faults(space, around),
    ]


def _missing_sets(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    sets, kept = around.sets, around.retain_sets
    sizes = [name for name in kept if name in sets and kept[name] in sets]
    for size in space.benchmark.forget_sizes:
        if size in around.ruled_out:
            yield f"benchmark.forget_sizes: '{size}': {around.ruled_out[size]}"
        elif size not in sizes:
            options = "".join(f", {k} = {shown(v)}" for k, v in space.benchmark.options.items())
            yield (
                f"benchmark.forget_sizes: '{size}' is empty in this benchmark (name = "
                f"'{space.benchmark.name}'{options}). It has: {', '.join(folded(sizes))}. "
                "Choose among them, or make the benchmark larger."
            )
    for name in space.original.extra_sets:
        if name not in sets:
            yield f"original.extra_sets: {unknown_name('set', name, list(sets))}"


def _method_faults(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    for index, method in enumerate(space.methods):
        facts = around.methods[method.title, False]
        if facts.unfit:
            yield (
                f"methods.{index}: '{method.name}' does not suit benchmark "
                f"'{space.benchmark.name}': {facts.unfit}."
            )


def _class_faults(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    """Refuse what reads answers in words, or the inside of a decoder, where there are classes."""
    if not around.is_classifier:
        return
    asked = space.measurement
    for key, reads in (
        ("generate", "writes answers"),
        ("paraphrased", "asks paraphrased questions"),
        ("moments", "reads every token of an answer"),
        ("gradient_norms", "is of answers"),
        ("representations", "compares the layers of decoders"),
    ):
        if getattr(asked, key):
            yield (
                f"measurement.{key}: {reads}, and benchmark '{space.benchmark.name}' has inputs "
                "with a class each. Leave it out."
            )
    for index, use in enumerate(space.walks):
        if use.name in {"layers", "layer_groups"}:
            yield (
                f"walks.{index}: '{use.name}' replaces layers of a decoder, and benchmark "
                f"'{space.benchmark.name}' has classifiers. Use mixing or extrapolation."
            )


def _model_faults(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    """Check that ready models differ, and that nothing starts from an original that is left out."""
    first: dict[str, str] = {}
    for index, use in enumerate(space.models):
        other = first.setdefault(around.model_fingerprints[use.path], use.label)
        if other != use.label:
            yield (
                f"models.{index}: '{use.label}' has the weights of '{other}', and would be the "
                "same model. Leave one of them out."
            )
    if space.original.train or space.original.path is not None:
        return
    rows = [row for use in space.blends for row in (use.terms, *use.layers.values())]
    starts = [name for name in ("methods", "walks", "search") if getattr(space, name)]
    starts += ["blends"] * any("original" in row for row in rows)
    starts += ["surfaces"] * bool(space.surfaces) + [
        "measurement.geometry"
    ] * space.measurement.geometry
    if starts:
        yield (
            f"original.train: is false, but {', '.join(starts)} in this file start from the "
            "original. Give original.path, or leave them out."
        )


def _walk_faults(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    methods = [method.title for method in space.methods]
    titles = [*methods, *(use.label for use in space.models)]
    learners = [title for title in methods if around.methods[title, False].step]
    for index, use in enumerate(space.walks):
        walk, where = around.walks[use.title], f"walks.{index}"
        unknown = [name for name in use.methods or () if name not in titles]
        for name in unknown:
            yield f"{where}.methods: {unknown_name('method or model of this file', name, titles)}"
        if walk.trained == "memorizer":
            trains_none = sorted(set(use.methods or ()) - set(learners) - set(unknown))
            if trains_none or not learners:
                which = ", ".join(trains_none) or "none of the methods"
                yield (
                    f"{where}: '{use.name}' steps away from a memorizer, and {which} trains "
                    f"{'none' if trains_none else 'one'}. Add a method that does: mox or "
                    "task_vector."
                )
        needs_layers = use.name in {"layers", "layer_groups"} and not around.is_classifier
        if needs_layers and not around.layers:
            yield (
                f"{where}: '{use.name}' needs the names of the model's layers, and model.path = "
                f"{shown(space.model.path)} is no folder here. Set model.num_layers or give one."
            )
    known = [walk.title for walk in space.walks] + [f.title for f in space.curves.families]
    for name in space.calibration.curves if space.calibration else ():
        if name not in known:
            yield f"calibration.curves: {unknown_name('walk or curve of this file', name, known)}"
    if space.layer_choice and "layers" not in {walk.name for walk in space.walks}:
        yield (
            "layer_choice: chooses among layers put in one at a time, and no walk does that. "
            'Add [[walks]] with name = "layers", or leave layer_choice out.'
        )


def _label_fault(label: str, space: SearchSpace, around: Surroundings) -> str | None:
    """Say that no checkpoint of the study can have a label, if that is so."""
    titles = [method.title for method in space.methods]
    ready = ["original", "retrained", *(use.label for use in space.models)]
    key = UnlearnerKey.read(label.removesuffix(MEMORIZER))
    title = key.method if key else ""
    is_learner = title in titles and around.methods[title, False].step
    if label in ready or (title in titles and (is_learner or not label.endswith(MEMORIZER))):
        return None
    known = [*ready, *(f"{title}/seed0" for title in titles)]
    known += [f"{t}/seed0{MEMORIZER}" for t in titles if around.methods[t, False].step]
    return unknown_name("checkpoint", label, known)


def _surface_faults(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    grid, titles = space.unlearning, [method.title for method in space.methods]
    pairs = [
        {key.label for key in pair}
        for setting in grid.settings
        for pair in SETTINGS[setting].pairs(titles, grid.seeds)
    ]
    for index, use in enumerate(space.surfaces):
        where = f"surfaces.{index}"
        others = set(use.corners) - {BEND}
        for label in use.corners:
            if label != BEND and (fault := _label_fault(label, space, around)):
                yield f"{where}.corners: {fault}"
        if BEND in use.corners and others not in pairs:
            yield (
                f"{where}.corners: 'bend' is that of the curve between "
                f"{' and '.join(sorted(others))}, and no setting of unlearning.settings pairs "
                "these. Name two that are paired."
            )
        elif BEND in use.corners and all(f.num_bends != 1 for f in around.families.values()):
            yield (
                f"{where}.corners: 'bend' is that of a curve with one bend, and curves.families "
                "has none. Add quadratic."
            )
        yield from _size_faults(where, use.forget_sizes, space)


def _size_faults(where: str, sizes: tuple[str, ...] | None, space: SearchSpace) -> Iterator[str]:
    known = list(space.benchmark.forget_sizes)
    for size in sizes or ():
        if size not in known:
            told = unknown_name("forget set of this file", size, known)
            yield f"{where}.forget_sizes: {told}"


def _blend_faults(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    for index, use in enumerate(space.blends):
        rows = {"terms": use.terms, **{f"layers.{k}": row for k, row in use.layers.items()}}
        for part, row in rows.items():
            if abs(sum(row.values()) - 1) > 1e-9:
                yield (
                    f"blends.{index}.{part}: coefficients must sum to 1, got "
                    f"{sum(row.values()):g}. Give the rest to a checkpoint, e.g. original."
                )
            for label in row:
                if fault := _label_fault(label, space, around):
                    yield f"blends.{index}.{part}: {fault}"
        yield from _size_faults(f"blends.{index}", use.forget_sizes, space)


def _reading_faults(space: SearchSpace, around: Surroundings) -> Iterator[str]:
    """Refuse attacks that tell true from wrong answers where a probe has no wrong ones."""
    for index, use in enumerate(space.attacks):
        for probe in getattr(around.attacks[use.title], "wrong_of", ()):
            names = space.benchmark.forget_sizes if probe == "forget" else (probe,)
            found = [around.sets.get(f"{n}_perturbed") or around.sets.get(n) for n in names]
            if not all(one and one.num_answers > one.num_examples for one in found):
                yield (
                    f"attacks.{index}: '{use.name}' tells true from wrong answers, and probe "
                    f"'{probe}' of benchmark '{space.benchmark.name}' has no wrong ones. Take a "
                    "benchmark that has them (authors, tofu, wmdp), or leave the attack out."
                )
