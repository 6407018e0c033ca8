"""An exported run is the same model as a Hugging Face folder, written atomically."""

import os

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from r1jax.cli import app
from r1jax.config.base import ConfigError
from r1jax.export import export_model
from r1jax.huggingface.weights import find_tensors
from r1jax.run.loading import load_model


def test_export_of_a_model_trained_from_scratch(trained, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["export", str(trained[1]), str(out)])
    assert result.exit_code == 0, result.output
    assert {t.dtype for t in find_tensors(out).values()} == {"BF16"}
    loaded, again = load_model(str(trained[1])).model, load_model(str(out)).model
    assert loaded.tokenizer.encode("12+3=") == again.tokenizer.encode("12+3=")
    assert loaded.tokenizer.size == again.tokenizer.size
    assert loaded.tokenizer.stop_ids == again.tokenizer.stop_ids

    for weights in (loaded.weights, again.weights):  # rows that pad the vocabulary are not written
        weights["embed_VD"] = weights["embed_VD"][: loaded.tokenizer.size]
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=2**-8), loaded.weights, again.weights
    )


def test_a_checkpoint_by_name_is_exported(trained, tmp_path):
    export_model(str(trained[1]), tmp_path / "out", dtype="float32", checkpoint="cold_start-2")
    exported = load_model(str(tmp_path / "out")).model
    ours = load_model(str(trained[1]), checkpoint="cold_start-2").model
    rows = ours.tokenizer.size
    for a, b in zip(jax.tree.leaves(ours.weights), jax.tree.leaves(exported.weights), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[:rows], np.asarray(b)[:rows])
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_is_refused(trained, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(ConfigError, match="exists and is not empty; give a new folder"):
        export_model(str(trained[1]), tmp_path / "full", dtype="float32")
    with pytest.raises(ConfigError, match="need one of float32, bfloat16, float16"):
        export_model(str(trained[1]), tmp_path / "out", dtype="int8")
    assert not (tmp_path / "out").exists()
