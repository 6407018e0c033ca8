"""notebooks/free_tpu.ipynb in two sessions, with a tiny model: the first is over too soon, the second one resumes."""

import json
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from tiny import TINY

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "free_tpu.ipynb"


def session(folder, hours):
    """What each code cell printed in a session of so many hours."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (at,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    settings = f"SOURCE, CONFIG, HOURS, DATA_COPY = 'clone', 'tiny', {hours}, 'copy'"
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(settings))
    client = NotebookClient(notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return cells, "".join(out["text"] for cell in cells for out in cell.outputs if out.get("name") == "stdout")


@pytest.fixture
def folder(tmp_path):
    """A clone whose configs/free/ has a tiny config that reads GSM8K, and a copy of GSM8K."""
    (tmp_path / "clone" / "configs" / "free").mkdir(parents=True)
    (tmp_path / "clone" / "scripts").symlink_to(ROOT / "scripts")
    config = yaml.safe_load(TINY.format(folder="elsewhere"))
    config["task"] = {"jsonl": "data/gsm8k_train.jsonl", "test": "data/gsm8k_test.jsonl", "completion": "solution"}
    (tmp_path / "clone" / "configs" / "free" / "tiny.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "copy").mkdir()
    for split, first in (("train", 10), ("test", 60)):
        sums = [{"question": f"{n}+1=", "answer": f"{n + 1}\n#### {n + 1}"} for n in range(first, first + 38)]
        (tmp_path / "copy" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    return tmp_path


@pytest.mark.slow
def test_two_sessions(folder):
    _, said = session(folder, 1 / 3600)
    assert "a new run" in said and "stopped before its end: run all cells again in the next session" in said
    cells, said = session(folder, 1)
    assert "gsm8k_train.jsonl is there and stays as it is" in said and "rl 3/3" in said and "\nfinished\n" in said
    assert [1 for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    assert not any(cell.outputs for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code")
