import contextlib
import json

import pytest
from tiny import TINY

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.run.run import build_run, open_run
from r1jax.run.stages import data_file, finished_parts

SAMPLES = "  - {name: samples, program: reject, steps: 2, prompts_per_step: 8, group_size: 2}\n"
LAST = """  - name: last
    program: sft
    steps: 1
    prompts_per_step: 8
    task: {stage: TASK}
    optimizer: {learning_rate: 1e-2}
"""


def config_of(folder, more):
    (folder / "c.yaml").write_text(TINY.format(folder=folder / "run") + more)
    return load_config(folder / "c.yaml")


@pytest.mark.parametrize("task", ["rl", "later", "nothing"])
def test_data_of_no_earlier_reject_stage_is_refused(tmp_path, task):
    with pytest.raises(ConfigError, match=rf"stages.last.task: '{task}' is no earlier stage that makes data.*samples"):
        config_of(tmp_path, SAMPLES + LAST.replace("TASK", task) + SAMPLES.replace("samples", "later"))


def test_weights_of_a_stage_that_trains_none_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"stages.last.init_from: stage samples is of program reject"):
        config_of(tmp_path, SAMPLES + LAST.replace("TASK", "samples").replace("steps", "init_from: samples\n    steps"))


def test_rewards_that_would_not_grade_a_stages_data_are_refused(tmp_path):
    last = LAST.replace("TASK", "samples") + "    rewards: {accuracy: {name: exact}}\n"
    with pytest.raises(ConfigError, match=r"stages.last.rewards: accuracy is defined here, and .* stage samples"):
        config_of(tmp_path, SAMPLES + last)
    same = SAMPLES.replace("group_size: 2", "group_size: 2, rewards: {accuracy: {name: exact, weight: 0.5}}")
    config_of(tmp_path, same + last)  # the same definition, of another weight
    part = "{mixture: [{weight: 1, task: {stage: samples}, rewards: {accuracy: {name: exact}}}, {weight: 1, task: X}]}"
    mixed = LAST.replace("{stage: TASK}", part.replace("X", "{name: arithmetic}"))
    with pytest.raises(ConfigError, match="rewards: the data of stage samples is graded by that stage's rewards"):
        config_of(tmp_path, SAMPLES + mixed)


def test_a_stage_waits_for_the_data_it_reads(tmp_path):
    run = build_run(config_of(tmp_path, SAMPLES + LAST.replace("TASK", "samples")))
    with contextlib.closing(run):
        assert [stage.waits_for for stage in run.stages] == [[], [], [], ["samples"]]
        assert run.config.source("last") == "rl" == run.config.source("samples")
        with pytest.raises(ConfigError, match=r"data/samples.jsonl is missing"):
            _ = run.stage("last").batches
        file = data_file(run.folder, "samples")
        file.parent.mkdir(parents=True)
        rows = [{"question": "1+2=", "answer": "3", "completion": "3", "part": 0, "data": {}}] * 9
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert run.stage("last").batches.size("train") == 9
        # The prompts of a stage go on where the last stage of the same task ended.
        assert [stage.first_example for stage in run.stages] == [0, 48, 72, 0]


def test_stages_share_the_model_of_the_stage_they_come_from(tmp_path):
    own = LAST.replace("task: {stage: TASK}", "init_from: base\n    model: MODEL").replace("last", "student")
    block = "{hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 8, "
    block += "num_key_value_heads: 8, head_dim: 2, family: llama, dtype: float32}"
    after = LAST.replace("    task: {stage: TASK}\n", "")
    back = after.replace("last", "back").replace("steps", "init_from: rl\n    steps")
    run = build_run(config_of(tmp_path, own.replace("MODEL", block) + after + back))
    run.close()
    assert [stage.model.config.hidden_size for stage in run.stages] == [16, 16, 8, 8, 16]
    assert [run.config.model_owner(s.settings.name) for s in run.stages] == [None, None, "student", "student", None]


def test_parts_are_counted_by_those_of_the_first_process(tmp_path):
    file = data_file(tmp_path, "samples")
    assert finished_parts(file) == 0
    file.with_suffix("").mkdir(parents=True)
    for name in ("000001-0.jsonl", "000001-1.jsonl", "000002-0.jsonl.tmp"):
        (file.with_suffix("") / name).write_text("")
    assert finished_parts(file) == 1


def test_a_stage_may_train_on_the_prompts_of_a_pass_rate(tmp_path):
    band = "{stage: samples, pass_rate: [0.5, 0.9]}"
    with pytest.raises(
        ConfigError, match=r"stages\.last\.task: pass_rate chooses prompts without demonstrations, and sft"
    ):
        config_of(tmp_path, SAMPLES + LAST.replace("{stage: TASK}", band))
    last = LAST.replace("{stage: TASK}", band).replace("sft", "grpo").replace("steps", "group_size: 2\n    steps")
    run = build_run(config_of(tmp_path, SAMPLES + last + "    rewards: {accuracy: 1}\n"))
    with contextlib.closing(run):
        assert run.stage("last").waits_for == ["samples"]
        file = data_file(run.folder, "samples").with_suffix(".prompts.jsonl")
        file.parent.mkdir(parents=True)
        rows = [{"question": f"{i}+2=", "answer": "3", "part": 0, "data": {}, "pass_rate": i / 8} for i in range(9)]
        file.write_text("".join(json.dumps(row | {"samples": 8, "kept": 0}) + "\n" for row in rows))
        with pytest.warns(UserWarning, match="4 of 9 prompts"):
            batches = run.stage("last").batches
        assert sorted(batches.example("train", i).question for i in range(4)) == [f"{i}+2=" for i in (4, 5, 6, 7)]


