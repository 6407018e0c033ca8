"""What does not fit is refused before anything is written, and what will not do what it says is warned of."""

import json

import numpy as np
import pytest

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.run.run import build_run, open_run

REFUSED = {
    "prompts and devices": (
        ["stages.rl.prompts_per_step=12"],
        r"stages\.rl\.prompts_per_step: 12 prompts .* 8 devices",
    ),
    "updates and devices": (["stages.rl.minibatches=8"], r"stages\.rl\.minibatches: an update of 4 sequences"),
    "micro-batches": (["stages.rl.microbatch=3"], r"stages\.rl\.microbatch: an update of 16 sequences"),
    "positions and devices": (
        ["mesh.data=1", "mesh.context=8", "max_completion_length=33"],
        "max_completion_length: 6 prompt positions .* over the 8 devices of mesh.context",
    ),
    "packed rows": (["stages.cold_start.pack_length=20"], r"stages\.cold_start\.pack_length: rows of 20 tokens"),
    "all problems of a generator": (["evaluate.problems=null"], "null means all, and this task's problems have no end"),
    "a stage's own prompts": (["stages.rl.max_prompt_length=2"], "max_prompt_length allows 1 to 2"),
    "a stage's demonstrations": (["stages.cold_start.max_completion_length=8"], "max_completion_length is 8; raise it"),
    "a weight that no stage uses": (["rewards={acuracy: 1.0}"], "rewards: no task of a stage has the reward 'acuracy'"),
    "a part that no weighted reward applies to": (
        [
            "task={mixture: [{name: plain, weight: 1, task: {name: arithmetic}, "
            "rewards: {accuracy: null, format: null, mine: {name: repetition}}}, "
            "{weight: 1, task: {name: arithmetic}}]}",
            "stages.rl.rewards={accuracy: 1.0, format: 0.2}",
        ],
        r"stages\.rl\.rewards: names accuracy, format, and a part of task\.mixture \(plain\) has mine: name one of",
    ),
    "a reward that a part could not have": (
        [
            "task={mixture: [{weight: 1, task: {name: arithmetic}, rewards: {acuracy: null}}, "
            "{weight: 1, task: {name: arithmetic}}]}"
        ],
        "task.mixture: a part is to lack the reward 'acuracy', which none would have; there are accuracy, format",
    ),
    "a judge that does not answer": (
        ["rewards={accuracy: {name: judge, url: 'http://127.0.0.1:1/v1', model: m}}"],
        r"rewards\.accuracy: the model m at http://127\.0\.0\.1:1/v1 gave no answer \(.*refused\); start it",
    ),
    "init_from": (
        ["stages.rl.init_from=/nowhere"],
        r"stages\.rl\.init_from: /nowhere is neither a folder",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case, tiny_file):
    overrides, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        open_run(load_config(tiny_file, overrides))
    assert not (tiny_file.parent / "run").exists()


def test_each_stage_is_checked_against_its_own_lengths(tiny_file):
    """A short stage packs rows that a long one could not."""
    overrides = ["stages.cold_start.pack_length=38", "stages.rl.max_completion_length=64"]
    run = build_run(load_config(tiny_file, overrides))
    run.close()
    assert [stage.batches.max_completion_length for stage in run.stages] == [32, 64]
    assert np.diff([stage.first_example for stage in run.stages]) == [3 * 16]


def test_kl_settings_without_a_kl_warn(tiny_file):
    config = load_config(tiny_file, ["stages.rl.kl={coef: 0, sync_reference_every: 5}"])
    with pytest.warns(UserWarning, match=r"stages\.rl\.kl: coef is 0, so there is no KL"):
        open_run(config).close()


def test_a_warm_up_longer_than_the_stage_warns(tiny_file):
    config = load_config(
        tiny_file, ["stages.rl.optimizer.warmup_updates=6", "stages.cold_start.optimizer.warmup_updates=2"]
    )
    with pytest.warns(UserWarning, match="rises for 6 updates, and the stage ends after 6") as said:
        open_run(config).close()
    assert len(said) == 1 and "stages.rl.optimizer.warmup_updates" in str(said[0].message)


def test_a_reward_that_compares_needs_golds(tiny_file, tmp_path):
    rows = [{"question": f"{i}+1="} for i in range(60)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = [f"stages.rl.task={{jsonl: {file}, answer: null}}"]
    with pytest.raises(
        ConfigError, match=r"stages\.rl\.rewards: accuracy compares with gold answers, and the task has"
    ):
        build_run(load_config(tiny_file, overrides))
    build_run(load_config(tiny_file, [*overrides, "stages.rl.rewards={accuracy: 0, format: 1}"])).close()
