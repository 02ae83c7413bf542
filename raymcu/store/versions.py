"""The versions that a run's numbers depend on; read from metadata, so nothing is imported."""

import importlib.metadata
import platform

_PACKAGES = (
    "raymcu",
    "ray",
    "optuna",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
    "datasets",
    "numpy",
    "scipy",
    "nltk",
    "pyarrow",
)


def installed() -> dict[str, str]:
    """Return versions by name, Python's first."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}
