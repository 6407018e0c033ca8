"""Loading a text as a config file, and the error that it gives."""

import pytest

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config


@pytest.fixture
def load(tmp_path):
    """Loads a text as FOLDER/config.yaml with overrides."""

    def load(text, *overrides):
        (tmp_path / "config.yaml").write_text(text)
        return load_config(tmp_path / "config.yaml", overrides)

    return load


@pytest.fixture
def message(load, tmp_path):
    """The error of a text with overrides, in which the folder's name is left out."""

    def message(text, *overrides):
        with pytest.raises(ConfigError) as error:
            load(text, *overrides)
        return str(error.value).replace(f"{tmp_path}/", "")

    return message
