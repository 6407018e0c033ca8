import json

import pytest

from r1jax.config.tasks import ArithmeticTask, MixturePart, MixtureTask, StageTask
from r1jax.tasks import Mixture, make_task
from r1jax.tasks.stage_data import awaited, stage_data

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


def prompts(folder, *rates):
    rows = [row(f"{i}+1=") | {"pass_rate": rate, "samples": n} for i, (rate, n) in enumerate(rates)]
    rows = [{key: value for key, value in row.items() if key != "completion"} for row in rows]
    (folder / "samples.prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder / "samples.jsonl"


def questions(task):
    return [task.example("train", i).question for i in range(task.size("train"))]


def test_prompts_of_a_pass_rate(tmp_path):
    source = make_task(SUMS, 0)
    file = prompts(tmp_path, (0.0, 5), (0.2, 5), (1.0, 5), (3 / 7, 7), (0.6, 5), (None, 0))
    with pytest.warns(UserWarning, match=r"3 of 5 prompts .*from 0\.2 to 0\.6: 1 are below, 1 above"):
        task = stage_data(file, source, [0.2, 0.6])
    assert questions(task) == ["1+1=", "3+1=", "4+1="] and task.example("train", 0).demonstration is None
    assert task.example("test", 7) == source.example("test", 7) and task.rewards is source.rewards
    with pytest.raises(
        ValueError, match=r"task\.pass_rate: 0 of 5 .*from 0\.7 to 0\.9: 4 are below, 1 above; give wider"
    ):
        stage_data(file, source, [0.7, 0.9])


def test_the_pass_rate_of_a_prompt_that_was_sampled_twice(tmp_path):
    rows = [row("1+1=") | {"pass_rate": r, "samples": n} for r, n in ((0.0, 2), (1.0, 6), (None, 0))]
    rows += [row("1+1=", part=1) | {"pass_rate": 0.0, "samples": 8}]
    (tmp_path / "samples.prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    mixture = MixtureTask(mixture=[MixturePart(weight=1, task=SUMS), MixturePart(weight=1, task=DIFFERENCES)])
    with pytest.warns(UserWarning, match="1 of 2 prompts"):
        task = stage_data(tmp_path / "samples.jsonl", make_task(mixture, 0), [0.75, 0.75])
    assert questions(task) == ["1+1="] and task.source.settings.operators == "+"


def test_data_that_is_not_there_is_stood_for_by_what_will_be_sampled_on():
    mixture = MixtureTask(mixture=[MixturePart(weight=1, task=SUMS), MixturePart(weight=9, task=DIFFERENCES)])
    source = make_task(mixture, 0)
    expected = awaited(source, 12)
    assert expected.weights == source.weights and {part.most for part in expected.parts} == {12}
    for part, own in zip(expected.parts, source.parts, strict=True):
        assert part.example("train", 3).question == own.example("train", 3).question
        assert part.example("train", 3).demonstration == ""
        assert part.example("test", 3) == own.example("test", 3)
        assert (part.rewards, part.symbols, part.size("train")) == (own.rewards, own.symbols, None)


def test_a_band_that_has_all_prompts_is_not_warned_of(tmp_path, recwarn):
    rows = [{**row(f"{i}+2="), "pass_rate": i / 8, "samples": 8} for i in range(9)]
    (tmp_path / "samples.prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert stage_data(tmp_path / "samples.jsonl", make_task(SUMS, 0), (0.0, 1.0)).size("train") == 9
    assert not recwarn.list
