"""Registries: one new file in a package adds a method, metric, curve or benchmark.

A registry imports the modules of its package (not those that start with ``_``) the first time it
is read, so a component file is found because it is there. Its decorator carries its metadata.
"""

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from raymcu.errors import ConfigError, unknown_name

T = TypeVar("T")

_LOADING = threading.RLock()
"""Held while any registry loads: one lock for all, as a component may read another's registry."""


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
    summary: str
    """First line of its docstring."""
    origin: str
    """Module and name of what was registered."""


class Registry(Generic[T]):
    """Names to components of one kind.

    Args:
        kind: What a component is called in messages, e.g. ``unlearning method``.
        package: The package whose modules register the components.
        base: Class in the package's ``_base`` that a component is, or inherits from; None asks for
            nothing.
        fields: What a component has to have besides what its base leaves open.
    """

    def __init__(
        self, kind: str, package: str, base: str | None = None, fields: Sequence[str] = ()
    ) -> None:
        self.kind = kind
        self.package = package
        self._base = base
        self._fields = tuple(fields)
        self._entries: dict[str, Entry[T]] = {}
        self._is_loaded = False
        self._is_loading = False

    def register(self, name: str, *, source: str, described_by: Any = None) -> Callable[[T], T]:
        """Return a decorator that files a component under ``name``.

        Args:
            name: Unique among this registry's components.
            source: Paper, section or equation.
            described_by: What carries the docstring, if not the component itself.

        Raises:
            TypeError: If it is not what this registry holds, or lacks what such a thing must have.
            ValueError: If the name is taken, with both origins.
        """

        def add(component: T) -> T:
            described: Any = described_by or component
            self._check(component, described)
            if not described.__module__.startswith(f"{self.package}."):
                self._load()  # or it would take the name of one of ours
            origin = f"{described.__module__}.{described.__qualname__}"
            taken = self._entries.get(name)
            if taken is not None and taken.origin != origin:
                raise ValueError(
                    f"two components are named {self.kind} '{name}': {taken.origin} and {origin}. "
                    "Give one of them another name."
                )
            summary = (described.__doc__ or "").strip().split("\n")[0]
            self._entries[name] = Entry(name, component, source, summary, origin)
            return component

        return add

    def _check(self, component: Any, described: Any) -> None:
        if self._base is None:
            return
        base: Any = getattr(importlib.import_module(f"{self.package}._base"), self._base)
        name, public = described.__name__, f"{self.package}.{self._base}"
        if isinstance(component, type):
            if not issubclass(component, base):
                raise TypeError(f"{name} is no {self.kind}. Derive it from {public}.")
            must = [*getattr(component, "__class_vars__", ()), *self._fields]
            has = getattr(component, "model_fields", {})
            found = {one for one in must if one not in has and not hasattr(component, one)}
            found |= getattr(component, "__abstractmethods__", frozenset())
            if found:
                raise TypeError(
                    f"{name} lacks {', '.join(sorted(found))}, which every {self.kind} must have. "
                    f"Add what {public} says of it."
                )
        elif not isinstance(component, base):
            raise TypeError(f"{name} is no {self.kind}. {self.package} has a decorator for it.")

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
        with _LOADING:  # a thread that comes second must not find half of the components
            if self._is_loading:  # a component reads it while it is imported
                return
            self._is_loading = True
            try:
                package = importlib.import_module(self.package)
                for module in pkgutil.iter_modules(package.__path__):
                    if not module.name.startswith("_"):
                        importlib.import_module(f"{self.package}.{module.name}")
                self._is_loaded = True
            finally:
                self._is_loading = False


def _own(package: str, kind: str) -> Any:
    module = importlib.import_module(f"{package}._base")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, Registry) and value.kind == kind
    )
