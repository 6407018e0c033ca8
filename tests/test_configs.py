"""Every file of configs/ is a valid experiment that says how to run it."""

from pathlib import Path

import pytest

from r1jax.config.load import load_config

FOLDER = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_config(file):
    config = load_config(file)
    assert config.stages and config.run_dir == f"runs/{file.stem}"
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert any(f"r1jax train configs/{file.relative_to(FOLDER)}" in line for line in header)
