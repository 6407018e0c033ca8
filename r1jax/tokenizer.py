"""Text ↔ ids behind one interface: a task's characters, a Hugging Face tokenizer.json, a SentencePiece model.

    tokenizer = load_tokenizer("characters", None, task.symbols)
    ids = tokenizer.encode("12+34=")
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class Tokenizer(Protocol):
    """Ids are 0 to `size` - 1. `encode` adds no special tokens; `decode` leaves out padding, stop and start tokens."""

    size: int
    stop_ids: tuple[int, ...]
    bos_id: int | None

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class CharacterTokenizer:
    """One id per symbol of an alphabet; a symbol may be several characters, and the longest one that fits is taken.

    Id 0 is padding, id 1 the stop token, the symbols follow in order.
    """

    bos_id = None
    stop_ids = (1,)

    def __init__(self, symbols: Sequence[str]) -> None:
        if not all(symbols) or len(set(symbols)) != len(symbols):
            raise ValueError(f"an alphabet needs distinct symbols that are not empty, got {list(symbols)}")
        self.symbols = tuple(symbols)
        self.size = 2 + len(symbols)
        self._ids = {symbol: 2 + i for i, symbol in enumerate(symbols)}
        longest_first = sorted(symbols, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) + "|(.)", re.DOTALL)

    def encode(self, text: str) -> list[int]:
        """Raises ValueError at the first character that no symbol covers."""
        ids = []
        for match in self._pattern.finditer(text):
            if match.group(1) is not None:
                raise ValueError(
                    f"character {match.group(1)!r} at position {match.start()} of {text!r} is not in the alphabet "
                    f"{' '.join(self.symbols)}"
                )
            ids.append(self._ids[match.group()])
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.symbols[i - 2] for i in ids if i >= 2)


class HuggingFaceTokenizer:
    """A `tokenizer.json`, or the folder of a model that has one.

    Stop ids are the `eos_token_id` of generation_config.json together with the `eos_token` of tokenizer_config.json.
    """

    def __init__(self, path: str | Path) -> None:
        from tokenizers import Tokenizer as Backend

        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise ValueError(f"tokenizer.path: no tokenizer.json at {path}; give the file or the folder that holds it")
        try:
            self._backend: Any = Backend.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"tokenizer.path: {file} is not a tokenizer.json: {error}") from None
        settings = _read_json(file.parent / "tokenizer_config.json")
        generation = _read_json(file.parent / "generation_config.json")
        self.size = self._backend.get_vocab_size(with_added_tokens=True)
        stops = generation.get("eos_token_id")
        stops = [stops] if isinstance(stops, int) else stops or []
        eos = self._special(settings, "eos_token")
        self.stop_ids = tuple(dict.fromkeys([*stops, *([] if eos is None else [eos])]))
        if not self.stop_ids:
            raise ValueError(f"tokenizer.path: {file.parent} names no stop token; add eos_token_id to generation_config.json")
        self.bos_id = self._special(settings, "bos_token")

    def _special(self, settings: dict[str, Any], name: str) -> int | None:
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        return None if token is None else self._backend.token_to_id(token)

    def encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        dropped = {*self.stop_ids, self.bos_id}
        return self._backend.decode([int(i) for i in ids if int(i) not in dropped], skip_special_tokens=False)


class SentencePieceTokenizer:
    """A SentencePiece `.model` file; its eos piece is the stop token."""

    def __init__(self, path: str | Path) -> None:
        from sentencepiece import SentencePieceProcessor

        if not Path(path).is_file():
            raise ValueError(f"tokenizer.path: no SentencePiece model at {path}; give the .model file")
        try:
            self._backend: Any = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise ValueError(f"tokenizer.path: {path} is not a SentencePiece model: {error}") from None
        self.size = self._backend.get_piece_size()
        if self._backend.eos_id() < 0:
            raise ValueError(f"tokenizer.path: {path} has no eos piece, so a completion could never stop")
        self.stop_ids = (self._backend.eos_id(),)
        self.bos_id = self._backend.bos_id() if self._backend.bos_id() >= 0 else None

    def encode(self, text: str) -> list[int]:
        return self._backend.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        dropped = {*self.stop_ids, self.bos_id, self._backend.pad_id()}
        return self._backend.decode([int(i) for i in ids if int(i) not in dropped])


def load_tokenizer(kind: str, path: str | None, symbols: Sequence[str]) -> Tokenizer:
    """The tokenizer that a config names; `symbols` is the task's alphabet, for kind `characters`."""
    if kind == "characters":
        return CharacterTokenizer(symbols)
    return {"huggingface": HuggingFaceTokenizer, "sentencepiece": SentencePieceTokenizer}[kind](str(path))


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}
