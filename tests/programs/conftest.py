import pytest

from r1jax.config import load_config


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    """One finished tiny run (config, folder), in which every compile after the first step of a shape was an error."""
    from conftest import TINY

    from r1jax.programs.pipeline import train

    folder = tmp_path_factory.mktemp("trained")
    file = folder / "tiny.yaml"
    file.write_text(TINY.format(folder=folder / "run"))
    config = load_config(file)
    train(config, strict_compiles=True)
    return config, folder / "run"
