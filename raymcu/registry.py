"""Registries: one new file in a package adds a method, metric, curve or benchmark.

A registry imports the modules of its package (not those that start with ``_``) the first time it
is read, so a component file is found because it is there. Its decorator carries its metadata.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from raymcu.errors import ConfigError, unknown_name

T = TypeVar("T")


class Component(BaseModel):
    """Base of components with parameters: frozen, unknown keys refused, docstrings as help."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered component and where it came from."""

    name: str
    component: T
    source: str
    """Paper, section or equation the component implements."""

    @property
    def summary(self) -> str:
        """First line of the component's docstring."""
        return (getattr(self.component, "__doc__", None) or "").strip().split("\n")[0]


class Registry(Generic[T]):
    """Names to components of one kind.

    Args:
        kind: What a component is called in messages, e.g. ``unlearning method``.
        package: The package whose modules register the components.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Entry[T]] = {}
        self._is_loaded = False

    def register(self, name: str, *, source: str) -> Callable[[T], T]:
        """Return a decorator that files a component under ``name``.

        Raises:
            ValueError: If the name is taken, with both origins.
        """

        def add(component: T) -> T:
            taken = self._entries.get(name)
            if taken is not None and _origin(taken.component) != _origin(component):
                raise ValueError(
                    f"two components are named {self.kind} '{name}': "
                    f"{_origin(taken.component)} and {_origin(component)}."
                )
            self._entries[name] = Entry(name, component, source)
            return component

        return add

    def entry(self, name: str) -> Entry[T]:
        """Return the entry of that name.

        Raises:
            ConfigError: If there is none; names the nearest.
        """
        self._load()
        if name not in self._entries:
            raise ConfigError(unknown_name(self.kind, name, list(self._entries)))
        return self._entries[name]

    def __getitem__(self, name: str) -> T:
        return self.entry(name).component

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        self._load()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        """Travel to a Ray worker by name: by value it would arrive empty."""
        return _own, (self.package, self.kind)

    def _load(self) -> None:
        if self._is_loaded:
            return
        self._is_loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")


def _origin(component: Any) -> str:
    return f"{component.__module__}.{component.__qualname__}"


def _own(package: str, kind: str) -> Any:
    module = importlib.import_module(f"{package}._base")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, Registry) and value.kind == kind
    )
