"""The stages side by side: which metrics are shown, in which order, and what is missing."""

import io
import json
import re

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

from r1jax.run.comparison import (
    bootstrap,
    comparison_columns,
    comparison_file,
    comparison_table,
    draw_comparison,
    read_comparison,
)

SCORES = {
    "Zero": {"eval/format": 0.5, "eval/mean_length": 20.25, "eval/accuracy": 0.25, "eval/accuracy/sums": 0.5},
    "R1": {
        "eval/accuracy": 0.75,
        "eval/accuracy/sums": 0.9,
        "eval/accuracy/logic": 0.6,
        "eval/format": 1.0,
        "eval/format/sums": 1.0,
        "eval/clipped_ratio": 0.0,
        "eval/pass@2": 0.8,
        "eval/mean_length": 10.0,
        "eval/mean_length/sums": 9.0,
    },
}


@pytest.fixture
def folder(tmp_path):
    entries = {name: {"stage": name.lower(), "step": 3, "scores": scores} for name, scores in SCORES.items()}
    comparison_file(tmp_path).write_text(json.dumps(entries))
    return tmp_path


def test_columns(folder, tmp_path):
    rows = comparison_columns(folder)
    assert [*rows] == ["accuracy", "accuracy: sums", "accuracy: logic", "format", "length"]
    assert rows["accuracy"] == [0.25, 0.75] and rows["length"] == [20.25, 10.0]
    assert np.isnan(rows["accuracy: logic"][0]) and rows["accuracy: logic"][1] == 0.6
    assert read_comparison(tmp_path / "none") == {}


def test_table(folder):
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(comparison_table(folder))
    zero, r1 = (line.split() for line in console.file.getvalue().splitlines() if " Zero " in line or " R1 " in line)
    assert zero == ["Zero", "25.0", "50.0", "-", "50.0", "20.2"]
    bold = "\x1b[1m"
    assert r1[1:5] == [f"{bold}75.0\x1b[0m", f"{bold}90.0\x1b[0m", f"{bold}60.0\x1b[0m", f"{bold}100.0\x1b[0m"]
    assert r1[5] == "10.0"


def test_bootstrap_is_the_interval_of_a_binomial_share():
    p = 90 / 400
    low, high = bootstrap([1.0] * 90 + [0.0] * 310 + [float("nan")])
    assert (low + high) / 2 == pytest.approx(p, rel=0.02)
    assert (high - low) / 2 == pytest.approx(1.96 * (p * (1 - p) / 400) ** 0.5, rel=0.05)
    assert bootstrap([1.0] * 9) == (1, 1)
    assert np.isnan(bootstrap([float("nan")])).all()


def test_accuracy_has_its_interval(folder):
    entries = read_comparison(folder)
    entries["R1"]["accuracies"] = [1.0] * 75 + [0.0] * 25
    comparison_file(folder).write_text(json.dumps(entries))
    console = Console(file=io.StringIO(), width=80)
    console.print(comparison_table(folder))
    (line,) = (line for line in console.file.getvalue().splitlines() if " R1 " in line)
    assert re.search(r"75\.0 ±8\.\d ", line)


def test_picture(folder):
    image = imread(draw_comparison(folder))
    assert image.shape[1] > 1000 and image.std() > 0.05
