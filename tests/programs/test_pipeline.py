"""Both programs end to end on a tiny model: what a run leaves behind, how it resumes, what it refuses and stops at."""

import json
import shutil

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from r1jax.cli import app
from r1jax.config.load import load_config
from r1jax.programs import grpo, pipeline
from r1jax.programs.pipeline import train
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings

GRPO_METRICS = {
    "reward", "reward_std", "rewards/accuracy/mean", "rewards/format/std", "frac_reward_zero_std", "num_tokens",
    "completions/mean_length", "completions/clipped_ratio", "kl", "entropy", "clip_ratio/region_mean", "grad_norm",
    "learning_rate", "loss", "step_time", "tokens_per_second", "sampling/sampling_logp_difference/mean", "compiles",
}  # fmt: skip


def weights_of(folder):
    loaded = load_model(str(folder))
    return loaded.name, jax.tree.map(np.asarray, loaded.model.weights)


def test_what_a_run_leaves_behind(trained):
    config, folder = trained
    rows = read_metrics(folder)
    assert [(r["stage"], r["step"]) for r in rows if "loss" in r] == [
        *(("cold_start", s) for s in (1, 2, 3)),
        *(("rl", s) for s in (1, 2, 3)),
    ]
    evaluated = [(r["stage"], r["step"]) for r in rows if "eval/accuracy" in r]
    assert evaluated == [("cold_start", 0), ("cold_start", 3), ("rl", 2), ("rl", 3)]
    assert set(rows[-2]) >= GRPO_METRICS
    assert rows[-1].keys() >= {"eval/accuracy", "eval/format", "eval/pass@2", "eval/cons@2", "eval/mean_length"}
    assert load_config(folder / "config.yaml") == config
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (
        manifest["seed"] == 0
        and manifest["command"]
        and len(manifest["devices"]) == 8
        and [len(hashed) for hashed in manifest["data_fingerprints"].values()] == [32, 32]
    )
    lines = (folder / "completions" / "rl-000002.jsonl").read_text().splitlines()
    assert len(lines) == 32 and set(json.loads(lines[0])["rewards"]) == {"accuracy", "format"}


def test_nothing_compiles_after_the_first_step(trained):
    """Strict in the fixture; here the count itself: the first steps compile, later ones do not."""
    rows = [r for r in read_metrics(trained[1]) if "loss" in r]
    assert [r["compiles"] > 0 for r in rows] == [True, False, False, True, False, False]


def test_sampler_and_trainer_agree(trained):
    rows = [r for r in read_metrics(trained[1]) if "reward" in r]
    assert rows[0]["sampling/sampling_logp_difference/mean"] < 1e-4
    assert abs(rows[0]["kl"]) < 1e-3


