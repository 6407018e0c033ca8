"""The special tokens of a Hugging Face folder: which there are, which stop, and those that only its settings name.

specials = special_tokens(folder)
add_tokens(backend, folder, specials)
stops = stop_ids_of(backend.token_to_id(specials["eos_token"]), folder, size)
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1jax.config.base import ConfigError
from r1jax.text.byte_level import END_OF_TEXT, default_specials
from r1jax.text.chat_template import check_not_a_link, read_json

SETTINGS_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
NAMES = [f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")


def stop_ids_of(eos: int | None, folder: Path, size: int) -> tuple[int, ...]:
    """The eos token's id and those that generation_config.json, or else config.json, names."""
    file = folder / "generation_config.json"
    named = read_json(file).get("eos_token_id")
    if named is None:
        file = folder / "config.json"
        named = read_json(file).get("eos_token_id")
    more = [stop for stop in (named if isinstance(named, list) else [named]) if stop is not None]
    if unknown := [stop for stop in more if type(stop) is not int or not 0 <= stop < size]:
        raise ValueError(
            f"tokenizer: {file} has eos_token_id {unknown[0]!r:.80}, and the tokenizer has ids 0 to {size - 1}; use "
            "files of the same model"
        )
    stops = tuple(dict.fromkeys(stop for stop in (eos, *more) if stop is not None))
    if not stops:
        raise ValueError(f"tokenizer: no stop token in {folder}; add eos_token_id to generation_config.json")
    return stops


def stop_texts_of(folder: Path) -> list[str]:
    """The `stop_strings` of generation_config.json."""
    file = folder / "generation_config.json"
    named = read_json(file).get("stop_strings")
    texts = [] if named is None or named == "" else [named] if isinstance(named, str) else named
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise ConfigError(f"{file}: stop_strings is {named!r:.80}; need texts")
    return texts


def special_tokens(folder: Path) -> dict[str, str]:
    """The special tokens that templates may use, by name; the files give each as a text or as an object with one.

    As transformers reads them: special_tokens_map.json comes first, and counts only without `added_tokens_decoder`.
    """
    return {name: token["content"] for name, token in _described_specials(folder).items()}


def _described_specials(folder: Path) -> dict[str, dict[str, Any]]:
    settings = {name: END_OF_TEXT for name in default_specials(folder)} | _special_settings(folder)
    named = {name: settings.get(name) for name in NAMES} | {
        name: token for name, token in settings.items() if name.endswith("_token") and not name.startswith("add_")
    }
    if isinstance(more := settings.get("extra_special_tokens"), dict):
        named |= more
    tokens = {name: {"content": token} if isinstance(token, str) else token for name, token in named.items() if token}
    for name, token in tokens.items():
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise ConfigError(f"{folder / 'tokenizer_config.json'}: {name} is {token!r:.80}; a special token is a text")
    return tokens


def unnamed_specials(folder: Path) -> list[dict[str, Any]]:
    """The special tokens that are given as a list, each as an object with its `content`."""
    settings = _special_settings(folder)
    lists = [settings.get(name) for name in ("extra_special_tokens", "additional_special_tokens")]
    tokens = [token for tokens in lists if isinstance(tokens, list) for token in tokens]
    return [token if isinstance(token, dict) else {"content": str(token)} for token in tokens]


def _special_settings(folder: Path) -> dict[str, Any]:
    settings = read_json(folder / "tokenizer_config.json")
    return settings if "added_tokens_decoder" in settings else settings | read_json(folder / "special_tokens_map.json")


def declared_tokens(folder: Path) -> dict[int, str]:
    """The tokens by their ids that added_tokens.json and tokenizer_config.json's `added_tokens_decoder` name."""
    settings = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder")
    try:
        if settings is not None:
            return {int(i): str(token["content"]) for i, token in settings.items()}
        return {int(i): str(token) for token, i in read_json(folder / "added_tokens.json").items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{folder / 'tokenizer_config.json'}: added_tokens_decoder, or added_tokens.json beside it, does not map "
            f"ids and tokens; use the files of one model"
        ) from None


def add_tokens(backend: Any, folder: Path) -> None:
    """Adds the tokens that only the settings have, in the order of their ids, and then the special ones."""
    specials = _described_specials(folder)
    texts = [token["content"] for token in specials.values()]
    described = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    for i, text in sorted(declared_tokens(folder).items()):
        given = described.get(str(i))
        _add(backend, given or {"content": text, "normalized": text not in texts, "special": text in texts}, anew=given)
        if backend.token_to_id(text) != i:
            raise ValueError(two_ids(folder, text, i, backend.token_to_id(text)))
    for token in [*specials.values(), *unnamed_specials(folder)]:
        _add(backend, {"normalized": False} | token | {"special": True})


def _add(backend: Any, token: Mapping[str, Any], *, anew: Any = None) -> None:
    """`anew`, a token that is there already gets these flags."""
    from tokenizers import AddedToken

    if anew or not any(added.content == token.get("content") for added in backend.get_added_tokens_decoder().values()):
        try:
            given: dict[str, Any] = {"content": 0}  # the library takes None for an empty text
            given |= {key: token[key] for key in FLAGS if key in token}
            backend.add_tokens([AddedToken(**given)])
        except TypeError as error:
            raise ConfigError(f"tokenizer: the special token {token!r:.80} is described wrongly: {error}") from None


def two_ids(folder: Path, text: str, declared: int, actual: int) -> str:
    return (
        f"tokenizer: {folder} gives {text!r} the id {declared} in tokenizer_config.json or added_tokens.json, and its "
        f"vocabulary {actual}; use files of the same model"
    )


def copy_files(file: Path, beside: Sequence[str], target: Path) -> None:
    """Copies a file to `target`, under whose name the original may be another, and the files beside it."""
    for name in SETTINGS_FILES:
        check_not_a_link(file.parent / name)
    target.parent.mkdir(parents=True, exist_ok=True)
    sources = {target.parent / name: file.parent / name for name in beside} | {target: file}
    for to, source in sources.items():
        if source.is_file() and source.resolve() != to.resolve():
            shutil.copyfile(source, to)
