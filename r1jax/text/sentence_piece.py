"""SentencePiece models, as transformers' tokenizers read them.

tokenizer = SentencePieceTokenizer(Path("models/mistral/tokenizer.model"))
ids = tokenizer.encode("12+34=")
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1jax.text.chat_template import ChatTemplate, load_chat_template, read_json
from r1jax.text.special_tokens import (
    SETTINGS_FILES,
    copy_files,
    declared_tokens,
    special_tokens,
    stop_ids_of,
    two_ids,
    unnamed_specials,
)
from r1jax.text.tokenizer import Tokenizer

# Written after a model's message, it is merged into it: normalizer_spec { add_dummy_prefix: false }.
NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece `.model` file, with the settings in the other files of its folder.

    Its eos piece is the first stop token; those that generation_config.json or config.json name follow, and the one
    that ends a turn in the chat template. Its bos piece, if any, begins prompts unless tokenizer_config.json has
    `add_bos_token` false. As in Hugging Face's tokenizers, and unlike SentencePiece itself, special tokens in a text
    (`<s>` in a rendered chat) are encoded as their ids. Where the model's dummy space goes is as in transformers:
    without `legacy` at the beginning of a text alone, with it after each special token too; and its LlamaTokenizer, for
    which `legacy` is false by default, leaves it out before a space.
    """

    def __init__(self, file: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        try:
            self._backend: Any = SentencePieceProcessor(model_file=str(file))
        except (RuntimeError, OSError) as error:
            raise ValueError(f"tokenizer: {file} is not a SentencePiece model: {error}") from None
        proto: bytes = self._backend.serialized_model_proto()
        self._inner: Any = SentencePieceProcessor(model_proto=proto + NO_DUMMY_PREFIX)
        self.source, self._file = str(file), file
        settings, pieces = read_json(file.parent / "tokenizer_config.json"), self._backend.get_piece_size()
        self._is_llama = str(settings.get("tokenizer_class")).removesuffix("Fast") == "LlamaTokenizer"
        self._legacy = settings.get("legacy", not self._is_llama) is True
        self._specials = special_tokens(file.parent)
        eos, bos, pad = self._backend.eos_id(), self._backend.bos_id(), self._backend.pad_id()  # -1: has none
        if eos < 0:
            raise ValueError(f"tokenizer: {file} has no eos piece, so that completions could not end")
        named = {"bos_token": bos, "eos_token": eos, "pad_token": pad, "unk_token": self._backend.unk_id()}
        texts = {name: self._backend.id_to_piece(i) for name, i in named.items() if i >= 0}
        self._control = {texts["eos_token"]: eos, texts["unk_token"]: self._backend.unk_id()}
        self._control |= {self._backend.id_to_piece(i): i for i in range(pieces) if self._backend.is_control(i)}
        if self._is_llama:
            self._control |= {self._backend.id_to_piece(i): i for i in _user_defined(proto)}
        self._control |= self._added(file.parent, pieces)
        self.size: int = 1 + max(pieces - 1, *self._control.values())
        self._texts = {i: token for token, i in self._control.items()}
        self._pattern = _pattern(self._control, settings.get("added_tokens_decoder") or {})
        self._specials = texts | self._specials
        bos = self._control.get(self._specials.get("bos_token", ""), bos)
        self.bos_id: int | None = bos if bos >= 0 and settings.get("add_bos_token") is not False else None
        self.stop_ids = stop_ids_of(self._control.get(self._specials["eos_token"], eos), file.parent, self.size)
        self.added_tokens = [*self._control]
        self._unread = {bos, pad}

    def _added(self, folder: Path, pieces: int) -> dict[str, int]:
        """The ids of tokens beyond the model's pieces, or that are pieces which are special tokens in this folder."""
        declared = {text: i for i, text in sorted(declared_tokens(folder).items())}
        ids: dict[str, int] = {}
        extra = [str(token.get("content")) for token in unnamed_specials(folder)]
        for text in [*declared, *self._specials.values(), *extra]:
            piece = self._backend.piece_to_id(text)
            known = (
                piece if self._backend.id_to_piece(piece) == text else pieces + sum(i >= pieces for i in ids.values())
            )
            actual = ids.setdefault(text, known)
            if declared.get(text, actual) != actual:
                raise ValueError(two_ids(folder, text, declared[text], actual))
        return ids

    @functools.cached_property
    def chat_template(self) -> ChatTemplate | None:
        return load_chat_template(self._file.parent, self._specials)

    def encode(self, text: str) -> list[int]:
        ids = []
        for number, part in enumerate(self._pattern.split(text)):
            if number % 2:
                ids.append(self._control[part if part in self._control else part.strip()])
            elif part:
                doubled = self._legacy and not self._is_llama
                has_prefix = (self._legacy or number == 0) and (doubled or not part.startswith((" ", "▁")))
                ids += (self._backend if has_prefix else self._inner).encode(part)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        dropped, pieces = self._unread.union(self.stop_ids), self._backend.get_piece_size()
        kept = [int(i) for i in ids if int(i) not in dropped]
        parts = itertools.groupby(kept, lambda i: i if i >= pieces else -1)
        return "".join(self._backend.decode([*run]) if i < 0 else self._texts[i] * len([*run]) for i, run in parts)

    def tokens(self) -> dict[int, str]:
        pieces = {i: self._backend.id_to_piece(i) for i in range(self._backend.get_piece_size())}
        return pieces | self._texts

    def save(self, folder: Path) -> None:
        copy_files(self._file, SETTINGS_FILES, folder / "tokenizer.model")


def _user_defined(proto: bytes) -> Iterator[int]:
    """The ids of a model's user-defined pieces: those whose messages, which come first, end with type 4."""
    place = number = 0
    while proto[place : place + 1] == b"\x0a":
        size, place = proto[place + 1], place + 2
        if size > 127:  # a varint of two bytes
            size, place = size - 128 + 128 * proto[place], place + 1
        if proto[place : place + size].endswith(b"\x18\x04"):
            yield number
        place, number = place + size, number + 1


def _pattern(tokens: Mapping[str, int], described: Mapping[str, Mapping[str, Any]]) -> re.Pattern[str]:
    """What splits a text at its special tokens, with the white space that some of them take in."""
    flags = {token.get("content"): token for token in described.values()}
    alternatives = []
    for token in sorted(tokens, key=len, reverse=True):
        left, right = (r"\s*" if flags.get(token, {}).get(side) else "" for side in ("lstrip", "rstrip"))
        alternatives.append(left + re.escape(token) + right)
    return re.compile(f"({'|'.join(alternatives)})")