def test_questions_of_evaluation_sets_are_removed_and_listed(tmp_path):
    for name, numbers in (("train", range(60)), ("test", range(60, 70)), ("more", range(99)), ("other", (7, 9))):
        rows = [{"question": f"{i}+1=", "answer": i + 1, "completion": f"{i + 1}"} for i in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = f"{{jsonl: {tmp_path}/train.jsonl, test: {tmp_path}/test.jsonl}}"
    more = f"{{jsonl: {tmp_path}/more.jsonl, completion: completion}}"
    mixture = f"{{mixture: [{{weight: 1, task: {{stage: samples}}}}, {{weight: 1, task: {more}}}]}}"
    samples = SAMPLES.replace("program", f"task: {table}, program") + LAST.replace("{stage: TASK}", mixture)
    (tmp_path / "c.yaml").write_text(TINY.format(folder=tmp_path / "run") + samples)
    config = load_config(tmp_path / "c.yaml", [f"decontaminate=[test, {tmp_path}/other.jsonl]"])
    held_out = {row["question"] for row in map(json.loads, (tmp_path / "test.jsonl").read_text().splitlines())}
    with pytest.warns(UserWarning, match=r"\d of 60 training .* stage samples .*\((\d of test, 2|2) of .*other"):
        run = open_run(config)
    with contextlib.closing(run):
        file = data_file(run.folder, "samples")
        rows = [{"question": "1+2=", "answer": "3", "completion": "3", "part": 0, "data": {}}] * 9
        file.parent.mkdir(parents=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        # The test set of a part that is made after the stage before it counts for all stages.
        with pytest.warns(UserWarning, match="training questions of stage last"):
            own, later = run.stage("last").batches.task.parts
        assert own.size("train") == 9
        held_out |= {later.example("test", i).question for i in range(later.size("test"))}
        run.list_removed(run.stage("last"))
        lists = {
            name: [json.loads(line) for line in (run.folder / f"decontaminated/{name}.jsonl").read_text().splitlines()]
            for name in ("samples", "last")
        }
        assert {file.name for file in (run.folder / "decontaminated").iterdir()} == {"samples.jsonl", "last.jsonl"}
        first = run.stage("samples").batches.task
        for name, table, numbers in (("samples", first, range(60)), ("last", later, range(99))):
            questions = {f"{i}+1=" for i in numbers}
            kept = {table.example("train", i).question for i in range(table.size("train"))}
            removed = {row["question"]: row["set"] for row in lists[name]}
            assert removed.keys() == (questions & held_out | {"7+1=", "9+1="} & questions) - _tests(table) and removed
            assert kept == questions - removed.keys() - _tests(table)


def _tests(table):
    return {table.example("test", i).question for i in range(table.size("test"))}


def test_the_rest_of_a_mixture_that_waits_is_looked_at_before_anything_runs(tmp_path):
    part = "{weight: 1, task: {jsonl: " + str(tmp_path / "none.jsonl") + "}}"
    mixed = LAST.replace("{stage: TASK}", "{mixture: [{weight: 1, task: {stage: samples}}, " + part + "]}")
    with pytest.raises(ConfigError, match=r"task.jsonl: there is no file .*none.jsonl"):
        build_run(config_of(tmp_path, SAMPLES + mixed))


def test_a_reward_that_a_waiting_stage_will_not_have_is_refused_before_anything_runs(tmp_path):
    rl = """  - {name: again, program: grpo, task: {stage: samples}, rewards: {acuracy: 1.0}, steps: 1,
     prompts_per_step: 8, group_size: 2, optimizer: {learning_rate: 1e-3}}
"""
    with pytest.raises(ConfigError, match=r"stages.again.rewards: no reward 'acuracy'; there are accuracy, format"):
        build_run(config_of(tmp_path, SAMPLES + rl))
    build_run(config_of(tmp_path, SAMPLES + rl.replace("acuracy", "accuracy"))).close()


def test_a_stage_that_waits_is_as_wide_as_was_checked(tmp_path):
    """The prompts that are kept may be shorter than those that were sampled on."""
    questions = [*(f"{i}+1=" for i in range(60)), "5+11="]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps({"question": q, "answer": 1}) + "\n" for q in questions))
    samples = SAMPLES.replace(
        "program", f"task: {{jsonl: {tmp_path}/sums.jsonl, test: {tmp_path}/sums.jsonl}}, program"
    )
    run = build_run(config_of(tmp_path, samples + LAST.replace("TASK", "samples")))
    with contextlib.closing(run):
        last, file = run.stage("last"), data_file(run.folder, "samples")
        file.parent.mkdir(parents=True)
        file.write_text(
            json.dumps({"question": "1+1=", "answer": "2", "completion": "2", "part": 0, "data": {}}) + "\n"
        )
        assert last.batches.width == last.expected.batches.width == {"train": 5, "test": 5}
        assert last.batches.size("train") == 1 and last.expected.batches.size("train") == 61
