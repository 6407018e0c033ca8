"""A run, or a pretrained model, as a Hugging Face folder that transformers and vLLM load.

export_model("runs/quickstart", Path("out"), dtype="bfloat16")
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1jax.config.base import ConfigError
from r1jax.config.experiment import ModelConfig
from r1jax.huggingface.config import CONFIG, GENERATION, config_json
from r1jax.huggingface.weights import DTYPES, export_params, find_model
from r1jax.run.run import MODEL_FOLDER, Run, load_model


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
    model = run.config.model
    assert isinstance(model, ModelConfig)
    rows = model.vocab_size or run.tokenizer.size
    description = _description(run, path, dtype)
    temporary = out.with_name(out.name + ".tmp")
    if run.is_writer:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        run.tokenizer.save(temporary)
        for name, content in description.items():
            (temporary / name).write_text(json.dumps(content, indent=2) + "\n")
    with contextlib.closing(run), run.devices():
        export_params(params, temporary, dtype=dtype, vocabulary=rows, is_writer=run.is_writer)
    if run.is_writer:
        if out.exists():
            out.rmdir()
        temporary.rename(out)


def _description(run: Run, path: str, dtype: str) -> dict[str, Any]:
    """config.json and generation_config.json: those the model came with, their type aside; else new ones."""
    model, tokenizer = run.config.model, run.tokenizer
    assert isinstance(model, ModelConfig)
    source = run.folder / MODEL_FOLDER
    if not source.is_dir() and model.path is not None:
        source = find_model(model.path)
    if (source / CONFIG).is_file():
        described = json.loads((source / CONFIG).read_text())
        described["dtype" if "dtype" in described else "torch_dtype"] = dtype
    else:
        positions = run.settings.max_prompt_length + run.settings.max_completion_length
        described = config_json(model, dtype=dtype, vocabulary=tokenizer.size, positions=positions)
        described["eos_token_id"] = list(tokenizer.stop_ids)
    if (source / GENERATION).is_file():
        return {CONFIG: described, GENERATION: json.loads((source / GENERATION).read_text())}
    bos = {} if tokenizer.bos_id is None else {"bos_token_id": tokenizer.bos_id}
    return {CONFIG: described, GENERATION: bos | {"eos_token_id": list(tokenizer.stop_ids)}}
