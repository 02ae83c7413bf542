"""Heads of classes: whether a model's is of the benchmark's classes, and what gets a fresh one."""

import re
from collections.abc import Sequence
from typing import Any

BASES = ("Model", "ForMaskedLM", "ForPreTraining", "ForCausalLM", "LMHeadModel")
"""How the architectures end whose weights are an encoder's, with a head for no task of classes."""


def labelled(class_names: Sequence[str]) -> dict[str, Any]:
    """Return what a config says of the classes."""
    names = dict(enumerate(class_names))
    return {"id2label": names, "label2id": {name: label for label, name in names.items()}}


def has_head(config: Any, ending: str) -> bool:
    """Say whether a config is of a model whose architecture has such an ending."""
    return any(name.endswith(ending) for name in config.architectures or ())


def is_of_head(name: str, model: Any) -> bool:
    """Say whether a weight is no encoder's: of the head, or of the pooling in front of it."""
    return not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name


def not_a_base(config: Any, auto: Any) -> str | None:
    """Say why a model without a head of classes can have none, in words that follow its name."""
    named = list(config.architectures or ())
    known = ", ".join(named) or "model without architecture"
    mapping = getattr(auto, "_model_mapping", None)
    fits = isinstance(config, auto.config_class) if mapping is None else type(config) in mapping
    if not fits or config.is_encoder_decoder or not any(n.endswith(BASES) for n in named):
        return f"is a {known}, which has no head of classes"
    return None


def labels_differ(config: Any, class_names: Sequence[str]) -> str | None:
    """Say how a model's classes differ from the benchmark's; LABEL_0 and so on are no names."""
    if config.num_labels != len(class_names):
        return (
            f"has {config.num_labels} classes, the benchmark {len(class_names)}. Give a model of "
            "these classes."
        )
    for label, name in enumerate(class_names):
        known = str(config.id2label[label])
        if _plain(known) not in {_plain(name), f"label {label}"}:
            return (
                f"calls its class {label} {known!r}, the benchmark {name!r}. The order must be the "
                "same; correct id2label in its config.json if only names differ."
            )
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()
