"""scripts/fuzz_configs.py in a small form: every kind of wrong setting, file and command ends with one clear line."""

import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "fuzz_configs.py"))
CASES = SCRIPT["cases"](seed=0)


@pytest.mark.parametrize("case", CASES[:80], ids=lambda case: " ".join(case.arguments)[:60].encode("ascii", "replace"))
def test_a_wrong_config_or_command_ends_with_one_line(case, tmp_path, monkeypatch):
    monkeypatch.setenv("R1JAX_SET", str(tmp_path))
    assert SCRIPT["outcome"](case, tmp_path) is None


def test_what_is_right_is_accepted(tmp_path, monkeypatch):
    monkeypatch.setenv("R1JAX_SET", str(tmp_path))
    right = [case for case in CASES if case.right]
    assert len(right) > 10 and SCRIPT["outcome"](right[0], tmp_path) is None


def test_the_script_sees_what_ends_otherwise(tmp_path):
    case = SCRIPT["Case"]
    assert SCRIPT["outcome"](case(["train", "CONFIG"]), tmp_path) == "was accepted"
    assert SCRIPT["outcome"](case(["train", "CONFIG", "sed=1"], right=True), tmp_path).startswith("was refused: error:")
    assert SCRIPT["outcome"](case(["--version"]), tmp_path).startswith("ended with code 0")
