"""Arrow schemas of every table in a run folder: the only place where a column is named.

Each field's metadata holds its unit and meaning, each schema's its version, so that DuckDB,
Polars or pandas users can read the Parquet files without raymcu. Loglikelihoods are natural
logarithms (nats) everywhere.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from raymcu.errors import StoreError
from raymcu.store.conclusions import CONCLUSIONS
from raymcu.store.fields import CURVE_FIELDS as _CURVE_FIELDS
from raymcu.store.fields import REALS as _REALS
from raymcu.store.fields import TEXT as _TEXT
from raymcu.store.fields import VERSION
from raymcu.store.fields import WORD as _WORD
from raymcu.store.fields import field as _field
from raymcu.store.fields import schema as _schema
from raymcu.store.sample_tables import SAMPLES
from raymcu.store.verdict_tables import VERDICTS

READ = frozenset({"2", VERSION})
"""Versions that are read."""
LATER: Mapping[str, frozenset[str]] = {
    "measurements": frozenset({"class_logprobs"}),
    "findings": frozenset({"judged_by"}),
    "metric_findings": frozenset({"barrier", "barrier_t", "fragmentation"}),
    "questions": frozenset({"picture"}),
    "points": frozenset({"attack", "strength", "attacked", "asking"}),
}
"""By table: columns that version 2 lacks; where they are missing they are read as nulls."""


SCHEMAS: Mapping[str, pa.Schema] = {
    "recipes": _schema(
        "recipes",
        _field("recipe_id", _TEXT, "hash of the recipe's content and of its parents' ids"),
        _field("role", _WORD, "original, retrained, model, memorizer, unlearner or bend"),
        _field("label", _TEXT, "short name for people, e.g. npo/seed0"),
        _field("forget_size", _WORD, "forget set the recipe forgets; null for the original"),
        _field("level", pa.int32(), "depth in the recipe graph; parents have lower levels"),
        _field("num_steps", pa.int32(), "optimizer steps taken", "steps"),
        _field("final_loss", pa.float64(), "objective at the last step", "nats"),
        _field("train_s", pa.float64(), "wall time of the training loop", "s"),
        _field("was_reused", pa.bool_(), "whether the checkpoint was in the store before this run"),
        _field("recipe", _TEXT, "the whole recipe as canonical JSON"),
    ),
    "points": _schema(
        "points",
        *_CURVE_FIELDS,
        _field("t", pa.float64(), "position on the curve, 0 = first, 1 = second; null off curves"),
        _field("point_id", _TEXT, "what is measured: hash of blend, forget set and how measured"),
        _field(
            "role",
            _WORD,
            "curve, walk, ensemble, blend, surface, layers, trial, attacked, a checkpoint's role",
        ),
        _field("blend", _TEXT, "checkpoint ids and coefficients as JSON"),
        _field("label", _TEXT, "short name for people, e.g. mixing(npo/seed0) alpha=0.5"),
        _field("attack", _WORD, "title of what was done to it; null of a blend as it is"),
        _field("strength", pa.float64(), "how strong: steps, a share, a layer…", "see attack"),
        _field("attacked", _TEXT, "point_id of what it was done to"),
        _field("asking", _WORD, "hash of how it is asked; null: as the benchmark words it"),
    ),
    "readings": _schema(
        "readings",
        _field("point_id", _WORD, "point read: a blend and what is read of it"),
        _field("name", _WORD, "what is read, e.g. linear_probe"),
        _field("probe", _WORD, "probe whose examples are read"),
        _field("example", pa.int32(), "row of the example in its probe; null of all together"),
        _field("layer", pa.int32(), "decoder layer, from 0; null of the whole model"),
        _field("value", pa.float64(), "what was read", "see name"),
        _field("control", pa.float64(), "the same of what cannot be known; null without"),
    ),
    "measurements": _schema(
        "measurements",
        _field("point_id", _WORD, "point measured"),
        _field("probe", _WORD, "forget, retain, real_authors, world_facts, holdout, verbmem…"),
        _field("example", pa.int32(), "row of the example in its probe, from 0"),
        _field("example_key", _TEXT, "hash of the original question: which example this is"),
        _field("question_kind", _WORD, "question, paraphrased_question, or input of a classifier"),
        _field("answer_kind", _WORD, "answer, paraphrased_answer, perturbed_answer, option, label"),
        _field("answer_index", pa.int16(), "index among perturbed answers or options, else 0"),
        _field("num_prompt_tokens", pa.int32(), "tokens in front of the answer", "tokens"),
        _field("num_question_tokens", pa.int32(), "tokens of the bare question, BOS too", "tokens"),
        _field("logprobs", _REALS, "log p of each answer token, with EOS", "nats"),
        _field("hits", pa.list_(pa.bool_()), "whether the token is the model's greedy choice"),
        _field("stops", pa.list_(pa.bool_()), "whether the model's greedy choice ends the answer"),
        _field("mean_logprobs", _REALS, "sum over v of p_v log p_v; null if not asked", "nats"),
        _field("std_logprobs", _REALS, "deviation of log p_v under p; null if not asked", "nats"),
        _field(
            "gradient_norm",
            pa.float64(),
            "mean over parameters of the norm of the gradient of "
            "the answer's mean NLL; null if not asked",
        ),
        _field("answer", _TEXT, "the reference answer scored"),
        _field("generation", _TEXT, "greedy answer to the question; null where not asked"),
        _field("generation_logprobs", _REALS, "log p of each generated token, with EOS", "nats"),
        _field("class_logprobs", _REALS, "log p of every class; null of questions", "nats"),
    ),
    "questions": _schema(
        "questions",
        _field("forget_size", _WORD, "name of the forget set it is asked for"),
        _field("probe", _WORD, "probe it is of"),
        _field("example", pa.int32(), "row of the example in its probe, from 0"),
        _field("question", _TEXT, "as the benchmark words it; empty of a plain text"),
        _field("picture", _TEXT, "a small image of it, PNG as a data URI; else null"),
    ),
    "representations": _schema(
        "representations",
        _field("point_id", _WORD, "point measured"),
        _field("probe", _WORD, "probe whose answers' states are compared"),
        _field("against", _WORD, "original or retrained"),
        _field("layer", pa.int32(), "decoder layer, from 0; one more than the last: final states"),
        _field("cka", pa.float64(), "linear CKA with centred features, in [0, 1]"),
        _field("cka_debiased", pa.float64(), "the same from unbiased estimates, in [-1, 1]"),
        _field("num_states", pa.int32(), "answer positions compared"),
        _field("note", _TEXT, "why a value is null"),
    ),
    "judgements": _schema(
        "judgements",
        _field("point_id", _WORD, "point judged"),
        _field("probe", _WORD, "probe of the generation"),
        _field("example", pa.int32(), "row of the example in its probe, from 0"),
        _field("criterion", _WORD, "naturalness or similarity"),
        _field("value", pa.float64(), "the judge's grade; null if its reply has none"),
        _field("reply", _TEXT, "what the judge wrote"),
        _field("judge", _TEXT, "model, prompt and parameters of the judge as JSON"),
    ),
    "scores": _schema(
        "scores",
        _field("point_id", _WORD, "point scored"),
        _field("metric", _WORD, "metric name; `raymcu list metrics` tells direction and range"),
        _field("value", pa.float64(), "the score; null where it is undefined", "see metric"),
        _field("num_examples", pa.int32(), "examples the score is taken over"),
        _field("note", _TEXT, "why the value is null, or a warning"),
    ),
    **SAMPLES,
    "findings": _schema(
        "findings",
        *_CURVE_FIELDS,
        _field("num_points", pa.int32(), "points of the curve that have scores"),
        _field("retain_barrier", pa.float64(), "max over t of L_r(t) - chord, >= 0", "nats"),
        _field("retain_barrier_t", pa.float64(), "where it is"),
        _field("forget_barrier", pa.float64(), "max over t of chord - L_f(t), >= 0", "nats"),
        _field("forget_barrier_t", pa.float64(), "where it is"),
        _field("retain_curvature", pa.float64(), "max |second difference| of retain loss", "nats"),
        _field("forget_curvature", pa.float64(), "max |second difference| of forget loss", "nats"),
        _field("retain_variation", pa.float64(), "total variation of retain loss", "nats"),
        _field("forget_variation", pa.float64(), "total variation of forget loss", "nats"),
        _field("tolerance", pa.float64(), "largest barrier that still counts as none", "nats"),
        _field("is_connected", pa.bool_(), "MCU verdict: both barriers within the tolerance"),
        _field("judged_by", _WORD, "which losses: loss (answers, labels) or text_loss (texts)"),
    ),
    "metric_findings": _schema(
        "metric_findings",
        *_CURVE_FIELDS,
        _field("metric", _WORD, "metric name"),
        _field("at_first", pa.float64(), "score at t = 0", "see metric"),
        _field("at_second", pa.float64(), "score at t = 1", "see metric"),
        _field("minimum", pa.float64(), "lowest score along the curve", "see metric"),
        _field("maximum", pa.float64(), "highest score along the curve", "see metric"),
        _field("spread", pa.float64(), "maximum - minimum", "see metric"),
        _field("best_t", pa.float64(), "where the best score is; null if the metric has no best"),
        _field("interior_beats_ends", pa.bool_(), "an interior point is better than both ends"),
        _field(
            "barrier",
            pa.float64(),
            "how much worse than its chord at most, or without a direction how far off, >= 0",
            "see metric",
        ),
        _field("barrier_t", pa.float64(), "where it is"),
        _field(
            "fragmentation",
            pa.float64(),
            "spread in units of what single models of the forget set span; null unless connected",
        ),
    ),
    "calibrations": _schema(
        "calibrations",
        *_CURVE_FIELDS,
        _field("metric", _WORD, "what is to be kept, e.g. retain_es"),
        _field("keep", pa.float64(), "share of the original's value that is to be kept"),
        _field("at_original", pa.float64(), "the original's value", "see metric"),
        _field("bar", pa.float64(), "value to be kept", "see metric"),
        _field("t", pa.float64(), "largest position found that keeps it; null if none does"),
        _field("value", pa.float64(), "the metric there", "see metric"),
        _field("point_id", _TEXT, "the point there"),
        _field("fails_at", pa.float64(), "nearest larger position that does not; null if none"),
        _field("is_monotone", pa.bool_(), "whether the metric never recovers along the way"),
        _field("rank_by", _WORD, "metric the methods are ranked by"),
        _field("before", pa.float64(), "its value at t = 1, uncalibrated", "see rank_by"),
        _field("after", pa.float64(), "its value at the calibrated position", "see rank_by"),
        _field("rank_before", pa.int32(), "place among this family's walks of the forget set"),
        _field("rank_after", pa.int32(), "the same after calibration; equal values share a place"),
    ),
    "layer_choices": _schema(
        "layer_choices",
        _field("forget_size", _WORD, "name of the forget set"),
        _field("second", _WORD, "label of the unlearner the layers are from"),
        _field("kind", _WORD, "layer: one alone; set: the best so many; original; unlearner"),
        _field("layers", pa.list_(pa.int32()), "decoder layers put into the original, from 0"),
        _field("point_id", _TEXT, "the point"),
        _field("utility", pa.float64(), "on the validation half", "see layer_choice.utility"),
        _field("forget", pa.float64(), "on the validation half", "see layer_choice.forget"),
        _field("test_utility", pa.float64(), "on the other half"),
        _field("test_forget", pa.float64(), "on the other half"),
        _field("keeps_utility", pa.bool_(), "whether utility is at least its share, validation"),
        _field("is_chosen", pa.bool_(), "whether this is what is chosen"),
    ),
    "geometry": _schema(
        "geometry",
        _field("kind", _WORD, "update: one checkpoint; pair: two of them; curve"),
        _field("layer", _WORD, "weights it is of, e.g. model.layers.3; null: all of the model"),
        _field("first", _WORD, "label of the checkpoint, or of the unlearner at t = 0"),
        _field("second", _WORD, "label of the other one, or of the unlearner at t = 1"),
        _field("first_id", _WORD, "recipe id of the first"),
        _field("second_id", _WORD, "recipe id of the second; null of an update"),
        _field("curve_id", _TEXT, "the curve, as in table points"),
        _field("family", _WORD, "curve family"),
        _field("num_weights", pa.int64(), "weights; statistics of batch norm are none"),
        _field("norm", pa.float64(), "2-norm of theta - theta_o"),
        _field("original_norm", pa.float64(), "2-norm of theta_o, the original's weights"),
        _field("num_moved", pa.int64(), "weights that differ from the original's; in both"),
        _field("changed", pa.float64(), "share of weights that differ from the original's"),
        _field(
            "effective_rank",
            pa.float64(),
            "(sum s^2)^2 / sum s^4 of an update's singular values s: mean over matrices",
        ),
        _field("full_rank", pa.float64(), "the most it could be: mean over these matrices"),
        _field("inner_product", pa.float64(), "of both directions theta - theta_o"),
        _field("cosine", pa.float64(), "of the angle between both directions, in [-1, 1]"),
        _field("num_agreeing", pa.int64(), "weights that both moved the same way"),
        _field("sign_agreement", pa.float64(), "num_agreeing / num_moved, in [0, 1]"),
        _field("length", pa.float64(), "of the curve, in weight space"),
        _field("chord", pa.float64(), "distance of its ends"),
        _field("bend_distance", pa.float64(), "of its bend, the farthest, from the chord's line"),
        *(
            _field(f"{side}_loss_{along}", pa.float64(), f"mean {side} loss {meaning}", "nats")
            for side in ("forget", "retain")
            for along, meaning in (
                ("uniform", "along the curve over t, between measured points along straight lines"),
                (
                    "arc_length",
                    "the same over the length passed, as MCU's equations 5 to 7 have it",
                ),
            )
        ),
    ),
    "surfaces": _schema(
        "surfaces",
        _field("surface", _WORD, "label of the plane"),
        _field("forget_size", _WORD, "name of the forget set"),
        _field("line", _TEXT, "null on the grid; of a curve in the plane its name"),
        _field("a", pa.float64(), "coefficient of the second corner"),
        _field("b", pa.float64(), "coefficient of the third corner; the first has 1 - a - b"),
        _field("x", pa.float64(), "distance along the line from first to second corner"),
        _field("y", pa.float64(), "distance from that line, towards the third corner"),
        _field("point_id", _TEXT, "the point, as in table points"),
        _field("forget_loss", pa.float64(), "there; null if it was not measured", "nats"),
        _field("retain_loss", pa.float64(), "there", "nats"),
    ),
    "sharpness": _schema(
        "sharpness",
        _field("point_id", _WORD, "point measured"),
        _field("probe", _WORD, "probe of whose mean loss the Hessian is"),
        _field("top_eigenvalue", pa.float64(), "largest eigenvalue of the Hessian, by Lanczos"),
        _field("trace", pa.float64(), "of the Hessian, by Hutchinson's estimator"),
        _field("trace_error", pa.float64(), "standard error of the trace; null of one draw"),
        _field("num_examples", pa.int32(), "questions the loss is taken over"),
        _field("note", _TEXT, "why a value is null"),
    ),
    "trials": _schema(
        "trials",
        _field("trial_id", _TEXT, "study and number, e.g. method=npo/7"),
        _field("study", _WORD, "name of the Optuna study: the cell of the grid"),
        _field("number", pa.int32(), "of the trial in its study, from 0"),
        _field("state", _WORD, "complete, pruned, failed or running"),
        _field("cell", _TEXT, "values of the grid as JSON"),
        _field("params", _TEXT, "parameters as JSON"),
        _field("point_ids", pa.list_(pa.string()), "points it is scored at"),
        _field("trained", pa.list_(pa.string()), "recipes it was the first to need"),
        _field("is_feasible", pa.bool_(), "whether it meets all constraints; null if unknown"),
        _field("took_s", pa.float64(), "wall time", "s"),
        _field("message", _TEXT, "why it failed or was pruned"),
    ),
    "trial_values": _schema(
        "trial_values",
        _field("trial_id", _TEXT, "trial"),
        _field("kind", _WORD, "objective, constraint (violation: met if <= 0) or look"),
        _field("name", _TEXT, "metric, or the constraint as written"),
        _field("value", pa.float64(), "mean over the trial's seeds, or worst of its curves"),
        _field("look", pa.int32(), "number of the look at an unfinished training; else null"),
    ),
    "failures": _schema(
        "failures",
        _field("item_id", _TEXT, "recipe, curve or point id"),
        _field("stage", _WORD, "train, connect, measure or score"),
        _field("label", _TEXT, "short name for people"),
        _field("reason", _WORD, "diverged, out_of_memory, missing_data, worker_died, skipped…"),
        _field("message", _TEXT, "what happened, with numbers"),
        _field("traceback", _TEXT, "of the worker, if there is one"),
    ),
    "training": _schema(
        "training",
        _field("step", pa.int32(), "optimizer step, from 1", "steps"),
        _field("epoch", pa.float64(), "epochs done after the step", "epochs"),
        _field("loss", pa.float64(), "objective of the step", "nats"),
        _field("forget_loss", pa.float64(), "forget term, before its weight", "nats"),
        _field("retain_loss", pa.float64(), "retain term, before its weight", "nats"),
        _field("learning_rate", pa.float64(), "of the step"),
        _field("gradient_norm", pa.float64(), "global L2 norm before clipping"),
    ),
    "g_effects": _schema(
        "g_effects",
        _field("step", pa.int32(), "optimizer step that follows, from 1", "steps"),
        _field("term", _WORD, "objective, or its forget or retain term with its weight"),
        _field("risk", _WORD, "forget or retain: the set whose mean NLL per token is the risk"),
        _field("group", _WORD, "all weights that move, or embeddings, first_third, lm_head…"),
        _field("example", pa.int32(), "row of the forget set, for its share; null for the whole"),
        _field(
            "value",
            pa.float64(),
            "inner product of the gradients of term and risk: descent on the term at a small rate "
            "r changes the risk by -r · value; null where it is not finite",
        ),
    ),
    **VERDICTS,
    **CONCLUSIONS,
}


def empty(name: str) -> pa.Table:
    """Return the table of that name with no rows."""
    return SCHEMAS[name].empty_table()


def from_rows(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Build a table from dictionaries; a missing key is a null, an unknown one a ``KeyError``."""
    schema = SCHEMAS[name]
    rows = list(rows)
    for row in rows:
        if unknown := set(row) - set(schema.names):
            raise KeyError(f"table '{name}' has no column {sorted(unknown)}")
    return pa.Table.from_pylist(rows, schema=schema)


