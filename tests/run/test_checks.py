"""What does not fit is refused before anything is written, and what will not do what it says is warned of."""

import json

import numpy as np
import pytest
from tiny import TINY

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
        r"stages\.rl\.init_from: /nowhere is neither a folder .*; the earlier stages with a policy are cold_start$",
    ),
    "pairs that no column is named of": (
        [
            "stages.cold_start.program=reward_model",
            "stages.cold_start.task={jsonl: pairs.jsonl}",
            "stages.rl.init_from=base",
        ],
        r"stages\.cold_start\.task: a reward model is trained on pairs or on labels; name the columns",
    ),
    "a data set of a stage": (
        ["stages.rl.task={jsonl: none.jsonl}"],
        r"^stages\.rl\.task\.jsonl: there is no file none",
    ),
}


WAITING = """
  - {name: samples, program: reject, steps: 2, prompts_per_step: 8, group_size: 2}
  - name: last
    program: sft
    steps: 1
    prompts_per_step: 8
    task: {stage: samples}
    optimizer: {learning_rate: 1e-2}
"""
MIXED = "stages.last.task={mixture: [{weight: 1, task: {stage: samples}}, {weight: 1, task: PART}]}"
REFUSED_WHILE_WAITING = {
    "prompts and devices": (["prompts_per_step=12"], "prompts_per_step: 12 prompts cannot be split over 8 devices"),
    "micro-batches": (["microbatch=3"], "microbatch: an update of 8 sequences cannot be split"),
    "packed rows": (["pack_length=20"], r"pack_length: rows of 20 .* 6 \+ 32; need at least 38"),
    "positions and devices": (
        ["max_completion_length=33", "mesh={data: 4, context: 2}"],
        r"max_completion_length: 6 prompt positions \+ 33 = 39 cannot be split over the 2 devices of mesh.context",
    ),
    "all problems of a generator": (["evaluate.problems=null"], r"evaluate\.problems: null means all"),
    "more prompts than there will be": (["prompts_per_step=64"], "prompts_per_step: 64 .* has at most 32 to train on"),
    "prompts of a pass rate": (
        ["prompts_per_step=32", "task.pass_rate=[0.5, 1]", "program=grpo", "group_size=2", "rewards={accuracy: 1}"],
        "prompts_per_step: 32 .* has at most 16 to train on",
    ),
    "a teacher's devices": (
        ["program=distill", "teacher=rl", "teacher_mesh={data: 3}"],
        "teacher_mesh: ",
    ),
    "a part without demonstrations": (["task=FILE"], "task: the task has no demonstration for '1\\+1='"),
    "a part that does not exist": (["task={jsonl: none.jsonl}"], r"task\.jsonl: there is no file none\.jsonl"),
    "chat messages": (["task=CHAT"], "task: the task's questions are chat messages, and prompt.chat is false"),
    "the prompt of the data": (["prompt.chat=true"], r"prompt\.chat is true, and the character tokenizer has no"),
    "demonstrations of a generator": (
        ["task={name: arithmetic, max_digits: 2, direct_share: 0.0}", "max_completion_length=16"],
        "task: the demonstration of .* max_completion_length is 16",
    ),
    "test problems": (["max_prompt_length=3"], r"task: the prompt '.*' has . tokens; max_prompt_length allows 1 to 3"),
}


@pytest.mark.parametrize("case", REFUSED_WHILE_WAITING)
def test_what_will_not_fit_a_stage_that_waits_is_refused_before_anything_runs(case, tmp_path):
    overrides, message = REFUSED_WHILE_WAITING[case]
    for name, question in (("FILE", "{i}+1="), ("CHAT", [{"role": "user", "content": "{i}+1="}])):
        rows = [json.dumps({"question": question, "answer": i + 1}).replace("{i}", str(i)) for i in range(1, 60)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    (tmp_path / "c.yaml").write_text(TINY.format(folder=tmp_path / "run") + WAITING)
    given = []
    for override in overrides:
        for name in ("FILE", "CHAT"):
            override = override.replace(f"task={name}", f"task={{jsonl: {tmp_path / name}.jsonl}}")
        key, _, value = override.partition("=")
        given.append(
            MIXED.replace("PART", value) if key == "task" else f"{'' if key == 'mesh' else 'stages.last.'}{override}"
        )
    with pytest.raises(ConfigError, match=rf"^stages\.last\.{message}"):
        open_run(load_config(tmp_path / "c.yaml", given))
    assert not (tmp_path / "run").exists()


def test_the_data_of_several_stages_that_are_awaited_counts_together(tmp_path):
    """A step may have more prompts than the smaller of two data sets will."""
    more = WAITING.replace("name: samples, program: reject, steps: 2", "name: few, program: reject, steps: 1")
    few = more[: more.index("  - name: last")]  # 16 examples at most
    (tmp_path / "c.yaml").write_text(TINY.format(folder=tmp_path / "run") + few + WAITING)
    both = "stages.last.task={mixture: [{weight: 1, task: {stage: few}}, {weight: 2, task: {stage: samples}}]}"
    build_run(load_config(tmp_path / "c.yaml", [both, "stages.last.prompts_per_step=24"])).close()
    with pytest.raises(ConfigError, match=r"prompts_per_step: 64 .* has at most 48 to train on"):
        build_run(load_config(tmp_path / "c.yaml", [both, "stages.last.prompts_per_step=64"]))


def test_warm_ups_of_stages_that_wait_are_warned_of_once(tmp_path):
    (tmp_path / "c.yaml").write_text(TINY.format(folder=tmp_path / "run") + WAITING)
    with pytest.warns(UserWarning, match=r"stages\.last\.optimizer\.warmup_updates: .* rises for 2") as said:
        open_run(load_config(tmp_path / "c.yaml", ["stages.last.optimizer.warmup_updates=2"])).close()
    assert len(said) == 1


def test_a_stage_that_will_drop_what_is_sampled_for_it_is_warned_of(tmp_path):
    (tmp_path / "c.yaml").write_text(TINY.format(folder=tmp_path / "run") + WAITING)
    with pytest.warns(UserWarning, match=r"stages\.last\.max_completion_length: 2, .* have up to \d+ tokens"):
        open_run(load_config(tmp_path / "c.yaml", ["stages.last.max_completion_length=2"])).close()


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


@pytest.mark.parametrize(
    ("override", "warning"),
    [
        (
            "stages.rl.max_completion_length=5",
            "no completion can .*: with a stop token these are 7 tokens; raise max_c",
        ),
        ("stop=['</think>']", r"no completion can have the format <think>\d</think><answer>\d</answer>: a stop token"),
        ("prompt.template='{question}<think></think>'", "prompts end in a closed <think>, so that completions have no"),
    ],
)
def test_a_format_that_no_completion_can_have_is_warned_of(override, warning, tiny_file):
    with pytest.warns(UserWarning, match=rf"stages\.rl\.(rewards|prompt): {warning}"):
        open_run(load_config(tiny_file, [override, "max_prompt_length=12"])).close()


def test_a_format_that_completions_can_have_is_not(tiny_file, recwarn):
    open_run(load_config(tiny_file)).close()
    assert not [warned for warned in recwarn if "format" in str(warned.message)]
