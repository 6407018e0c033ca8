"""scripts/fuzz_files.py in a small form: damaged models and data are refused in one line, or read rightly."""

import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "fuzz_files.py"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    SCRIPT["model_folder"](folder)
    return folder


@pytest.fixture(scope="module")
def cases(model):
    return SCRIPT["cases"](model, seed=0)


def problems(cases, model):
    return {case.name: problem for case in cases if (problem := SCRIPT["outcome"](case, model))}


@pytest.mark.slow
def test_a_damaged_model_folder_ends_with_one_line(cases, model):
    about_models = [case for case in cases if not case.task]
    assert len(about_models) > 500
    assert problems(about_models[:8], model) == {}


def test_a_damaged_data_file_ends_with_one_line(cases, model):
    about_data = [case for case in cases if case.task]
    assert len(about_data) > 100
    assert problems(about_data[:10], model) == {}


@pytest.mark.parametrize(
    "name",
    [
        "config.json rope_theta=0",
        f"config.json rope_theta={10**400}",
        "generation_config.json links nowhere",
        "generation_config.json stop_strings={}",
        'tokenizer_config.json eos_token="\\ud800"',
        "template x",
        "a template that links to chat_template.jinja",
        "a template in Latin-1",
        "empty",
        f"no file {'x' * 300}",
        "Parquet: changed at 6",
    ],
)
def test_what_was_a_traceback_or_accepted_is_one_line(name, cases, model):
    (case,) = [case for case in cases if case.name == name]
    error, code, line = SCRIPT["ending"](case, model)
    assert code == 2 and SCRIPT["outcome"](case, model) is None, (error, line)


def test_what_is_right_is_read_as_it_is(cases, model):
    right = [case for case in cases if case.name in ("an array", "Parquet of bytes", "named template default")]
    assert len(right) == 3 and problems(right, model) == {}


def test_the_script_sees_what_ends_otherwise(model):
    case, written, text = SCRIPT["Case"], SCRIPT["written"], SCRIPT["TEXT"]
    data = {"change": written("data.jsonl", text), "task": "jsonl: FOLDER/data.jsonl"}
    assert SCRIPT["outcome"](case("", **data), model) == "was accepted"
    fewer = data | {"change": written("data.jsonl", SCRIPT["lines"](SCRIPT["ROWS"][1:] * 2))}
    assert SCRIPT["outcome"](case("", **fewer, right=True), model) == "was read otherwise"
    wrong = data | {"change": written("data.jsonl", b"3")}
    assert SCRIPT["outcome"](case("", **wrong, right=True), model).startswith("was refused: error: stages.rl.task: ")
    assert SCRIPT["outcome"](case("", **wrong, names="nope"), model).startswith("does not name nope: error: ")
