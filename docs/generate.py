"""Writes the reference from the code: commands, keys, tables, components, the notebook."""

import base64
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from typer.main import get_command

from raymcu.cli import app
from raymcu.models.files import TESTED
from raymcu.planning.schema import space_schema
from raymcu.planning.surroundings import components
from raymcu.report.catalog import catalog, parameters
from raymcu.store.tables import SCHEMAS
from raymcu.study.search_space import SearchSpace

KINDS = {
    "methods": "Unlearning methods",
    "masks": "Update masks",
    "curricula": "Curricula",
    "metrics": "Metrics",
    "curves": "Curves",
    "walks": "Walks",
    "attacks": "Attacks",
    "benchmarks": "Benchmarks",
    "settings": "Settings",
    "claims": "Claims of papers",
}
SCHEMA = "search_space.schema.json"
_WORD = "dictionary<values=string, indices=int32, ordered=0>"
DOCS = Path(__file__).parent
NOTEBOOK = DOCS / "notebooks" / "three_figures.ipynb"
GENERATED = DOCS / "reference" / "generated"
BORROWED = {"gallery": "search_spaces/README.md", "cluster": "cluster/README.md"}
"""Pages that live elsewhere in the repository."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def pages() -> dict[str, str | bytes]:
    """Return every generated file by its name."""
    made: dict[str, str | bytes] = {
        "commands.md": _commands(),
        "search_space.md": _search_space(),
        SCHEMA: json.dumps(space_schema(), indent=1, ensure_ascii=False),
        "tables.md": _tables(),
        "families.md": _families(),
        **{f"{kind}.md": _components(kind, title) for kind, title in KINDS.items()},
    }
    for name, place in BORROWED.items():
        made |= _borrowed(name, DOCS.parent / place)
    return made | _notebook()


def write(folder: Path) -> list[Path]:
    """Write what is new or changed below a folder; remove what is no longer made."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for path in folder.iterdir():
        if path.name not in made:
            path.unlink()
    for name, content in made.items():
        path, data = folder / name, content.encode() if isinstance(content, str) else content
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
    return [folder / name for name in made]


