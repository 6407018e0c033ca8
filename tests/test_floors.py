"""The house keeps its shape: floors, import time, and importing that does nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_a_module_imports_from_lower_floors_alone():
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_import_is_quick_and_touches_no_device():
    code = (
        "import time; begin = time.process_time(); import r1jax, r1jax.cli, r1jax.config.load; "
        "print(time.process_time() - begin); import sys; assert 'jax' not in sys.modules"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 2.0, seconds  # 0.3, and 1.5 where no byte code is kept


@pytest.mark.slow
def test_importing_everything_starts_no_backend():
    modules = [
        ".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for f in ROOT.glob("r1jax/**/*.py")
    ]
    code = f"import importlib; [importlib.import_module(m) for m in {modules}]; import jax._src.xla_bridge as x; "
    code += "assert not x.backends_are_initialized()"
    subprocess.run([sys.executable, "-c", code], check=True)


def modules():
    return [file.relative_to(ROOT / "r1jax") for file in ROOT.glob("r1jax/**/*.py") if file.name != "__init__.py"]


def test_each_module_has_a_test_file_under_the_same_path():
    missing = [str(file) for file in modules() if not (ROOT / "tests" / file.with_name(f"test_{file.name}")).is_file()]
    assert not missing


def test_files_can_be_read_in_one_sitting():
    longer = {str(file): n for file in modules() if (n := (ROOT / "r1jax" / file).read_text().count("\n")) > 400}
    assert not longer
