"""Metrics as a table: evaluations stand in the row of their step."""

import numpy as np
import pytest

from r1jax.run.metrics_table import MetricsTable

LOGGED = [
    {"stage": "sft", "step": 0, "eval/accuracy": 0.0},
    {"stage": "sft", "step": 1, "loss": 2.0},
    {"stage": "rl", "step": 1, "loss": 0.0, "reward": 0.25},
    {"stage": "rl", "step": 1, "eval/accuracy": 0.5},
    {"stage": "rl", "step": 2, "loss": 0.0, "reward": 0.75},
]


def test_evaluations_are_joined_to_their_step():
    table = MetricsTable(LOGGED)
    assert len(table) == 4 and table.columns == ["stage", "step", "eval/accuracy", "loss", "reward"]
    assert table.rows[2] == {"stage": "rl", "step": 1, "loss": 0.0, "reward": 0.25, "eval/accuracy": 0.5}
    np.testing.assert_array_equal(table["reward"], [np.nan, np.nan, 0.25, 0.75])
    np.testing.assert_array_equal(table.stage("rl")["eval/accuracy"], [0.5, np.nan])
    with pytest.raises(KeyError, match="no metric 'rewart'; there are stage, step"):
        _ = table["rewart"]
    assert LOGGED[2].keys() == {"stage", "step", "loss", "reward"}  # what was given is not changed


def test_curves_have_a_line_for_each_stage():
    figure = MetricsTable(LOGGED).plot(["loss", "reward"])
    lines = [{line.get_label(): list(line.get_ydata()) for line in axes.lines} for axes in figure.axes]
    assert lines == [{"sft": [2.0], "rl": [0.0, 0.0]}, {"rl": [0.25, 0.75]}]
    assert [axes.get_title("left") for axes in figure.axes] == ["loss", "reward"]


def test_a_notebook_shows_the_last_rows():
    html = MetricsTable(LOGGED)._repr_html_()
    assert html.count("<tr>") == 5 and "<td>0.75</td>" in html and "4 rows, 5 columns" in html
