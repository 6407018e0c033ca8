"""docs/config.md is what scripts/config_reference.py makes of the settings."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_is_up_to_date():
    script = runpy.run_path(str(ROOT / "scripts" / "config_reference.py"))
    assert script["FILE"] == ROOT / "docs" / "config.md"
    assert script["FILE"].read_text() == script["reference"](), "run: uv run scripts/config_reference.py"
