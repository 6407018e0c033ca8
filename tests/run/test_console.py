"""Progress of a stage, on a terminal and off it; model text is shown and never obeyed."""

import io
import re
import sys

from r1jax.run.console import Progress

RL = {"reward": 0.5, "rewards/accuracy/mean": 0.25, "completions/mean_length": 120.0, "tokens_per_second": 9000.0}


def test_progress_off_a_terminal_is_a_few_plain_lines(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress("rl", 100) as progress:
        for step in range(1, 101):
            progress.update(step, RL)
        progress.show_sample("1+1? <think>", "[red]two[/red] \x1b[2J\r </think>2", {"accuracy": 1.0, "format": None})
    out = capsys.readouterr().out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out)
    lines = [line for line in out.splitlines() if line.startswith("rl ")]
    assert 10 <= len(lines) < 20 and lines[-1].startswith("rl 100/100")
    assert "reward 0.500  accuracy 25.0%  length 120  9,000 tokens/s" in lines[-1]
    assert "[red]two[/red]" in out and "accuracy 1, format none" in out


def test_progress_shows_truncation_and_dynamic_sampling(capsys):
    with Progress("rl", 2) as progress:
        progress.update(1, RL | {"completions/clipped_ratio": 0.69, "dynamic_sampling/groups": 4.0})
        progress.update(2, {"completions/clipped_ratio": 0.0})
    first, second = capsys.readouterr().out.splitlines()
    assert "length 120  truncated 69%  groups with variance 4  9,000" in first and "truncated" not in second


def test_progress_on_a_terminal_draws_a_bar_and_never_obeys_model_text(monkeypatch):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with Progress("sft", 4, completed=1) as progress:
        progress.update(2, {"loss": 0.5, "token_accuracy": 0.75})
        progress.show_sample("Q", "[bold]A[/bold]\x1b[2J", {})
        progress.update(4, {"loss": 0.25})
    out = terminal.getvalue()
    assert "4/4" in out and "loss 0.250  token accuracy 75.0%" in out
    assert "[bold]A[/bold]" in out and "\x1b[2J" not in out
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h") == 1  # the cursor comes back


def test_progress_that_is_off_says_nothing(capsys):
    with Progress("rl", 2, enabled=False) as progress:
        progress.update(2, RL)
        progress.show_sample("Q", "A", {})
    assert capsys.readouterr().out == ""


def test_the_last_line_is_printed_once_with_its_held_out_scores(capsys):
    with Progress("rl", 4) as progress:
        progress.update(2, RL)
        progress.update(2, {"eval/accuracy": 0.5})
        progress.update(3, RL)
        progress.update(4, RL)
        progress.update(4, {"eval/accuracy": 0.75})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["2/4", "2/4", "3/4", "4/4"][1:] or len(lines) == 4
    assert "held-out 50.0% at step 2" in lines[-2]
    assert lines[-1].startswith("rl 4/4") and lines[-1].endswith("held-out 75.0%")