def _table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    def line(cells: tuple[object, ...]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "---|" * len(header)
    return "\n".join([line(header), rule, *map(line, rows)]) + "\n"


def _code(text: object) -> str:
    return f"`{text}`" if str(text) else ""


def _sentences(docstring: str | None) -> str:
    """Return a docstring as Markdown: its lists of arguments and errors are left to the code."""
    text = inspect.cleandoc(docstring or "")
    for end in ("\nArgs:", "\nRaises:", "\nReturns:", "\nExample"):
        text = text.split(end)[0]
    return text.strip()


def _options(
    model: type[BaseModel],
    skip: frozenset[str] = frozenset(),
    only: frozenset[str] | None = None,
) -> str:
    inner = {key.strip("[]") for key, _ in _sections(model)}
    rows = [
        (
            _code(name),
            "table, see below" if name in inner else told["allowed"],
            _code(_value(told["default"])),
            told["meaning"],
        )
        for name, told in parameters(model).items()
        if name not in skip and (only is None or name in only)
    ]
    return _table(("key", "values", "default", "meaning"), rows) if rows else ""


def _value(value: Any) -> str:
    """Spell a default about as TOML does; a table is told where it stands."""
    if value is None or isinstance(value, BaseModel) or "Undefined" in type(value).__name__:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        inner = [getattr(item, "name", item) for item in value]
        return json.dumps(inner, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | dict) else f"{value}"


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the tables within a table, each by its key."""
    for name, field in model.model_fields.items():
        found = [field.annotation]
        for kind in found:
            found += get_args(kind)
        for kind in dict.fromkeys(k for k in found if isinstance(k, type)):
            if issubclass(kind, BaseModel):
                is_list = field.annotation is not kind and "tuple" in str(field.annotation)
                yield (f"[[{name}]]" if is_list else name), kind


def _search_space() -> str:
    text = [
        "# Search-space file\n",
        "A TOML file. A table that names a component (`name = …`) takes the component's own "
        "options beside the keys below. A key without a default has to be given; an empty default "
        f"means none. For editors there is a [JSON schema]({SCHEMA}) of it "
        "(`raymcu schema` prints it).\n",
        "## Top of the file\n",
        _options(SearchSpace, frozenset(key.strip("[]") for key, _ in _sections(SearchSpace))),
    ]
    text += [part for key, kind in _sections(SearchSpace) for part in _section(key, kind)]
    return "\n".join(text)


def _section(key: str, model: type[BaseModel]) -> Iterator[str]:
    inner = list(_sections(model))
    yield f"## `{key if key.startswith('[[') else f'[{key}]'}`\n"
    yield _sentences(model.__doc__) + "\n"
    yield _options(model)
    for name, kind in inner:
        yield from _section(f"{key.strip('[]')}.{name.strip('[]')}", kind)


def _tables() -> str:
    text = [
        "# Tables\n",
        "Each is a folder of Parquet files, `tables/NAME/*.parquet`, except `training` and "
        "`g_effects`, which lie beside a checkpoint. Unit and meaning stand in each field's "
        "metadata too. Nats are natural logarithms.\n",
    ]
    for name, schema in SCHEMAS.items():
        rows = [
            (
                _code(field.name),
                str(field.type).replace(
                    "dictionary<values=string, indices=int32, ordered=0>", "word"
                ),
                (field.metadata or {}).get(b"unit", b"").decode(),
                (field.metadata or {}).get(b"meaning", b"").decode(),
            )
            for field in schema
        ]
        version = (schema.metadata or {})[b"version"].decode()
        text += [f"## {name}\n", f"Version {version}.\n"]
        text += [_table(("column", "type", "unit", "meaning"), rows)]
    return "\n".join(text)


def _components(kind: str, title: str) -> str:
    rows = catalog(kind)
    if kind == "settings":
        names = tuple(rows[0])
        return f"# {title}\n\n" + _table(names, [tuple(row.values()) for row in rows])
    if kind == "claims":
        heads = ("claim", "where", "tested by", "value")
        names = ("summary", "source", "tested by", "unit")
        told = [tuple(row[name] for name in names) for row in rows]
        return f"# {title}\n\n" + _table(heads, told)
    registry = components()[kind]
    text = [f"# {title}\n"]
    if kind == "metrics":
        text.append(_metrics(rows))
        return "\n".join(text)
    shared = _shared(rows)
    if shared:
        text += ["## Options of all\n", _options(registry[rows[0]["name"]], only=shared)]
    for row in rows:
        component = registry[row["name"]]
        text += [f"## {row['name']}\n", _sentences(component.__doc__) + "\n"]
        text += [f"Source: {row['source']}.\n"]
        if row.get("needs"):
            text.append("Needs: " + "; ".join(row["needs"]) + ".\n")
        if row.get("strengths"):
            text.append(f"A {row['way']}; strengths are {row['strengths']}.\n")
        if row.get("models"):
            text.append(f"For: {row['models'].replace(' ', ', ')}.\n")
        if published := row.get("openunlearning"):
            told = ", ".join(f"`{k} = {json.dumps(v)}`" for k, v in published["options"].items())
            differs = f"; but {published['differs']}" if published["differs"] else ""
            text.append(f"As OpenUnlearning: {told or 'the defaults'}{differs}.\n")
        text.append(_options(component, shared))
    return "\n".join(text)


def _families() -> str:
    """Return the families that the contract test goes through, by what opens them."""
    classes = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    rows: list[tuple[object, ...]] = [(_code(n), _code(classes[n])) for n in TESTED if n in classes]
    return (
        "# Families of models\n\nOf each of these a tiny random model is trained (all weights, "
        "adapters, RMU), blended, measured, walked over layer by layer and compared with plain "
        "transformers in a test. `model_type` is what a model's config.json says. A family that is "
        "not here is [tried before anything starts](../../how-to/your-model.md#other-families).\n\n"
        + _table(("model_type", "class of transformers"), rows)
    )


def _shared(rows: list[dict[str, Any]]) -> frozenset[str]:
    """Return the options that every component has, with the same default and meaning."""
    first, *others = (row["parameters"] for row in rows)
    return frozenset(
        name for name, told in first.items() if others and all(o.get(name) == told for o in others)
    )


def _metrics(rows: list[dict[str, Any]]) -> str:
    """Return the metrics by the module they are from, which says what they are about."""
    families: dict[str, list[dict[str, Any]]] = {}
    registry = components()["metrics"]
    for row in rows:
        origin = registry.entry(row["name"]).origin.split(".")
        longest = next(n for n in range(len(origin), 0, -1) if ".".join(origin[:n]) in sys.modules)
        families.setdefault(".".join(origin[:longest]), []).append(row)
    text = [
        "What was not measured is left out, and what is not a number is null with the reason in "
        "`note`.\n"
    ]
    for module, family in sorted(families.items()):
        text += [f"## {module.rpartition('.')[2].replace('_', ' ').capitalize()}\n"]
        text += [_sentences(sys.modules[module].__doc__) + "\n", _metric_table(family)]
    return "\n".join(text)


def _metric_table(rows: list[dict[str, Any]]) -> str:
    told = [
        (
            _code(row["name"]),
            f"{row['summary']} *Of: {'; '.join(row['needs'])}. Source: {row['source']}.*",
            f"{row['better']}<br>{row['range']}<br>{row['unit']}",
        )
        for row in rows
    ]
    return _table(("metric", "what", "better, range, unit"), told)


def _commands() -> str:
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    text = ["# Commands\n"]
    for name, command in commands.items():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        usage = " ".join(["raymcu", name, *(str(p.name).upper() for p in arguments), "[options]"])
        text += [f"## raymcu {name}\n", f"{inspect.cleandoc(command.help)}\n"]
        text += [f"```text\n{usage}\n```\n"]
        rows = [
            (_code(" ".join(p.opts) if p.param_type_name == "option" else str(p.name).upper()),
             _default(p), p.help or "")
            for p in command.params
        ]  # fmt: skip
        text.append(_table(("argument", "default", "meaning"), rows))
    return "\n".join(text)


def _default(parameter: Any) -> str:
    value = parameter.default
    return _code(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def within_docs(text: str, place: Path, target: Path) -> tuple[str, list[Path]]:
    """Return a page of a folder as a page of another, and its pictures.

    Links to pages of the documentation follow, those to other files of the repository become text.
    """
    pictures = []
    pages = {DOCS.parent / place: f"{name}.md" for name, place in BORROWED.items()}
    pages[NOTEBOOK] = "notebook.md"

    def moved(link: re.Match[str]) -> str:
        mark, words, path, anchor = link.groups()
        file = (place / path).resolve()
        if mark:
            pictures.append(file)
            return f"![{words}]({file.name})"
        if file in pages:
            return f"[{words}]({os.path.relpath(GENERATED / pages[file], target)}{anchor or ''})"
        if file.is_relative_to(DOCS) and file.suffix == ".md":
            return f"[{words}]({os.path.relpath(file, target)}{anchor or ''})"
        return words

    return LINK.sub(moved, text), pictures


def _borrowed(name: str, page: Path) -> dict[str, str | bytes]:
    text, pictures = within_docs(page.read_text(encoding="utf-8"), page.parent, GENERATED)
    return {f"{name}.md": text, **{path.name: path.read_bytes() for path in pictures}}


def _notebook() -> dict[str, str | bytes]:
    """Return the notebook as a page with the pictures that are stored in it."""
    text, pictures = [], {}
    for number, cell in enumerate(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        text.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"notebook_{number}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                text.append(f"![Figure drawn by the cell above]({name})")
            elif told := data.get("text/plain") or output.get("text"):
                text.append(f"```text\n{''.join(told)}\n```")
    return {"notebook.md": "\n\n".join(text) + "\n", **pictures}