def columns(table: pa.Table, *names: str) -> list[list[Any]]:
    """Return columns as lists; words in a dictionary are looked up at once, not one by one."""
    found = (table[name] for name in names)
    return [
        (column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column).to_pylist()
        for column in found
    ]


def check(name: str, table: pa.Table, origin: str) -> pa.Table:
    """Return ``table`` in the schema of that name, with what its metadata says besides.

    Raises:
        StoreError: If ``origin`` holds another table or a version of it that is not read.
    """
    schema = SCHEMAS[name]
    version = (table.schema.metadata or {}).get(b"version", VERSION.encode()).decode()
    for place, field in enumerate(schema):
        if field.name in LATER.get(name, ()) and field.name not in table.schema.names:
            nulls = pa.nulls(table.num_rows, field.type)
            table = table.add_column(min(place, table.num_columns), field, nulls)
    if table.schema.names != schema.names:
        raise StoreError(
            f"{origin}: is not a '{name}' table of version {VERSION}: its columns are "
            f"{', '.join(table.schema.names)}; expected {', '.join(schema.names)}. "
            "Use the raymcu that wrote it."
        )
    if version not in READ:
        raise StoreError(
            f"{origin}: is a '{name}' table of version {version}; this raymcu reads version "
            f"{VERSION}. Use the raymcu that wrote it."
        )
    try:
        metadata = {**(table.schema.metadata or {}), **(schema.metadata or {})}
        return table.cast(schema).replace_schema_metadata(metadata)
    except pa.ArrowException as error:
        raise StoreError(
            f"{origin}: is not a '{name}' table of version {VERSION}: {error}. "
            "Use the raymcu that wrote it."
        ) from error
