"""What `raymcu list` tells of every component."""

import json
import re

import pytest
from rich.console import Console

from raymcu.errors import ConfigError
from raymcu.report.catalog import catalog, print_catalog

KINDS = (
    *("methods", "masks", "curricula", "metrics", "curves"),
    *("walks", "attacks", "benchmarks", "settings", "claims"),
)


def printed(kind):
    console = Console(width=100)
    with console.capture() as capture:
        print_catalog(catalog(kind), console)
    return capture.get()


def row(kind, name):
    return next(row for row in catalog(kind) if row["name"] == name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_names_and_sources_and_is_json(kind):
    rows = catalog(kind)
    assert rows
    assert all(row["name"] and row["source"] for row in rows)
    assert json.loads(json.dumps(rows, default=str))[0]["name"] == rows[0]["name"]


def test_an_unknown_kind_is_told_with_the_known_ones():
    with pytest.raises(ConfigError, match="'method': list one of methods, masks, curricula"):
        catalog("method")


@pytest.mark.parametrize(
    ("kind", "name", "option", "default", "allowed"),
    [
        ("methods", "npo", "beta", 0.1, "> 0"),
        ("methods", "npo", "reduction", "sum", "sum | mean"),
        ("methods", "npo", "forget_weight", 1.0, ">= 0"),
        ("methods", "pdu", "eps", None, ">= 0 or unset"),
        ("methods", "bs_t", "renormalize", False, "true | false"),
        ("masks", "wagle", "keep", 0.95, "> 0, <= 1"),
        ("curricula", "superloss", "mean", "corrected", "corrected | reference"),
        ("attacks", "quantize", "bits", None, "list of >= 2, <= 16 or unset"),
    ],
)
def test_options_have_default_range_and_meaning(kind, name, option, default, allowed):
    told = row(kind, name)["parameters"][option]
    assert told["default"] == default
    assert told["allowed"] == allowed
    assert told["meaning"]


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("grad_ascent", ["forget set"]),
        ("npo", ["forget set + start model's log-probs"]),
        ("undial", ["forget set + start model's logits"]),
        ("random_labels", ["forget set, answers of 1 other question", "retain set"]),
        (
            "llmu",
            [
                "forget set",
                "forget set, answers of 5 other questions",
                "retain set + start model's logits",
            ],
        ),
        (
            "rmu",
            [
                "forget set, prompts too, at its tokens + hidden states of layer 7",
                "retain set, prompts too, at its tokens + hidden states of layer 7"
                " + start model's hidden states",
            ],
        ),
    ],
)
def test_methods_say_what_they_need(name, needs):
    assert row("methods", name)["needs"] == needs


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("forget_loss", ["answer or label of forget"]),
        ("ou_mem", ["perturbed_answer of forget"]),
        ("zrf", ["class_logprobs of forget", "the random model's measurement"]),
        (
            "privleak",
            [
                "answer of forget, holdout or of forget_text, holdout_text",
                "the retrained model's measurement",
            ],
        ),
    ],
)
def test_metrics_say_what_must_have_been_measured(name, needs):
    assert row("metrics", name)["needs"] == needs


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("npo", {"retain": "nll"}),
        ("satimp", {"importance": 1.0, "forget_weight": 0.1, "retain_weight": 1.0}),
        ("simnpo", {}),
    ],
)
def test_methods_say_which_options_are_openunlearning_s(name, options):
    assert row("methods", name)["openunlearning"] == {"options": options, "differs": ""}
    assert row("methods", "tnpo")["openunlearning"] is None


def test_a_method_s_block_says_how_it_is_openunlearning_s():
    told = printed("methods")
    assert 'as OpenUnlearning: retain = "nll"' in told
    assert "as OpenUnlearning: the defaults\n" in told
    assert 'as OpenUnlearning: position = "token"; but eps has to be given there' in told


def test_an_option_without_a_default_has_to_be_given():
    assert re.search(r"^    path +string, has to be given$", printed("benchmarks"), re.MULTILINE)


def test_settings_are_listed_as_a_table():
    head, first, *others = printed("settings").splitlines()
    assert head.split() == ["name", "pairs", "first", "second", "source"]
    assert first.split()[0] == "Rand"
    assert len(others) == 9


def test_claims_are_listed_with_where_they_are_and_how_they_are_tested():
    told = printed("claims")
    assert "fragmented  A curve can be smooth in loss and broken in another metric.\n" in told
    assert "source: MCU, 5.3, figure 4\n" in told
    assert "tested by: share of connected curves along which a metric spreads" in told


def test_metrics_are_listed_a_block_each():
    told = printed("metrics")
    start = told.index("forget_quality_p  ")
    block = told[start : told.index("forget_repetition")].splitlines()
    assert [line.split(": ")[0].strip() for line in block[1:] if line.startswith("    ")] == [
        "source", "from", "needs", "better"
    ]  # fmt: skip
    assert "better: higher, range: [0, 1], unit: probability" in told
    assert max(map(len, told.splitlines())) <= 100
