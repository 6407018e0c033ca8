import json

import pytest

from r1jax.config.tasks import ArithmeticTask, MixturePart, MixtureTask, StageTask
from r1jax.tasks import Mixture, make_task
from r1jax.tasks.stage_data import stage_data

SUMS = ArithmeticTask(name="arithmetic")
DIFFERENCES = ArithmeticTask(name="arithmetic", operators="-")


def row(question, part=0):
    return {"question": question, "answer": "3", "completion": "<think>3</think>3", "part": part, "data": {"k": 1}}


def written(folder, *rows):
    file = folder / "samples.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return file


def test_completions_are_demonstrations_and_the_rest_is_the_sources(tmp_path):
    source = make_task(SUMS, 0)
    task = stage_data(written(tmp_path, row("1+2="), row("2+1=")), source)
    assert task.size("train") == 2 and task.size("test") is None
    example = task.example("train", 1)
    assert (example.question, example.answer, example.demonstration) == ("2+1=", "3", "<think>3</think>3")
    assert example.data == {"k": 1}
    assert task.example("test", 7) == source.example("test", 7)
    assert task.rewards["accuracy"](example, "<answer>3</answer>") == 1
    assert task.symbols == source.symbols


def test_data_of_a_mixture_is_a_mixture_by_rows(tmp_path):
    mixture = MixtureTask(mixture=[MixturePart(weight=1, task=SUMS), MixturePart(weight=9, task=DIFFERENCES)])
    source = make_task(mixture, 0)
    both = stage_data(written(tmp_path, row("1+2="), row("5-2=", 1), row("4-1=", 1)), source)
    assert isinstance(both, Mixture) and both.weights == (1, 2)
    assert [part.size("train") for part in both.parts] == [1, 2]
    one = stage_data(written(tmp_path, row("5-2=", 1)), source)
    assert one.example("test", 0) == source.parts[1].example("test", 0)


def test_a_mixture_in_a_mixture_is_made_flat(tmp_path):
    source = make_task(
        MixtureTask(mixture=[MixturePart(weight=1, task=SUMS), MixturePart(weight=1, task=DIFFERENCES)]), 0
    )
    file = written(tmp_path, row("1+2="), row("5-2=", 1), row("4-1=", 1))
    parts = [MixturePart(weight=3, task=StageTask(stage="samples")), MixturePart(weight=1, task=SUMS)]
    task = make_task(MixtureTask(mixture=parts), 0, stage_data=lambda name: stage_data(file, source))
    assert len(task.parts) == 3 and task.weights == pytest.approx((1, 2, 1))


def test_missing_and_empty_files_are_refused(tmp_path):
    source = make_task(SUMS, 0)
    with pytest.raises(ValueError, match=r"samples.jsonl is missing, the data of an earlier stage"):
        stage_data(tmp_path / "samples.jsonl", source)
    with pytest.raises(ValueError, match="has no rows"):
        stage_data(written(tmp_path), source)
    with pytest.raises(ValueError, match="only the run that has the stage samples"):
        make_task(StageTask(stage="samples"), 0)
