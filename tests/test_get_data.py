"""scripts/get_data.py on files as the hub and GSM8K's authors name and fill them."""

import json
import runpy
import sys
from pathlib import Path

import huggingface_hub
import pytest

from r1jax.config.load import load_config
from r1jax.tasks import make_task

SCRIPT = Path(__file__).parents[1] / "scripts" / "get_data.py"
JANET = "Janet’s ducks lay 16 eggs per day. She eats 3 and sells the rest for $2 each. How much does she make?"
GSM8K = {
    "question": JANET,
    "answer": "She sells 16 - 3 = <<16-3=13>>13 eggs.\nShe makes 13 * 2 = $<<13*2=26>>26.\n#### 26",
}
MATH = {
    "problem": r"How many vertical asymptotes does $y=\frac{2}{x^2+x-6}$ have?",
    "level": "Level 3",
    "type": "Algebra",
    "solution": r"The denominator factors into $(x-2)(x+3)$, so there are $\boxed{2}$ of them.",
}
MATH500 = {
    "problem": r"Convert the point $(0,3)$ to polar coordinates.",
    "solution": r"We have $r = 3$, so the answer is $\boxed{\left( 3, \frac{\pi}{2} \right)}.$",
    "answer": r"\left( 3, \frac{\pi}{2} \right)",
    "subject": "Precalculus",
    "level": 2,
    "unique_id": "test/precalculus/807.json",
}
OPEN_R1 = {
    "problem": "What is $2+2$?",
    "answer": "4",
    "generations": ["<think>\n5?\n</think>\n\n$\\boxed{5}$", "<think>\n4.\n</think>\n\n$\\boxed{4}$", "<think>\n4."],
    "correctness_math_verify": [False, True, True],
}


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def parquet_file(path, *rows):
    pyarrow = pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    __import__("pyarrow.parquet").parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "copy"
    for split in ("train", "test"):
        parquet_file(folder / "main" / f"{split}-00000-of-00001.parquet", GSM8K)
    subjects = "algebra counting_and_probability geometry intermediate_algebra number_theory prealgebra precalculus"
    for subject in subjects.split():
        parquet_file(folder / subject / "train-00000-of-00001.parquet", MATH)
    (folder / "test.jsonl").write_text(json.dumps(MATH500) + "\n")
    for part in range(2):
        parquet_file(
            folder / "data" / f"train-0000{part}-of-00002.parquet", OPEN_R1, {**OPEN_R1, "generations": ["", "x", ""]}
        )
    return folder


def test_every_set_is_written_in_the_columns_of_the_configs(copy, tmp_path, monkeypatch, capsys):
    for name in ("gsm8k", "math", "r1_samples"):
        run(monkeypatch, name, "--source", copy, "--out", tmp_path)
    assert "math_train.jsonl, 7 rows" in capsys.readouterr().out
    solution, _, answer = GSM8K["answer"].partition("\n#### ")
    assert read(tmp_path / "gsm8k_test.jsonl") == [{"question": JANET, "answer": answer, "solution": solution}]
    train, test = read(tmp_path / "math_train.jsonl"), read(tmp_path / "math_test.jsonl")
    assert (train[0]["answer"], train[0]["subject"], len(train)) == ("2", "Algebra", 7)
    assert test[0]["answer"] == MATH500["answer"] and test[0]["question"] == MATH500["problem"]
    samples = read(tmp_path / "r1_samples.jsonl")  # the right one that is whole; a problem without one is left out
    assert samples == 2 * [{"question": "What is $2+2$?", "answer": "4", "completion": OPEN_R1["generations"][1]}]


def test_the_files_of_gsm8ks_authors_are_a_copy_too(copy, tmp_path, monkeypatch):
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(GSM8K) + "\n", encoding="utf-8")
    run(monkeypatch, "gsm8k", "--source", tmp_path, "--out", tmp_path / "out")
    run(monkeypatch, "gsm8k", "--source", copy, "--out", tmp_path / "other")
    for split in ("train", "test"):
        name = f"gsm8k_{split}.jsonl"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"so $\boxed{5}$. The answer is 7 more than before.", "5"),
        (r"$\boxed{1}$, no: $\boxed{\frac{1}{2^{n}}}$.", r"\frac{1}{2^{n}}"),
        (r"Hence \fbox{ 12 } of them.", "12"),
        (r"It is $\boxed 2$, that is, two.", "2"),
    ],
)
def test_the_last_box_is_the_answer(solution, answer):
    assert runpy.run_path(str(SCRIPT))["boxed"](solution) == answer


@pytest.mark.parametrize("solution", ["none", r"$\boxed{5$", ""])
def test_a_solution_without_a_box_is_refused(solution):
    with pytest.raises(ValueError, match="no boxed answer in"):
        runpy.run_path(str(SCRIPT))["boxed"](solution)


def test_files_that_are_there_stay(copy, tmp_path, monkeypatch, capsys):
    (tmp_path / "gsm8k_test.jsonl").write_text("mine")
    run(monkeypatch, "gsm8k", "--source", copy, "--out", tmp_path)
    assert (tmp_path / "gsm8k_test.jsonl").read_text() == "mine"
    assert "gsm8k_test.jsonl is there and stays as it is" in capsys.readouterr().out


def test_what_is_not_as_expected_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    (tmp_path / "train.jsonl").write_text(json.dumps(GSM8K) + "\n" + json.dumps({**GSM8K, "answer": "26"}) + "\n")
    with pytest.raises(SystemExit, match="error: gsm8k: no answer after #### in '26'"):
        run(monkeypatch, "gsm8k", "--source", tmp_path, "--out", tmp_path / "out")
    assert not [*(tmp_path / "out").iterdir()]
    with pytest.raises(
        SystemExit, match=r"error: math: .* has no algebra/train-\*\.parquet; give a folder with the fi"
    ):
        run(monkeypatch, "math", "--source", tmp_path / "nothing")
    with pytest.raises(SystemExit, match="has no algebra"):  # GSM8K's names are not those of MATH
        run(monkeypatch, "math", "--source", tmp_path, "--out", tmp_path / "out")
    (tmp_path / "train.jsonl").write_text('{"text": "26"}\n')
    with pytest.raises(SystemExit, match="error: gsm8k: a row has no column 'answer'"):
        run(monkeypatch, "gsm8k", "--source", tmp_path, "--out", tmp_path / "out")


def test_a_hub_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", fail)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "gsm8k", "--out", tmp_path)
    reason = "the hub does not give openai/gsm8k (Name or service not known); give a copy with --source DIR"
    assert str(ended.value) == f"error: gsm8k: {reason}"


@pytest.mark.parametrize(
    ("name", "config"), [("gsm8k", "r1_zero_qwen2.5-0.5b_gsm8k"), ("math", "r1_zero_qwen2.5-7b_math")]
)
def test_the_configs_read_them(name, config, copy, tmp_path, monkeypatch):
    run(monkeypatch, name, "--source", copy, "--out", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    source = load_config(Path(__file__).parents[1] / "configs" / f"{config}.yaml").task
    task = make_task(source, 0)
    assert [task.example(split, 0).answer for split in ("train", "test")]
