import struct

import pytest

from r1jax.config.load import dump_config, load_config
from r1jax.run.metrics import RunLog
from r1jax.run.report import draw_curves, summary_table


def scores(accuracy, **more):
    return {"eval/accuracy": accuracy, "eval/mean_length": 40.0, "eval/clipped_ratio": 0.125, **more}


def write_run(folder, steps=6):
    log = RunLog(folder)
    log.log("cold_start", 0, scores(0.0))
    for step in range(1, steps + 1):
        log.log("cold_start", step, {"loss": 2 / step, "entropy": 1.0, "token_accuracy": 0.5})
    log.log("cold_start", steps, scores(0.25))
    for step in range(1, steps + 1):
        rewards = {"reward": step / 10, "rewards/accuracy/mean": step / 10, "rewards/format/mean": 1.0}
        log.log("rl", step, {**rewards, "completions/mean_length": 30.0, "loss": 0.0, "clip_ratio/low_mean": 0.0})
        if step % 3 == 0:
            log.log("rl", step, scores(step / 10))
    log.close()
    return folder


def texts(table):
    return [list(column.cells) for column in table.columns]


def drawn(monkeypatch, folder):
    """The figure's panels by title, each with its labelled lines as {label: (xs, ys)}."""
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    draw_curves(folder)
    return {
        ax.get_title("left"): {
            line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
            for line in ax.lines
            if not line.get_label().startswith("_")
        }
        for ax in figures[0].axes
    }


def test_curves_are_a_png_of_sensible_size(tmp_path):
    file = draw_curves(write_run(tmp_path))
    data = file.read_bytes()
    assert file == tmp_path / "curves.png"
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and data.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", data[16:24])
    assert 800 <= width <= 3000 and 600 <= height <= 3000 and 10_000 < len(data) < 1_000_000


def test_panels_are_those_with_data_on_one_axis_of_steps(tmp_path, monkeypatch):
    panels = drawn(monkeypatch, write_run(tmp_path))
    assert list(panels) == [  # nothing was clipped and there is no reference: no panels for them
        "Reward",
        "Accuracy",
        "Completion length (tokens)",
        "SFT loss (nats per token)",
        "Entropy (nats per token)",
    ]
    assert list(panels["Reward"]) == ["reward", "accuracy", "format"]
    assert panels["Accuracy"]["held out"] == ([0, 6, 9, 12], [0.0, 0.25, 0.3, 0.6])
    assert panels["Accuracy"]["train"][0] == [7, 8, 9, 10, 11, 12]
    assert panels["SFT loss (nats per token)"]["loss"][0] == [1, 2, 3, 4, 5, 6]  # not the policy loss of rl


def test_accuracy_that_stays_at_zero_is_shown(tmp_path, monkeypatch):
    log = RunLog(tmp_path)
    log.log("rl", 0, scores(0.0))
    log.close()
    assert drawn(monkeypatch, tmp_path)["Accuracy"]["held out"] == ([0], [0.0])


def test_a_run_with_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.jsonl"):
        draw_curves(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="no metrics to draw yet"):
        draw_curves(tmp_path)
    assert summary_table(tmp_path) is None


def test_summary_has_before_and_the_last_scores_of_each_stage(tmp_path):
    table = summary_table(write_run(tmp_path))
    assert [column.header for column in table.columns] == ["", "accuracy", "length", "truncated"]
    when, accuracy, length, truncated = texts(table)
    assert when == ["before", "after cold_start", "after rl"]
    assert accuracy == ["0.0%", "25.0%", "60.0%"]
    assert length == ["40.0"] * 3 and truncated == ["12.5%"] * 3


@pytest.mark.parametrize(("keep", "score"), [("best", "60.0%"), ("last", "30.0%")])
def test_the_summary_is_of_the_weights_that_a_stage_ends_with(keep, score, tiny_file, tmp_path):
    """With `keep: best` those of the checkpoint that is kept: step 3 is evaluated, but not saved."""
    settings = ["stages.rl.steps=6", "stages.rl.save_every=2", f"stages.rl.keep={keep}"]
    config, folder = load_config(tiny_file, settings), tmp_path / "written"
    log = RunLog(folder)
    for step, accuracy in {2: 0.5, 3: 0.9, 4: 0.6, 6: 0.3}.items():
        log.log("rl", step, scores(accuracy))
    log.close()
    (folder / "config.yaml").write_text(dump_config(config))
    assert texts(summary_table(folder))[:2] == [["after rl"], [score]]


def test_a_reward_models_losses_and_scores_are_no_policys(tmp_path, monkeypatch):
    log = RunLog(write_run(tmp_path))
    log.log("judge", 1, {"loss": 0.69, "accuracy": 0.5})
    log.log("judge", 1, {"eval/accuracy": 0.9, "eval/margin": 0.1})
    log.close()
    assert texts(summary_table(tmp_path))[0] == ["before", "after cold_start", "after rl"]
    panels = drawn(monkeypatch, tmp_path)
    assert panels["Accuracy"]["held out"][0] == [0, 6, 9, 12]
    assert panels["SFT loss (nats per token)"]["loss"][0] == [1, 2, 3, 4, 5, 6]


def test_summary_orders_pass_at_k_by_number_and_marks_what_is_missing(tmp_path):
    log = RunLog(tmp_path)
    log.log("rl", 0, scores(0.5))
    log.log("rl", 4, scores(0.5, **{"eval/pass@16": 0.9, "eval/pass@2": 0.6, "eval/cons@16": 0.7, "eval/format": 1.0}))
    log.close()
    table = summary_table(tmp_path)
    headers = [column.header for column in table.columns]
    assert headers == ["", "accuracy", "pass@2", "pass@16", "cons@16", "format", "length", "truncated"]
    assert texts(table)[2] == ["-", "60.0%"]
