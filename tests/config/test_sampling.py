"""Settings of sampling and evaluation that contradict each other are refused."""

import pytest
from pydantic import ValidationError

from r1jax.config.sampling import EvaluateSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 4, "temperature": 0.0}, "makes all 4 samples the same"),
        ({"temperature": 0.0, "top_k": 5}, r"leave out top_k \["),
        ({"temperature": 0.0, "top_p": 0.9, "min_p": 0.1}, r"leave out top_p and min_p \["),
        ({"min_p": 1.0}, "less than 1"),
        ({"temperature": -1.0}, "greater than or equal to 0"),
        ({"top_p": 0.0}, "greater than 0"),
        ({"problems": -1}, "greater than or equal to 0"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        EvaluateSettings(**settings)


def test_evaluation_may_be_greedy_or_on_all_problems():
    assert EvaluateSettings(temperature=0.0, problems=None).problems is None