def test_a_finished_run_does_nothing_more(trained):
    config, folder = trained
    before = (folder / "metrics.jsonl").read_bytes()
    train(config)
    assert (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("lost", [["rl/3"], ["rl"], ["rl", "cold_start/3"], ["rl", "cold_start"]])
def test_resumes_from_any_checkpoint_to_the_same_bytes(lost, trained, tmp_path):
    config, folder = trained
    again = tmp_path / "run"
    shutil.copytree(folder, again)
    for part in lost:
        shutil.rmtree(again / "checkpoints" / part)
    with (again / "metrics.jsonl").open("ab") as file:
        file.write(b'{"stage": "rl", "st')  # killed in the middle of a write
    train(config.model_copy(update={"run_dir": str(again)}))
    assert [without_timings(r) for r in read_metrics(again)] == [without_timings(r) for r in read_metrics(folder)]
    (name, params), (other_name, other) = weights_of(folder), weights_of(again)
    assert name == other_name == "rl-3"
    jax.tree.map(np.testing.assert_array_equal, params, other)


def test_other_settings_are_refused(trained):
    _, folder = trained
    result = CliRunner().invoke(app, ["train", str(folder / "config.yaml"), "stages.cold_start.steps=9"])
    assert (
        result.exit_code == 2
        and "was started with stages.cold_start.steps=3, this config has stages.cold_start.steps=9" in result.stderr
    )


def test_eval_and_sample(trained):
    _, folder = trained
    result = CliRunner().invoke(app, ["eval", str(folder), "evaluate.samples=4"])
    assert result.exit_code == 0, result.output
    assert "accuracy" in result.stdout and "cons@4" in result.stdout
    assert len((folder / "eval" / "rl-3.jsonl").read_text().splitlines()) == 12 * 4
    result = CliRunner().invoke(app, ["sample", str(folder), "1+2=", "-n", "3", "--temperature", "1.0"])
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 3
    result = CliRunner().invoke(app, ["eval", str(folder), "model.hidden_size=8"])
    assert result.exit_code == 2 and "model, tokenizer and stages of a trained run are fixed" in result.stderr
    countdown = "{name: countdown, numbers: 2, max_number: 9}"  # the run's alphabet stays that of arithmetic
    result = CliRunner().invoke(app, ["eval", str(folder), "--task", countdown, "max_prompt_length=12"])
    assert result.exit_code == 2 and "is not in the alphabet" in result.stderr, result.output
    result = CliRunner().invoke(app, ["sample", str(folder), "what?"])
    assert result.exit_code == 2 and "'w' at position 0" in result.stderr


@pytest.mark.slow
def test_non_finite_loss_stops_the_run(tiny, tmp_path, monkeypatch):
    weights = pipeline.PROGRAMS["sft"]

    def poisoned(*given):
        return jax.tree.map(lambda x: x * np.nan, weights(*given))

    monkeypatch.setitem(pipeline.PROGRAMS, "sft", poisoned)
    with pytest.raises(FloatingPointError, match=r"stage rl, step 1: loss is nan.*there is no checkpoint yet"):
        train(tiny)
    assert not list((tmp_path / "run" / "checkpoints" / "rl").glob("[0-9]*"))


@pytest.mark.slow
def test_a_run_that_diverges_stops_before_it_is_saved(tiny_file, tmp_path):
    optimizer = "stages.cold_start.optimizer={learning_rate: 1e12, weight_decay: 1e12}"
    result = CliRunner().invoke(app, ["train", str(tiny_file), optimizer])
    assert result.exit_code == 1
    line = result.stderr.strip().splitlines()[-1]
    assert line == "stopped: stage cold_start, step 1: param_norm is inf; there is no checkpoint yet"
    assert not list((tmp_path / "run" / "checkpoints" / "cold_start").glob("[0-9]*"))


def test_the_gate_refuses_a_sampler_that_disagrees():
    name = "sampling/sampling_logp_difference/mean"
    grpo.check_sampler({name: 5e-5}, "float32", "rl", 1)
    for value in (1e-3, float("nan")):
        with pytest.raises(FloatingPointError, match="sampler and trainer differ"):
            grpo.check_sampler({name: value}, "float32", "rl", 1)


@pytest.mark.slow
def test_countdown_trains_too_and_reinforce(tiny_file, tmp_path):
    overrides = ["task={name: countdown, numbers: 2, max_number: 9}", "max_prompt_length=8", "max_completion_length=40"]
    overrides += ["stages.rl.loss={kind: reinforce}", "stages.rl.minibatches=1"]
    config = load_config(tiny_file, [*overrides, "stages.cold_start.steps=2", "stages.rl.steps=2"])
    train(config)
    rows = [r for r in read_metrics(tmp_path / "run") if "loss" in r]
    assert {r["stage"] for r in rows} == {"cold_start", "rl"}
    assert "approx_kl" in rows[-1] and not [name for name in rows[-1] if name.startswith(("ratio/", "clip_ratio/"))]


@pytest.mark.slow
def test_rewards_that_hang_or_crash_spoil_only_their_own_samples(tiny_file, tmp_path):
    """One sample in a few hangs, another ends its worker; all others have their scores, and the run ends."""
    (tmp_path / "mine.py").write_text(
        "import os, time\n"
        "def hangs(example, completion):\n"
        "    while completion.length % 10 == 0:\n"
        "        time.sleep(1)\n"
        "    return completion.length / 100\n"
        "def crashes(example, completion):\n"
        "    if completion.length % 7 == 0:\n"
        "        os._exit(1)\n"
        "    return 1.0\n"
    )
    file = tmp_path / "mine.py"
    own = (
        f"{{hangs: {{function: '{file}:hangs', seconds: 2.0}}, crashes: {{function: '{file}:crashes', seconds: 60.0}}}}"
    )
    weights = "stages.rl.rewards={accuracy: 1.0, hangs: 1.0, crashes: 0.5}"
    run = train(load_config(tiny_file, [f"rewards={own}", weights, "stages.rl.steps=2", "stages.cold_start.steps=1"]))
    rows = [json.loads(x) for file in (run.folder / "completions").iterdir() for x in file.read_text().splitlines()]
    assert (
        len(rows) == 64 and any(row["length"] % 10 == 0 for row in rows) and any(row["length"] % 7 == 0 for row in rows)
    )
    for row in rows:
        length, reasons = row["length"], row["reasons"]
        assert row["rewards"]["hangs"] == (None if length % 10 == 0 else pytest.approx(length / 100)), row
        assert row["rewards"]["crashes"] == (None if length % 7 == 0 else 1.0), row
        assert reasons.get("hangs") == ("timeout" if length % 10 == 0 else None)
        assert reasons.get("crashes") == ("crash" if length % 7 == 0 else None)
        if None in row["rewards"].values():
            assert row["advantage"] == 0
    (first, *_) = (r for r in read_metrics(run.folder) if "rewards/hangs/timeout" in r)
    assert 0 < first["rewards/hangs/timeout"] <= first["frac_reward_none"] < 1


def test_evaluations_can_be_left_out(tiny_file, trained, tmp_path):
    none = ["stages.cold_start.evaluate.problems=0", "stages.rl.evaluate.before=false"]
    ended = CliRunner().invoke(app, ["train", str(tiny_file), *none])
    assert ended.exit_code == 0, ended.output
    rows = read_metrics(tmp_path / "run")
    assert [(r["stage"], r["step"]) for r in rows if "eval/accuracy" in r] == [("rl", 2), ("rl", 3)]
    jax.tree.map(np.testing.assert_array_equal, weights_of(tmp_path / "run")[1], weights_of(trained[1])[1])


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("table={base: base}", "evaluate.problems: 0 evaluates nothing, and table compares stages by evaluations"),
        ("stages.rl.keep=best", "keep: best compares held-out accuracies, and evaluate.problems is 0"),
    ],
)
def test_what_needs_evaluations_refuses_to_have_none(override, reason, tiny_file):
    refused = CliRunner().invoke(
        app, ["train", str(tiny_file), "evaluate.problems=0", "stages.rl.save_every=1", override]
    )
    assert refused.exit_code == 2 and reason in refused.stderr, refused.output


def test_eval_of_no_problems_is_refused(trained):
    refused = CliRunner().invoke(app, ["eval", str(trained[1]), "evaluate.problems=0"])
    assert refused.exit_code == 2 and "evaluate.problems: 0 evaluates nothing; give a number, or null" in refused.stderr
