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


def test_r1_zero_doubles_its_length_after_8200_updates():
    config = load_config(FOLDER / "r1_zero_long.yaml")
    first, second = config.stages
    assert (first.max_completion_length, second.max_completion_length) == (32_768, 65_536)
    assert first.steps == 8_200 // first.minibatches and first.updates + second.updates == 10_400
    assert second.init_from is None  # the stage before
    for stage in (first, second):
        assert (stage.prompts_per_step, stage.group_size, stage.loss.clip_high) == (512, 16, 10.0)
        assert stage.reward_weights == {"accuracy": 1.0, "format": 1.0}
