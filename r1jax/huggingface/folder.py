"""A Hugging Face folder: where it is, and the JSON files in it.

folder = find_model("Qwen/Qwen2.5-0.5B")
raw = read_json(folder / CONFIG)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1jax.config.base import ConfigError
from r1jax.text import chat_template

CONFIG, GENERATION = "config.json", "generation_config.json"
HUB_FILES = ("*.json", "*.jinja", "*.safetensors", "*.model", "merges.txt")
HUB_UNREAD = ("*/*", "consolidated*")  # the weights once more, as Mistral's own tools read them


def find_model(path: str, files: Sequence[str] = HUB_FILES) -> Path:
    """The folder at a path, or the one that a hub id such as `Qwen/Qwen2.5-0.5B` is downloaded to or cached in.

    Of a hub's model it has these `files`.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        raise ConfigError(f"{path} is neither a folder nor a hub id (OWNER/NAME); give one of the two")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, allow_patterns=list(files), ignore_patterns=list(HUB_UNREAD)))
    except LocalEntryNotFoundError:
        raise ConfigError(
            f"{path} is not a local folder and not in the hub's cache, and the hub cannot be reached; "
            f"give a folder, or download the model on a machine with network access"
        ) from None
    except HfHubHTTPError as error:
        raise ConfigError(
            f"{path} is not a local folder, and the hub answers: {' '.join(str(error).split())}"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path} is neither a folder nor a hub id: {error}") from None


def find_description(path: str) -> Path:
    """A folder with the model's config.json: the one at a path, or where a hub id's is downloaded to or cached in."""
    return find_model(path, (CONFIG,))


def find_tokenizer(source: str) -> Path:
    """The file or folder at a path, or the folder of a hub id."""
    return Path(source) if Path(source).exists() else find_model(source)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ConfigError where there is none."""
    if not file.is_file():
        hint = "give the folder of a Hugging Face model"
        if (file.parent / "config.yaml").is_file():
            hint = f"of a run folder make a model first: r1jax export {file.parent} OUT --dtype float32"
        raise ConfigError(f"{file.parent}: no {file.name}; {hint}")
    return chat_template.read_json(file)
