"""Errors carry exit codes, travel between processes, and say their sentences."""
# ruff: noqa: E501 - the sentences to expect stand whole, one a line

import pickle
from collections.abc import Mapping
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raymcu.errors import (
    ConfigError,
    RaymcuError,
    StoreError,
    WorkError,
    folded,
    shown,
    unknown_name,
    validation_faults,
)


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    kind: Literal["linear", "constant"] = "linear"
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    words: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = ("a",)
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()
    named: Mapping[str, Inner] = {}


def faults_of(text, **options):
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(text, strict=True)
    return list(validation_faults(caught.value, Outer, **options))


@pytest.mark.parametrize(
    ("error", "code"),
    [(RaymcuError("x"), 1), (ConfigError("x"), 2), (StoreError("x"), 3), (WorkError("r", "x"), 1)],
)
def test_error_has_the_exit_code_of_its_kind(error, code):
    assert error.exit_code == code
    assert isinstance(error, RaymcuError)


def test_config_error_keeps_every_fault_and_is_a_value_error():
    error = ConfigError(["one.", "two."])
    assert error.faults == ["one.", "two."]
    assert str(error) == "one.\ntwo."
    assert ConfigError("one.").faults == ["one."]
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("error", [ConfigError(["a.", "b."]), StoreError("s"), WorkError("r", "m")])
def test_error_survives_pickling(error):
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert getattr(back, "reason", None) == getattr(error, "reason", None)


def test_unknown_name_puts_the_nearest_first_and_lists_all():
    said = unknown_name("unlearning method", "noo", ["rmu", "npo", "grad_ascent"])
    assert said == (
        "no unlearning method is named 'noo'. Did you mean 'npo'? Known: grad_ascent, npo, rmu."
    )


def test_many_names_that_differ_by_their_number_are_told_by_their_ends():
    numbered = [f"class{n}" for n in range(11)] + [f"class{n}_more" for n in range(4)]
    assert folded([*numbered, "forget01", "all", "class12", "3"]) == [
        *("3", "all", "class0 to class10"),
        *("class0_more", "class12", "class1_more", "class2_more", "class3_more", "forget01"),
    ]


def test_unknown_name_guesses_nothing_when_nothing_is_near():
    assert "Did you mean" not in unknown_name("curve family", "zzz", ["linear"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (0.5, "0.5"),
        ("a", "'a'"),
        (["a", False, 1], "['a', false, 1]"),
        ({"a": {"b": 1}}, "a table"),
    ],
)
def test_value_is_shown_as_toml_spells_it(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"kind": "liner"}', "kind: must be 'linear' or 'constant', got 'liner'. Did you mean 'linear'?"),
        ('{"rate": 0}', "rate: must be > 0, got 0."),
        ('{"rate": 1.5}', "rate: must be <= 1, got 1.5."),
        ('{"rate": NaN}', "rate: must be a finite number, got nan."),
        ('{"rate": "1e-5"}', "rate: must be a number, got '1e-5'."),
        ('{"rate": true}', "rate: must be a number, got true."),
        ('{"words": "a"}', "words: must be a list in [ ], got 'a'."),
        ('{"words": []}', "words: must have at least 1 elements, got []."),
        ('{"words": ["a", "b", "c"]}', "words: must have at most 2 elements, got ['a', 'b', 'c']."),
        ('{"words": [1]}', "words.0: must be text in quotes, got 1."),
        ('{"inner": 3}', "inner: must be a table, got 3."),
        ('{"inner": {"width": 1.5}}', "inner.width: must be a whole number, got 1.5."),
        ('{"inner": {"widht": 1}}', "inner.widht: there is no such key. Did you mean 'width'? Known: width."),
        ('{"inners": [{}, {"x": 1}]}', "inners.1.x: there is no such key. Known: width."),
        ('{"named": {"a": {"widht": 1}}}', "named.a.widht: there is no such key. Did you mean 'width'? Known: width."),
    ],
)  # fmt: skip
def test_fault_is_one_sentence_with_key_value_and_what_is_allowed(text, sentence):
    assert faults_of(text) == [sentence]


def test_fault_key_starts_at_the_prefix_and_knows_the_other_keys_allowed_there():
    said = faults_of('{"lable": 1}', prefix="methods.0", also=["label"])
    assert said == [
        "methods.0.lable: there is no such key. Did you mean 'label'? "
        "Known: inner, inners, kind, label, named, rate, words."
    ]
