"""What a study was asked, in a few lines of words: benchmark, model, methods, seeds, sizes."""

from collections.abc import Iterable, Mapping
from typing import Any

from raymcu.report.data import Study, unique

Asked = tuple[tuple[str, str], ...]
"""What, and the words for it."""


def asked(study: Study) -> Asked:
    """Return what the search space asks; keys that an older one has not are left out."""
    space = study.plan.get("search_space") or {}
    rows = [
        ("question", space.get("description") or ""),
        ("benchmark", _benchmark(space)),
        ("classes", ", ".join(study.classes)),
        ("model", _model(study, space.get("model") or {})),
        ("to forget", _sizes(study)),
        ("methods", "; ".join(_use(row) for row in space.get("methods") or ())),
        ("seeds", _seeds(space.get("unlearning") or {})),
        ("training", _training(space)),
        ("curves", _curves(study, space)),
        ("walks", ", ".join(unique(walk.family for walk in study.walks))),
        ("probes", ", ".join((space.get("measurement") or {}).get("probes") or ())),
    ]
    return tuple((what, words) for what, words in rows if words)


def _benchmark(space: Mapping[str, Any]) -> str:
    return _use(space.get("benchmark") or {}, without=("forget_sizes",))


def _use(row: Mapping[str, Any], without: Iterable[str] = ()) -> str:
    """Name a component with the options that were given: ``npo (beta=0.2)``."""
    hidden = {"name", "label", *without}
    name = str(row.get("label") or row.get("name") or "")
    if row.get("label") and row.get("name") not in (None, row["label"]):
        name += f" = {row['name']}"
    given = [
        f"{key}={_value(value)}"
        for key, value in row.items()
        if key not in hidden and value not in (None, {}, [], "")
    ]
    return f"{name} ({', '.join(given)})" if given else name


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inside = [f"{key}={_value(v)}" for key, v in value.items() if v not in (None, {}, [])]
        return "{" + ", ".join(inside) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _model(study: Study, model: Mapping[str, Any]) -> str:
    scratch = model.get("scratch")
    if model.get("path"):
        name = str(model["path"])
    elif scratch:
        name = f"made from scratch: {_classifier(scratch) if study.classes else _llama(scratch)}"
    else:
        return ""
    return ", ".join(filter(None, [name, model.get("dtype")]))


def _llama(scratch: Mapping[str, Any]) -> str:
    layers = scratch.get("num_layers")
    return (
        f"{layers} layer{'' if layers == 1 else 's'}, hidden size {scratch.get('hidden_size')}, "
        f"vocabulary of {scratch.get('vocab_size')}"
    )


def _classifier(scratch: Mapping[str, Any]) -> str:
    return _use({"name": scratch.get("architecture"), **scratch}, without=("architecture",))


def _sizes(study: Study) -> str:
    """Name the forget sets with the number of their questions or inputs, as far as scored."""
    told, meanings = [], study.plan.get("forget_sets") or {}
    for size in study.forget_sizes:
        found = [
            count
            for end in study.endpoints
            if end.forget_size == size
            for metric, count in study.counts.get(end.point_id, {}).items()
            if metric.startswith(("forget_loss", "forget_accuracy", "verbmem"))
        ]
        asked = "inputs" if study.classes else "questions"
        words = [f"{max(found)} {asked}"] if found else []
        words += [meanings[size]] if size in meanings else []
        told.append(f"{size} ({'; '.join(words)})" if words else size)
    return ", ".join(told)


def _seeds(unlearning: Mapping[str, Any]) -> str:
    return ", ".join(map(str, unlearning.get("seeds") or ()))


def _training(space: Mapping[str, Any]) -> str:
    """Say how the original and the unlearners are trained."""
    told = []
    for key, name in (("original", "original"), ("unlearning", "unlearners")):
        training = (space.get(key) or {}).get("training") or {}
        optimizer = (training.get("optimizer") or {}).get("name")
        words = [
            f"{training[k]:g} {v}"
            for k, v in (("epochs", "epochs"),)
            if training.get(k) is not None
        ]
        words += (
            [f"learning rate {training['learning_rate']:g}"]
            if training.get("learning_rate")
            else []
        )
        words += [f"batches of {training['batch_size']}"] if training.get("batch_size") else []
        words += [str(optimizer)] if optimizer else []
        if words:
            told.append(f"{name}: {', '.join(words)}")
    return "; ".join(told)


def _curves(study: Study, space: Mapping[str, Any]) -> str:
    if not study.curves:
        return ""
    counts = {len(curve.points) for curve in study.curves}  # which differ of adaptive ones
    points = " to ".join(map(str, sorted({min(counts), max(counts)})))
    tolerance = (space.get("analysis") or {}).get("tolerance")
    text = f"{', '.join(study.families)} between pairs of {', '.join(study.settings)}"
    text += f"; {points} points each"
    unit = "nats per input" if study.classes else "nats"
    return text + (f"; tolerance {tolerance:g} {unit}" if tolerance is not None else "")
