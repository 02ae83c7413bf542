"""The JSON schema of search spaces, for editors: keys, components with their options, docstrings.

Draft 7, which editors of TOML read. It says what a file may hold by itself; what only makes sense
between keys is told when the file is read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from raymcu.metrics._base import METRICS
from raymcu.planning.surroundings import components
from raymcu.study.attacks import AttackUse
from raymcu.study.curve_tables import FamilyUse
from raymcu.study.extensions import load_extensions
from raymcu.study.search_space import BenchmarkUse, MethodUse, SearchSpace
from raymcu.study.settings import SETTINGS
from raymcu.study.table_kinds import Named
from raymcu.study.walks import WalkUse

Schema = dict[str, Any]

_TRAINING = {"$ref": "#/$defs/Training"}
_USES: dict[str, type[Named]] = {
    "methods": MethodUse,
    "benchmarks": BenchmarkUse,
    "curves": FamilyUse,
    "walks": WalkUse,
    "attacks": AttackUse,
    "masks": Named,
    "curricula": Named,
}
"""The table that names a component of each kind."""


def space_schema(extensions: Sequence[str] = ()) -> Schema:
    """Return the JSON schema of a search-space file.

    Args:
        extensions: Modules of the user's, or their files, with more components.

    Raises:
        ConfigError: If a module cannot be imported.
    """
    load_extensions({"extensions": extensions, "extensions_folder": str(Path.cwd())})
    registries = {kind: components()[kind] for kind in _USES}
    models: list[Any] = [SearchSpace, *_USES.values()]
    models += [entry.component for registry in registries.values() for entry in registry]
    found, whole = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], ref_template="#/$defs/{model}"
    )
    tables = {model: whole["$defs"][_name(ref)] for (model, _), ref in found.items()}
    replaced = {_name(ref) for ref in found.values()}
    defs = {name: table for name, table in whole["$defs"].items() if name not in replaced}
    for table in defs.values():  # without a word it is a Llama
        if "architecture" in table.get("properties", {}):
            table["required"] = ["architecture", *table.get("required", ())]
    for kind, registry in registries.items():
        defs[kind] = {"oneOf": [_use(tables, entry, _USES[kind]) for entry in registry]}
    space = tables[SearchSpace]
    _name_components(space, defs)
    space |= {"$schema": "http://json-schema.org/draft-07/schema#", "title": "raymcu search space"}
    plain: Schema = _as_draft_7({**space, "$defs": defs})
    return plain


def _name(ref: Schema) -> str:
    return str(ref["$ref"]).rpartition("/")[2]


def _use(tables: dict[Any, Schema], entry: Any, use: type[Named]) -> Schema:
    """Return the table that names one component: the use's own keys and its options."""
    own, named = tables[entry.component], tables[use]
    options = own.get("properties", {})
    keys = {**named["properties"], "name": {"enum": [entry.name], "description": entry.summary}}
    if use is MethodUse:
        changed = {"properties": {**options, "training": _TRAINING}, "additionalProperties": False}
        told = named["properties"]["second_order"]["description"]
        keys["second_order"] = {"type": "object", "description": told, **changed}
    if use is BenchmarkUse:
        sizes = {"enum": list(entry.component.forget_sizes)}
        keys["forget_sizes"] = {**keys["forget_sizes"], "items": sizes}
    return {
        "title": entry.name,
        "description": f"{own.get('description', entry.summary)}\n\nSource: {entry.source}.",
        "type": "object",
        "properties": {**keys, **options},
        "required": [*named["required"], *own.get("required", ())],
        "additionalProperties": False,
    }


def _name_components(space: Schema, defs: Schema) -> None:
    """Put the components' names and options where the tables only say that there are some."""
    benchmarks = components()["benchmarks"]
    probes = dict.fromkeys(name for entry in benchmarks for name in entry.component.probes)
    metrics = {"enum": [entry.name for entry in METRICS]}
    at = {name: table["properties"] for name, table in defs.items() if "properties" in table}
    space["properties"]["benchmark"] |= {"$ref": "#/$defs/benchmarks"}
    for key in ("methods", "walks", "attacks"):
        space["properties"][key]["items"] = {"$ref": f"#/$defs/{key}"}
    at["Unlearning"]["curriculum"] |= {"$ref": "#/$defs/curricula"}
    for use in defs["methods"]["oneOf"]:
        table = use["properties"]
        told = table["mask"].get("description", "")
        table["mask"] = {"$ref": "#/$defs/masks", "description": told}
        table["training"] = {**_TRAINING, "description": table["training"]["description"]}
    at["Unlearning"]["settings"]["items"] = {"enum": list(SETTINGS)}
    told = at["Unlearning"]["second_order"]["description"]
    at["Unlearning"]["second_order"] = {**_TRAINING, "description": told}
    names = {"enum": [entry.name for entry in components()["curves"]]}
    at["Curves"]["families"]["items"] = {"anyOf": [names, {"$ref": "#/$defs/curves"}]}
    for key in ("probes", "generate", "paraphrased", "moments", "gradient_norms"):
        at["Measurement"][key]["items"] = {"enum": list(probes)}
    for key in ("representations", "sharpness", "inside"):
        at["Measurement"][key]["items"] = {"enum": list(probes)}
    after = {"anyOf": [metrics, {"type": "string", "pattern": " after "}]}
    at["Calibration"]["metric"] |= after
    at["Calibration"]["rank_by"]["items"] = after
    at["LayerChoice"]["utility"] |= metrics
    at["LayerChoice"]["forget"] |= metrics
    # With ``curve`` they are columns of the findings: the names are but a help.
    at["Search"]["objectives"]["items"] = {"anyOf": [metrics, {"type": "string"}]}


def _as_draft_7(schema: Any) -> Any:
    """Return a schema as draft 7 has it, and without null, which TOML does not know."""
    if isinstance(schema, list):
        return [_as_draft_7(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _as_draft_7(value) for key, value in _kept(schema)}
    if "prefixItems" in made:
        made["items"] = made.pop("prefixItems")
    choices = [one for one in made.get("anyOf", []) if one != {"type": "null"}]
    if len(choices) == 1:
        made |= {**choices[0], **{k: v for k, v in made.items() if k != "anyOf"}}
        del made["anyOf"]
    elif choices:
        made["anyOf"] = choices
    if "$ref" in made and len(made) > 1:  # beside it, draft 7 reads nothing
        made["allOf"] = [{"$ref": made.pop("$ref")}]
    return made


def _kept(schema: Schema) -> Iterator[tuple[str, Any]]:
    """Yield what says something: the title of a key is the key, and null is no value."""
    is_table = schema.get("type") == "object"
    for key, value in schema.items():
        is_title = key == "title" and isinstance(value, str) and not is_table
        if not is_title and not (key == "default" and value is None):
            yield key, value
