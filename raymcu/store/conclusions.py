"""Schemas of the tables that conclude from curves: likeness of methods, difficulty, ensembles."""

from collections.abc import Mapping

import pyarrow as pa

from raymcu.store.fields import CURVE_FIELDS, TEXT, WORD, field, schema

CONCLUSIONS: Mapping[str, pa.Schema] = {
    "similarities": schema(
        "similarities",
        field("forget_size", WORD, "name of the forget set"),
        field("setting", WORD, "Met-like setting; of a method with itself: by its Rand-like one"),
        field("family", WORD, "curve family"),
        field("metric", WORD, "loss (both barriers), or a metric"),
        field("first", WORD, "a method"),
        field("second", WORD, "another; each pair is there in both orders"),
        field("similarity", pa.float64(), "1 - barrier / scale, <= 1; null where undefined"),
        field("lowest", pa.float64(), "of one curve"),
        field("highest", pa.float64(), "of one curve"),
        field("barrier", pa.float64(), "mean over the curves, >= 0", "see metric"),
        field("scale", pa.float64(), "mean over the curves", "see metric"),
        field("scaled_by", WORD, "gained: over the original; kept: over the metric's worst"),
        field("num_curves", pa.int32(), "curves between the two, of all seeds and both orders"),
        field("first_place", pa.int32(), "of the first in an order with alike ones together"),
        field("second_place", pa.int32(), "of the second"),
        field("note", TEXT, "why there is no similarity"),
    ),
    "difficulties": schema(
        "difficulties",
        field("forget_size", WORD, "name of the forget set"),
        field("setting", WORD, "setting whose curves it is taken from"),
        field("family", WORD, "curve family"),
        field("method", WORD, "method at an end of the curves; null: all, their mean"),
        field("difficulty", pa.float64(), "mean of the four parts, in [0, 1]; null if undefined"),
        field("deviation", pa.float64(), "of single curves, sample standard deviation"),
        field("lowest", pa.float64(), "of one curve"),
        field("highest", pa.float64(), "of one curve"),
        field("barrier", pa.float64(), "mean of b / (1 + b), b = barrier over gain"),
        field("curvature", pa.float64(), "the same of a parabola's barrier of that curvature"),
        field("variation", pa.float64(), "the same of variation beyond what the ends differ"),
        field("disconnected", pa.float64(), "share of curves that are not connected"),
        field("num_curves", pa.int32(), "curves it is taken over"),
        field("num_seeds", pa.int32(), "seeds of unlearners at their ends"),
        field("memorization", pa.float64(), "original's extraction strength on the forget set"),
        field("known_loss", pa.float64(), "original's loss on the forget set", "nats"),
        field("likeness", pa.float64(), "retrained's loss, retain - forget set; 0: alike", "nats"),
        field("cost", pa.float64(), "retain loss risen per forget loss gained, of the ends"),
        field(
            "steps", pa.float64(), "optimizer steps until until_loss, mean; null without", "steps"
        ),
        field("note", TEXT, "why there is no difficulty"),
    ),
    "rank_correlations": schema(
        "rank_correlations",
        field("setting", WORD, "setting whose difficulties are ranked"),
        field("family", WORD, "curve family"),
        field("measure", WORD, "column of table difficulties that they are compared with"),
        field("sign", pa.int32(), "1 if more of it should be harder, -1 if less"),
        field("over", WORD, "forget sets, or methods and forget sets"),
        field("spearman", pa.float64(), "rank correlation, in [-1, 1]; null if undefined"),
        field("num", pa.int32(), "values compared"),
        field("note", TEXT, "why there is none"),
    ),
    "ensembles": schema(
        "ensembles",
        *CURVE_FIELDS,
        field("metric", WORD, "metric"),
        field("kind", WORD, "first, second, inside (best point between), or ensemble"),
        field("num_inside", pa.int32(), "of an ensemble: interior points averaged with the ends"),
        field("t", pa.float64(), "position; of inside: chosen on the validation half"),
        field("point_id", TEXT, "the point"),
        field("value", pa.float64(), "on all examples", "see metric"),
        field("validation", pa.float64(), "on the even examples", "see metric"),
        field("test", pa.float64(), "on the odd examples", "see metric"),
        field("gain_validation", pa.float64(), "over the better end by validation", "see metric"),
        field("gain_test", pa.float64(), "over the same end on the test half", "see metric"),
        field("gain_low", pa.float64(), "end of its paired 95% bootstrap interval", "see metric"),
        field("gain_high", pa.float64(), "its other end", "see metric"),
        field("survives", pa.bool_(), "better on the validation half, and surely on the test one"),
    ),
}
