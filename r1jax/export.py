"""A run, or a pretrained model, as a Hugging Face folder that transformers and vLLM load.

export_model("runs/quickstart", Path("out"), dtype="bfloat16")
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from r1jax.config.base import ConfigError
from r1jax.huggingface.config import write_description
from r1jax.huggingface.folder import find_model
from r1jax.huggingface.weights import DTYPES, export_params
from r1jax.run.run import MODEL_FOLDER, load_model


def export_model(path: str, out: Path, *, dtype: str, overrides: Sequence[str] = ()) -> None:
    """Writes config, generation config, tokenizer files with the chat template, and weights; whole or not at all.

    Raises ConfigError where `out` has something in it already, or the model has no Hugging Face architecture.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: got {dtype!r}, need one of {', '.join(DTYPES)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not empty; give a new folder")
    out = out.resolve()
    run, params, _ = load_model(path, overrides)
    source = run.folder / MODEL_FOLDER
    if not source.is_dir():
        source = find_model(path)
    temporary = out.with_name(out.name + ".tmp")
    if run.is_writer:
        shutil.rmtree(temporary, ignore_errors=True)
        positions = run.config.max_prompt_length + run.config.max_completion_length
        write_description(temporary, run.model.config, run.tokenizer, positions=positions, dtype=dtype, source=source)
    with contextlib.closing(run), run.devices():
        export_params(params, run.model.config, temporary, dtype=dtype, is_writer=run.is_writer)
    if run.is_writer:
        if out.exists():
            out.rmdir()
        temporary.rename(out)
