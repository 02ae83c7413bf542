"""Which warnings fail a test: `filterwarnings` of pyproject.toml."""

import warnings

import pytest

OWN = ("raymcu.models.scorer", "raymcu", "tests.test_scorer", __name__)
DEPRECATIONS = [
    (DeprecationWarning, "gone in 9.0"),
    (PendingDeprecationWarning, "gone in 10.0"),
    (FutureWarning, "`past_key_values` goes in 5.40"),
    (UserWarning, "Of two lines.\nThis overload is deprecated"),
]
OTHERS = [(UserWarning, "odd"), (RuntimeWarning, "overflow"), (ResourceWarning, "open file")]


def warn(category, message, module):
    warnings.warn_explicit(message, category, f"{module}.py", 1, module)


@pytest.mark.parametrize("module", OWN)
@pytest.mark.parametrize(("category", "message"), DEPRECATIONS + OTHERS)
def test_any_warning_of_our_own_modules_is_an_error(module, category, message):
    with pytest.raises(category):
        warn(category, message, module)


@pytest.mark.parametrize(("category", "message"), OTHERS)
def test_what_is_no_deprecation_is_an_error_wherever_it_comes_from(category, message):
    with pytest.raises(category):
        warn(category, message, "torch.nn.modules.module")


@pytest.mark.parametrize(("category", "message"), DEPRECATIONS)
def test_a_third_partys_deprecation_is_shown(category, message):
    with warnings.catch_warnings(record=True) as shown:
        warn(category, message, "torch.nn.modules.module")
    assert [str(one.message) for one in shown] == [message]
