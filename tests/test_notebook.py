"""The quickstart notebook runs from a clean kernel in a tiny setting, and shows what it says that it shows."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "quickstart.ipynb"
TINY = """
COLD_START_STEPS, RL_STEPS, SHORT_STEPS, PROBLEMS = 2, 1, 1, 8
"""
RESULTS = """
import json
print(json.dumps({run.folder.name: [run.metrics.rows, run.completions()] for run in (cold, reasoning, hasty)}))
"""


def outputs(cell, kind):
    return [output["data"][kind] for output in cell.outputs if kind in output.get("data", {})]


def printed(cell):
    return "".join(output["text"] for output in cell.outputs if output.get("name") == "stdout")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after its run in an empty folder, with a cell behind its parameters and one at its end."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (at,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(TINY))
    notebook.cells.append(nbformat.v4.new_code_cell(RESULTS))
    client = NotebookClient(notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return folder, [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.slow
def test_it_trains_and_shows_its_results(executed):
    folder, cells = executed
    results = json.loads(printed(cells[-1]))
    assert {path.name for path in (folder / "runs").iterdir()} == {"cold_start", "reasoning", "hasty"}
    (cold, _), (reasoning, kept), (hasty, hasty_kept) = (results[name] for name in ("cold_start", "reasoning", "hasty"))
    assert [row["step"] for row in cold] == [0, 1, 2] and cold[-1]["loss"] < cold[1]["loss"]
    assert [row["step"] for row in reasoning] == [0, 1]
    assert set(kept[0]["rewards"]) == {"accuracy", "format"}
    for row in hasty_kept:
        assert row["rewards"]["short"] == pytest.approx(-row["length"] / 45)
    # What a run begins with is what the one before it ended with.
    for before, after in ((cold, reasoning), (reasoning, hasty)):
        assert before[-1]["eval/accuracy"] == after[0]["eval/accuracy"]
    assert hasty[-1]["rewards/short/mean"] < 0


def test_curves_tables_and_samples_are_shown(executed):
    _, cells = executed
    with_curves = [cell for cell in cells if "LivePlot" in cell.source]
    assert len(with_curves) == 3 and all(len(outputs(cell, "image/png")) == 1 for cell in with_curves)
    assert any("<table>" in table for cell in cells for table in outputs(cell, "text/html"))
    (sampled,) = (cell for cell in cells if "log_probs" in cell.source)
    assert printed(sampled).count("log-prob with steps -") == 3


def test_the_saved_notebook_has_the_outputs_of_a_full_run():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(len(outputs(cell, "image/png")) for cell in cells) >= 3
    assert NOTEBOOK.stat().st_size < 500_000
    text = "".join(printed(cell) for cell in cells)
    assert "/home/" not in text and "/work/" not in text and "/tmp/" not in text
