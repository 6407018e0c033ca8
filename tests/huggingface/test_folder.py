"""Folders of models, found or not."""

import pytest

from r1jax.config.base import ConfigError
from r1jax.huggingface.config import read_config
from r1jax.huggingface.folder import find_model


def test_a_missing_model_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="is neither a folder nor a hub id"):
        find_model(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"no config\.json; give the folder of a Hugging Face model"):
        read_config(tmp_path)
