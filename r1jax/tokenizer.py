"""Text ↔ ids behind one interface: a task's characters, a Hugging Face tokenizer.json, a SentencePiece model.

    tokenizer = load_tokenizer("characters", None, task.symbols)
    ids = tokenizer.encode("12+34=")

Importing this loads neither library; the classes that need one do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class Tokenizer(Protocol):
    """Ids are 0 to `size` - 1. `encode` adds no special tokens; `decode` leaves out padding, stop and start tokens.

    `stop_ids[0]` ends worked examples; `bos_id` is set only where prompts begin with it; `pad_id` is a mere filler:
    masks come from lengths, since padding is often the stop token too.
    """

    size: int
    stop_ids: tuple[int, ...]
    bos_id: int | None
    pad_id: int

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class CharacterTokenizer:
    """One id per symbol of an alphabet; a symbol may be several characters, and the longest one that fits is taken.

    Id 0 is padding, id 1 the stop token, the symbols follow in order.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        if not symbols or not all(symbols) or len(set(symbols)) != len(symbols):
            raise ValueError(f"an alphabet needs distinct symbols that are not empty, got {list(symbols)}")
        self.symbols = tuple(symbols)
        self.size = 2 + len(symbols)
        self.pad_id = 0
        self.stop_ids: tuple[int, ...] = (1,)
        self.bos_id: int | None = None
        self._ids = {symbol: 2 + i for i, symbol in enumerate(symbols)}
        longest_first = sorted(symbols, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) + "|(.)", re.DOTALL)

    def encode(self, text: str) -> list[int]:
        """Raises ValueError at the first character that no symbol covers."""
        ids = []
        for match in self._pattern.finditer(text):
            if match.group(1) is not None:
                raise ValueError(
                    f"character {match.group()!r} at position {match.start()} is not in the alphabet "
                    f"{' '.join(map(repr, self.symbols))}"
                )
            ids.append(self._ids[match.group()])
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.symbols[i - 2] for i in ids if i >= 2)


class HuggingFaceTokenizer:
    """A `tokenizer.json`, or the folder of a model that has one.

    Stop ids are the `eos_token` of tokenizer_config.json, then every `eos_token_id` of generation_config.json. The
    start token counts only where the model's own tokenizer puts it before a text; many name one and never do.
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
        self._backend.no_truncation()  # a file may carry either setting, and both would change ids silently
        self._backend.no_padding()
        settings = _read_json(file.parent / "tokenizer_config.json")
        generation = _read_json(file.parent / "generation_config.json")
        # Not the number of tokens: ids may have gaps.
        self.size = 1 + max(self._backend.get_vocab(with_added_tokens=True).values())
        self.stop_ids = self._stops(settings, generation, file.parent)
        bos, pad = self._special(settings, "bos_token"), self._special(settings, "pad_token")
        self.bos_id = bos if self._prepends(bos, settings) else None
        self.pad_id = 0 if pad is None else pad
        self._dropped = {*self.stop_ids, bos, pad}

    def _stops(self, settings: dict[str, Any], generation: dict[str, Any], folder: Path) -> tuple[int, ...]:
        eos, more = self._special(settings, "eos_token"), generation.get("eos_token_id")
        named: list[int | None] = [eos, *more] if isinstance(more, list) else [eos, more]
        stops = tuple(dict.fromkeys(stop for stop in named if stop is not None))
        if not stops:
            raise ValueError(f"tokenizer.path: no stop token in {folder}; add eos_token_id to generation_config.json")
        if unknown := [stop for stop in stops if not 0 <= stop < self.size]:
            raise ValueError(
                f"tokenizer.path: generation_config.json in {folder} has eos_token_id {unknown[0]}, and the tokenizer "
                f"has ids 0 to {self.size - 1}; put the files of one model together"
            )
        return stops

    def _special(self, settings: dict[str, Any], name: str) -> int | None:
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        return None if token is None else self._backend.token_to_id(token)

    def _prepends(self, bos: int | None, settings: dict[str, Any]) -> bool:
        """`add_bos_token` decides; where it is not given, the post-processor of tokenizer.json."""
        added = settings.get("add_bos_token")
        return bos in self._backend.encode("", add_special_tokens=True).ids[:1] if added is None else bool(added)

    def encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        kept = [int(i) for i in ids if int(i) not in self._dropped]
        return self._backend.decode(kept, skip_special_tokens=False)  # tags such as <think> may be special tokens


class SentencePieceTokenizer:
    """A SentencePiece `.model` file; its eos piece is the stop token, its bos piece, if any, begins prompts."""

    def __init__(self, path: str | Path) -> None:
        from sentencepiece import SentencePieceProcessor

        if not Path(path).is_file():
            raise ValueError(f"tokenizer.path: no SentencePiece model at {path}; give the .model file")
        try:
            self._backend: Any = SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise ValueError(f"tokenizer.path: {path} is not a SentencePiece model: {error}") from None
        self.size: int = self._backend.get_piece_size()
        eos, bos, pad = self._backend.eos_id(), self._backend.bos_id(), self._backend.pad_id()  # -1: has none
        if eos < 0:
            raise ValueError(f"tokenizer.path: {path} has no eos piece, so a completion could never stop")
        self.stop_ids: tuple[int, ...] = (eos,)
        self.bos_id: int | None = bos if bos >= 0 else None
        self.pad_id: int = max(pad, 0)
        self._dropped = {eos, bos, pad}

    def encode(self, text: str) -> list[int]:
        return self._backend.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode([int(i) for i in ids if int(i) not in self._dropped])


def load_tokenizer(kind: str, path: str | None, symbols: Sequence[str]) -> Tokenizer:
    """The tokenizer that a config names: `path` is for files, `symbols` (the task's alphabet) for kind `characters`."""
    if kind == "characters":
        return CharacterTokenizer(symbols)
    kinds = {"huggingface": HuggingFaceTokenizer, "sentencepiece": SentencePieceTokenizer}
    if kind not in kinds:
        raise ValueError(f"tokenizer.kind: got {kind!r}, need one of characters, {', '.join(kinds)}")
    if path is None:
        raise ValueError(f"tokenizer.path: kind {kind} needs the path of its file or folder, got none")
    return kinds[kind](path)


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"tokenizer.path: {file} is not valid JSON: {error}") from None
