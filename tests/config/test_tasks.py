"""Settings of tasks: which one a block is, and what is refused."""

import pytest
from pydantic import TypeAdapter, ValidationError

from r1jax.config.tasks import (
    ArithmeticTask,
    GymTask,
    JsonlTask,
    MixturePart,
    MixtureTask,
    ParquetTask,
    StageTask,
    TaskSettings,
    TfdsTask,
    sampled_task,
    stages_read,
)

ADAPTER = TypeAdapter(TaskSettings)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"name": "arithmetic"}, ArithmeticTask(name="arithmetic")),
        ({"jsonl": "a", "test": "b"}, JsonlTask(jsonl="a", test="b")),
        ({"parquet": "a", "columns": ["x"]}, ParquetTask(parquet="a", columns=["x"])),
        ({"tfds": "gsm8k", "test": "validation"}, TfdsTask(tfds="gsm8k", test="validation")),
        ({"gym": "chain_sum", "arguments": {"max_terms": 3}}, GymTask(gym="chain_sum", arguments={"max_terms": 3})),
    ],
)
def test_the_key_or_the_name_decides_which_task_it_is(block, expected):
    assert ADAPTER.validate_python(block) == expected
    parts = [{"weight": 1.0, "task": block}, {"weight": 2.0, "task": block}]
    mixture = ADAPTER.validate_python({"mixture": parts})
    assert isinstance(mixture, MixtureTask) and [part.task for part in mixture.mixture] == [expected] * 2


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"name": "arithmetics"},
        {"name": "arithmetic", "min_digits": 4},
        {"name": "arithmetic", "direct_share": 1.5},
        {"name": "countdown", "numbers": 1},
        {"jsonl": "a", "columns": "x"},
        {"mixture": [{"weight": 1.0, "task": {"jsonl": "a"}}]},
        {"mixture": [{"weight": 0.0, "task": {"jsonl": "a"}}, {"weight": 1.0, "task": {"jsonl": "a"}}]},
        {"mixture": [{"weight": 1.0, "task": {"mixture": []}}, {"weight": 1.0, "task": {"jsonl": "a"}}]},
    ],
)
def test_what_cannot_be_a_task_is_refused(block):
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(block)


def test_parts_of_a_mixture_have_names_of_their_own():
    part = {"name": "math", "weight": 1.0, "task": {"jsonl": "a"}, "rewards": {"format": None}}
    with pytest.raises(ValidationError, match="two parts are named math; each needs a name of its own, or none"):
        ADAPTER.validate_python({"mixture": [part, part]})
    mixture = ADAPTER.validate_python({"mixture": [part, part | {"name": None}, part | {"name": None}]}).mixture
    assert [part.name for part in mixture] == ["math", None, None] and mixture[0].rewards == {"format": None}


def test_a_part_of_a_mixture_cannot_weigh_its_rewards():
    part = {"weight": 1.0, "task": {"jsonl": "a"}, "rewards": {"accuracy": {"name": "exact", "weight": 0.5}}}
    with pytest.raises(ValidationError, match="accuracy has a weight, and a part only defines rewards"):
        ADAPTER.validate_python({"mixture": [part, part]})


def test_a_stages_data_becomes_the_task_that_was_sampled_on():
    sums, differences = ArithmeticTask(name="arithmetic"), ArithmeticTask(name="arithmetic", operators="-")
    source = MixtureTask(mixture=[MixturePart(weight=1, task=sums), MixturePart(weight=3, task=differences)])
    tasks = {"samples": source, "again": StageTask(stage="samples")}
    assert sampled_task(sums, tasks.get) == sums
    assert sampled_task(tasks["again"], tasks.get) == source
    parts = [MixturePart(weight=2, task=StageTask(stage="again")), MixturePart(weight=5, task=sums)]
    mixed = sampled_task(MixtureTask(mixture=parts), tasks.get)
    assert [(part.weight, part.task) for part in mixed.mixture] == [(0.5, sums), (1.5, differences), (5, sums)]
    assert stages_read(MixtureTask(mixture=parts)) == ["again"] and stages_read(sums) == []


def test_conversations_and_preferences_have_no_golds_unless_a_column_is_named():
    assert ADAPTER.validate_python({"jsonl": "a"}).answer == "answer"
    assert ADAPTER.validate_python({"jsonl": "a", "messages": "m"}).answer is None
    assert ADAPTER.validate_python({"jsonl": "a", "chosen": "c", "rejected": "r"}).answer is None
    assert ADAPTER.validate_python({"jsonl": "a", "label": "l", "response": "r"}).answer is None
    assert ADAPTER.validate_python({"jsonl": "a", "messages": "m", "answer": "gold"}).answer == "gold"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"messages": "m", "completion": "c"}, "completion and messages are two kinds of data"),
        ({"chosen": "c", "rejected": "r", "label": "l", "response": "r"}, "chosen and label are two kinds of data"),
        ({"chosen": "c"}, "chosen and rejected name the two responses of a pair; give both"),
        ({"preference": "p"}, "chosen and rejected name the two responses of a pair; give both"),
        ({"label": "l"}, "label is about the column that response names; give both"),
        ({"response": "r"}, "label is about the column that response names; give both"),
        ({"choices": "c", "messages": "m"}, "choices belong to the column question, and messages has questions too"),
    ],
)
def test_columns_that_do_not_fit_together(columns, message):
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python({"jsonl": "a", **columns})


def test_the_limits_of_a_pass_rate():
    for block in ({"jsonl": "a"}, {"stage": "samples"}):
        assert ADAPTER.validate_python({**block, "pass_rate": [0, 0.5]}).pass_rate == [0, 0.5]
        for wrong in ([0.5, 0.2], [0.5], [0, 1.5], [0, 0.5, 1], 0.5):
            with pytest.raises(ValidationError, match="pass_rate"):
                ADAPTER.validate_python({**block, "pass_rate": wrong})
