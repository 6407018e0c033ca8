"""A run's checkpoint or a pretrained model as a Hugging Face folder that transformers and vLLM load.

export_model("runs/quickstart", Path("out"), dtype="bfloat16")
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import jax

from r1jax.config.base import ConfigError
from r1jax.huggingface.config import write_description
from r1jax.huggingface.weights import DTYPES, export_params
from r1jax.run.loading import load_model


def export_model(
    path: str, out: Path, *, dtype: str, overrides: Sequence[str] = (), checkpoint: str | None = None
) -> None:
    """Writes config, generation config, tokenizer files with the chat template, and weights, atomically.

    Raises ConfigError where `out` has something in it already, or the model has no Hugging Face architecture.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: got {dtype!r}, need one of {', '.join(DTYPES)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not empty; give a new folder")
    out = out.resolve()
    loaded = load_model(path, overrides, checkpoint=checkpoint)
    model, config, is_writer = loaded.model, loaded.config, jax.process_index() == 0
    temporary = out.with_name(out.name + ".tmp")
    if is_writer:
        shutil.rmtree(temporary, ignore_errors=True)
        positions = config.max_prompt_length + config.max_completion_length
        write_description(
            temporary, model.model.config, model.tokenizer, positions=positions, dtype=dtype, source=loaded.folder
        )
    with model.devices():
        export_params(model.weights, model.model.config, temporary, dtype=dtype, is_writer=is_writer)
    if is_writer:
        if out.exists():
            out.rmdir()
        temporary.rename(out)
