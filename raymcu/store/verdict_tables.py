"""Schemas of what is made of attacks: what came back, along strengths and curves, and the audit."""

from collections.abc import Mapping

import pyarrow as pa

from raymcu.store.fields import CURVE_FIELDS, TEXT, WORD, field, schema

_SHARE = {
    "direction": "lower: less came back",
    "range": "unbounded; 0 nothing, 1 as much as the original had, above it more than that",
}
_GAIN = {"direction": "higher: the curve resists better than its ends", "range": "unbounded"}

_ATTACK = (
    field("attack", WORD, "title of what was done"),
    field("strength", pa.float64(), "how strong: steps, a share, bits…", "see attack"),
)
_METRIC = (
    field("metric", WORD, "metric name"),
    field(
        "part",
        WORD,
        "examples scored: all; held_out, those the relearning never saw; tuned, those it saw",
    ),
)

VERDICTS: Mapping[str, pa.Schema] = {
    "tuned": schema(
        "tuned",
        field("point_id", WORD, "relearned point"),
        field("example_key", TEXT, "example that it was tuned on, as table measurements has it"),
    ),
    "recoveries": schema(
        "recoveries",
        *_ATTACK,
        field("forget_size", WORD, "name of the forget set"),
        field("point_id", WORD, "the attacked point"),
        field("attacked", WORD, "point_id of what it was before"),
        field("label", WORD, "short name of what it was before"),
        *_METRIC,
        field("before", pa.float64(), "score before; null of a reading", "see metric"),
        field("after", pa.float64(), "score after", "see metric"),
        field("original_before", pa.float64(), "of the original", "see metric"),
        field("original_after", pa.float64(), "of the original attacked alike", "see metric"),
        field("retrained_before", pa.float64(), "of the retrained model", "see metric"),
        field("retrained_after", pa.float64(), "of it attacked alike", "see metric"),
        field(
            "recovered",
            pa.float64(),
            "(after - before) / (original_before - before): the share that came back; of a "
            "retrained model what it learned anew, which is no recovery; null where the original "
            "knows no more than the point did before, by the metric's direction",
            **_SHARE,
            source="raymcu",
        ),
        field(
            "relative",
            pa.float64(),
            "(after - retrained_after) / (original_after - retrained_after): where it stands "
            "between the two models attacked alike",
            direction="lower: nearer the retrained model",
            range="unbounded; 0 as the retrained model, 1 as the original",
            source="raymcu",
        ),
        field("note", TEXT, "why recovered is null"),
    ),
    "relearning_curves": schema(
        "relearning_curves",
        field("attack", WORD, "title of what was done, whose strength 0 is the point itself"),
        field("forget_size", WORD, "name of the forget set"),
        field("attacked", WORD, "point_id of what it was done to"),
        field("label", WORD, "its short name"),
        *_METRIC,
        field("num_strengths", pa.int32(), "strengths at which recovered is known, but for 0"),
        field("longest", pa.float64(), "the largest of them", "see attack"),
        field(
            "area",
            pa.float64(),
            "area under recovered over the strength from 0 to the largest, by trapezoids, divided "
            "by the largest: the mean share along the way",
            **_SHARE,
            source="raymcu, of relearning curves as Unlearn-Smooth (arXiv 2502.05374) draws them",
        ),
        field("threshold", pa.float64(), "share that counts as having come back"),
        field(
            "steps_to",
            pa.float64(),
            "first strength at which recovered is at least the threshold; null if none is",
            unit="see attack",
            direction="higher: it takes more; null is best",
            range="> 0",
            source="raymcu",
        ),
        field(
            "retrained_area",
            pa.float64(),
            "the same of the retrained model: what it learns anew is no recovery",
            direction="neither",
            range="unbounded",
            source="raymcu",
        ),
        field("retrained_steps_to", pa.float64(), "the same of the retrained model"),
        field(
            "excess",
            pa.float64(),
            "area - retrained_area: what comes back sooner than it is learned anew",
            direction="lower: 0 or less is learning anew alone",
            range="unbounded",
            source="raymcu",
        ),
    ),
    "attack_findings": schema(
        "attack_findings",
        *CURVE_FIELDS,
        *_ATTACK,
        *_METRIC,
        field("num_points", pa.int32(), "points of the curve at which recovered is known"),
        field("at_first", pa.float64(), "recovered at t = 0"),
        field("at_second", pa.float64(), "recovered at t = 1"),
        field("interior", pa.float64(), "mean of recovered over interior points"),
        field("best_t", pa.float64(), "interior position that resists best"),
        field("at_best", pa.float64(), "recovered there", **_SHARE, source="MCU, section 6.3"),
        field(
            "gain",
            pa.float64(),
            "the lower of the ends' recovered minus at_best",
            **_GAIN,
            source="MCU, section 6.3",
        ),
        field(
            "gain_is_clear",
            pa.bool_(),
            "whether the gain is larger than what the ends differ by and, where scores have "
            "intervals, the attacked point's is apart from those of both attacked ends",
        ),
        field("ensemble", pa.float64(), "recovered of the curve's ensemble"),
        field(
            "ensemble_gain",
            pa.float64(),
            "the lower of the ends' recovered minus the ensemble's",
            **_GAIN,
            source="MCU, sections 6.2 and 6.3, figure 6",
        ),
        field("ensemble_gain_is_clear", pa.bool_(), "the same for the ensemble"),
        field("spread", pa.float64(), "by how much the ends' recovered differ"),
    ),
    "attack_curvatures": schema(
        "attack_curvatures",
        field("forget_size", WORD, "name of the forget set"),
        *_ATTACK,
        *_METRIC,
        field("curvature", WORD, "retain_curvature or forget_curvature of table findings"),
        field("against", WORD, "interior, gain or ensemble_gain of table attack_findings"),
        field("num_curves", pa.int32(), "curves that have both"),
        field(
            "rank_correlation",
            pa.float64(),
            "Spearman's over these curves, ties at their mean rank; null of fewer than 3, or where "
            "one does not vary",
            direction="neither; MCU claims flat curves resist: > 0 against interior",
            range="[-1, 1]",
            source="MCU, sections 6.3 and 6.4",
        ),
        field("note", TEXT, "why it is null"),
    ),
    "metric_audits": schema(
        "metric_audits",
        field("forget_size", WORD, "name of the forget set"),
        field("metric", WORD, "metric that is judged"),
        field("name", WORD, "what is said of it; each name's direction, range and source below"),
        field("attack", WORD, "title of the attack it is said by; null without one"),
        field("strength", pa.float64(), "its strength", "see attack"),
        field(
            "value",
            pa.float64(),
            "the number",
            direction="higher: more to be trusted, but for threshold",
            range="pearson [-1, 1]; faithfulness, accuracy, ou_r, ou_robustness, ou_overall and "
            "symmetric_* [0, 1]; ou_q up to 1; threshold in the metric's unit",
            source="pearson: tutorial on reliable evaluation; faithfulness, threshold, accuracy, "
            "ou_*: OpenUnlearning; symmetric_*: arXiv 2605.24614",
        ),
        field(
            "low", pa.float64(), "lowest value of the seeds, each by itself; null of fewer than 2"
        ),
        field("high", pa.float64(), "the highest"),
        field("num_models", pa.int32(), "models it is taken over"),
        field("num_seeds", pa.int32(), "seeds that have a value by themselves"),
        field("note", TEXT, "why it is null, or a warning"),
    ),
}
