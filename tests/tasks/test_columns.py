"""From a row to an example."""

import pytest

from r1jax.config.tasks import TableTask
from r1jax.rewards.example import Example
from r1jax.tasks.columns import example_of, named_columns


def test_the_columns_that_settings_name():
    settings = TableTask(question="q", completion="c", columns=["x", "q"])
    assert named_columns(settings) == ["q", "answer", "c", "x"]
    row = {"q": "2+2?", "answer": 4, "c": "It is 4.", "x": (1, 2), "more": 0}
    assert example_of(settings, "here", row) == Example("2+2?", "4", "It is 4.", {"x": [1, 2], "q": "2+2?"})
    with pytest.raises(ValueError, match="here: no column 'c'; there are q, answer"):
        example_of(settings, "here", {"q": "2+2?", "answer": 4})
