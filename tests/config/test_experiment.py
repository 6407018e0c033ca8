"""What a stage has for itself, what it takes from the top level, and where its weights come from."""

import importlib
import pkgutil

import pytest
from pydantic import ValidationError

import r1jax.config
from r1jax.config.base import Settings
from r1jax.config.experiment import Config
from r1jax.config.rewards import ExactReward, FormatReward, OverlongReward
from r1jax.config.tasks import ArithmeticTask, CountdownTask, JsonlTask, ParquetTask, TfdsTask

MODEL = {
    "family": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
TOP = {
    "run_dir": "runs/x",
    "model": MODEL,
    "task": {"name": "arithmetic"},
    "max_prompt_length": 8,
    "max_completion_length": 32,
}


def sft(name="cold_start", **own):
    return {
        "name": name,
        "program": "sft",
        "steps": 2,
        "prompts_per_step": 4,
        "optimizer": {"learning_rate": 1e-3},
        **own,
    }


def grpo(name="rl", **own):
    return sft(name, program="grpo", group_size=4, **{"rewards": {"accuracy": 1.0}, **own})


def distill(**own):
    return sft("student", program="distill", **{"teacher": "base", **own})


def config(*stages, **top):
    return Config.model_validate(
        {key: value for key, value in {**TOP, **top}.items() if value is not None} | {"stages": [*stages]}
    )


def error_of(*stages, **top):
    with pytest.raises(ValidationError) as error:
        config(*stages, **top)
    return error.value.errors()[0]["msg"].removeprefix("Value error, ")


def test_a_stage_takes_from_the_top_level_what_it_does_not_have():
    shared = config(sft(), prompt={"template": "r1"}, evaluate={"problems": 7})
    stage = shared.stages[0]
    assert stage.task == shared.task and stage.prompt == shared.prompt and stage.evaluate == shared.evaluate
    assert (stage.max_prompt_length, stage.max_completion_length) == (8, 32)
    assert stage.name == "cold_start"


def test_defaults_of_the_top_level():
    stage = config(sft()).stages[0]
    assert stage.prompt.template == "plain" and stage.evaluate.problems == 512 and stage.rewards == {}


def test_what_a_stage_has_replaces_the_top_levels():
    own = {"task": {"name": "countdown"}, "max_prompt_length": 20, "max_completion_length": 40}
    both = config(sft(), grpo(**own))
    assert isinstance(both.stages[0].task, ArithmeticTask) and isinstance(both.stages[1].task, CountdownTask)
    assert (both.stages[1].max_prompt_length, both.stages[1].max_completion_length) == (20, 40)
    assert (both.stages[0].max_prompt_length, both.stages[0].max_completion_length) == (8, 32)


def test_prompt_and_evaluate_are_merged_key_by_key():
    both = config(
        sft(),
        grpo(prompt={"template": "r1"}, evaluate={"samples": 4}),
        prompt={"chat": True, "system": "Be brief."},
        evaluate={"problems": 9, "temperature": 0.6},
    )
    prompt, evaluate = both.stages[1].prompt, both.stages[1].evaluate
    assert (prompt.template, prompt.chat, prompt.system) == ("r1", True, "Be brief.")
    assert (evaluate.problems, evaluate.samples, evaluate.temperature) == (9, 4, 0.6)
    assert both.stages[0].prompt.template == "plain" and both.stages[0].evaluate.samples == 1


def test_a_merged_block_is_checked_as_a_whole():
    assert error_of(sft(evaluate={"samples": 4}), evaluate={"temperature": 0.0}).startswith("temperature 0 makes all 4")


def test_the_same_config_comes_out_of_its_own_dump():
    first = config(sft(prompt={"template": "r1"}), grpo(evaluate={"samples": 2}), prompt={"chat": True})
    assert Config.model_validate(first.model_dump()) == first
    assert Config.model_validate(Config.model_validate(first.model_dump()).model_dump()) == first


@pytest.mark.parametrize("key", ["task", "max_prompt_length", "max_completion_length"])
def test_what_neither_has_is_an_error_that_names_stage_and_key(key):
    own = TOP[key]
    message = error_of(sft(**{key: own}), grpo(), **{key: None})
    assert message.startswith(f"stages.rl.{key}: this key is required") and "at the top level" in message
    assert config(sft(**{key: own}), grpo(**{key: own}), **{key: None})


def test_a_config_without_stages_needs_no_task():
    assert Config.model_validate({"run_dir": "runs/x", "model": MODEL}).stages == []


def test_rewards_of_a_stage_are_those_of_its_own_block():
    both = config(grpo("a", rewards={"accuracy": 2.0, "format": 0.0}), grpo("b", rewards=None), rewards={"format": 0.5})
    assert both.stages[0].reward_weights == {"accuracy": 2.0, "format": 0.0}
    assert both.stages[1].reward_weights == {"format": 0.5}
    assert both.stages[0].reward_definitions == both.stages[1].reward_definitions == {}


def test_a_reward_is_defined_and_weighted_in_one_block():
    stage = config(grpo(rewards={"exact": {"name": "exact"}, "short": {"name": "overlong", "cache": 4, "weight": 0.3}}))
    assert stage.stages[0].reward_weights == {"exact": 1.0, "short": 0.3}
    assert set(stage.stages[0].reward_definitions) == {"exact", "short"}


def test_a_reward_is_looked_up_in_the_stage_then_at_the_top_level():
    short = {"name": "overlong", "cache": 4, "weight": 0.1}
    top = {"accuracy": {"name": "exact"}, "short": short, "form": {"name": "format"}}
    both = config(
        grpo("a", rewards={"accuracy": 2.0, "short": {"name": "overlong", "cache": 8}}),
        grpo("b", rewards=None),
        sft("c"),
        rewards=top,
    )
    a, b, c = (both.stages[i] for i in range(3))
    assert a.reward_weights == {"accuracy": 2.0, "short": 1.0}
    assert isinstance(a.reward_definitions["accuracy"], ExactReward)
    assert isinstance(a.reward_definitions["form"], FormatReward)  # without a weight: it is evaluated, not optimised
    assert a.reward_definitions["short"] == OverlongReward(name="overlong", cache=8, weight=1.0)
    assert b.reward_weights == {"short": 0.1}
    assert b.reward_definitions["short"] == OverlongReward(name="overlong", cache=4, weight=0.1)
    assert isinstance(b.reward_definitions["accuracy"], ExactReward)
    assert set(c.reward_definitions) == set(top)


@pytest.mark.parametrize(
    ("top", "message"),
    [
        (None, "rewards has none with a weight"),
        ({"accuracy": 0.0}, "rewards has none with a weight"),
        ({"accuracy": {"name": "exact"}}, "rewards has none with a weight"),
        ({"accuracy": {"name": "exact", "weight": 0.0}}, "rewards has none with a weight"),
        ({"format": 1.0}, "dynamic_sampling.reward is 'accuracy', and rewards has format"),
    ],
)
def test_rewards_of_the_top_level_are_checked_for_each_stage(top, message):
    assert error_of(grpo(rewards=None, dynamic_sampling={"reward": "accuracy"}), rewards=top).startswith(message)


@pytest.mark.parametrize("init_from", [None, "base", "cold_start", "runs/other", "Qwen/Qwen2.5-0.5B"])
def test_init_from(init_from):
    assert config(sft(), grpo(init_from=init_from)).stages[1].init_from == init_from


@pytest.mark.parametrize("init_from", ["rl", "later"])
def test_init_from_a_stage_that_does_not_come_before(init_from):
    message = error_of(sft(), grpo(init_from=init_from), grpo("later"))
    assert message.startswith(f"stages.rl.init_from: stage {init_from} does not come before this one")


@pytest.mark.parametrize("teacher", ["student", "later"])
def test_a_teacher_that_does_not_come_before(teacher):
    message = error_of(grpo(), distill(teacher=teacher), sft("later"))
    assert message.startswith(f"stages.student.teacher: stage {teacher} does not come before this one")


def test_a_teacher_that_trains_no_weights():
    reject = {"name": "samples", "program": "reject", "steps": 1, "prompts_per_step": 4, "group_size": 2}
    message = error_of(reject, distill(teacher="samples"))
    assert message.startswith("stages.student.teacher: stage samples is of program reject")


def test_a_distribution_at_temperature_0_has_no_divergence():
    assert error_of(distill(temperature=0.0)).startswith("temperature 0 is greedy, and a distribution")


def test_no_stage_is_called_base():
    assert error_of(sft("base")).startswith("stages.base: base is the model before any training")


def test_two_stages_of_one_name():
    assert error_of(sft("a"), sft("a")).startswith("two stages are named a")


def test_the_length_changes_in_the_middle_of_a_run():
    """R1-Zero: 32,768 tokens until step 8,200, then 65,536."""
    long = config(grpo("short"), grpo("long", max_completion_length=65_536), max_completion_length=32_768)
    assert [long.stages[i].max_completion_length for i in range(2)] == [32_768, 65_536]


def settings_classes(of=Settings):
    return [kind for sub in of.__subclasses__() for kind in (sub, *settings_classes(sub))]


def test_there_are_few_settings():
    """Those that each class declares itself; `name` and `program` say which class a block is."""
    for module in pkgutil.iter_modules(r1jax.config.__path__):
        importlib.import_module(f"r1jax.config.{module.name}")
    counts = {}
    for kind in {kind for kind in settings_classes() if kind.__module__.startswith("r1jax.")}:
        inherited = {name for base in kind.__mro__[1:] for name in getattr(base, "model_fields", ())}
        counts[kind.__name__] = len(set(kind.model_fields) - inherited - {"name", "program"})
    assert sum(counts.values()) <= 179, counts


def test_evaluation_sets_are_files_blocks_or_the_test_splits():
    sets = ["test", "aime.jsonl", "math.parquet", {"tfds": "gsm8k", "answer": None}, {"jsonl": "a", "question": "q"}]
    read = config(sft(), decontaminate=sets).decontaminate
    assert read == [
        "test",
        JsonlTask(jsonl="aime.jsonl", answer=None),
        ParquetTask(parquet="math.parquet", answer=None),
        TfdsTask(tfds="gsm8k", answer=None),
        JsonlTask(jsonl="a", question="q"),
    ]
    again = config(sft(), decontaminate=[each if each == "test" else each.model_dump() for each in read])
    assert again.decontaminate == read
    for wrong in ("test", [{"name": "arithmetic"}], [{"jsonl": "a", "questions": "q"}], [3]):
        with pytest.raises(ValidationError, match="decontaminate"):
            config(sft(), decontaminate=wrong)
