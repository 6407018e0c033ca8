"""Tokenizers behind one interface: a task's characters, a Hugging Face tokenizer.json, a SentencePiece model.

    tokenizer = load_tokenizer("characters", task.symbols)
    ids = tokenizer.encode("12+34=")

The libraries that the last two need are imported only when such a tokenizer is made.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from r1jax.text.byte_level import byte_level_bpe
from r1jax.text.chat_template import ChatTemplate, load_chat_template, read_json
from r1jax.text.special_tokens import (
    SETTINGS_FILES,
    VOCABULARY_FILES,
    add_tokens,
    copy_files,
    special_tokens,
    stop_ids_of,
    stop_texts_of,
)

CHARACTERS = "characters"
PAD, STOP = "<|pad|>", "<|stop|>"  # of the character tokenizer


class Tokenizer(Protocol):
    """Ids are 0 to `size` - 1. `encode` adds no special tokens; `decode` leaves out padding, stop and start tokens.

    `stop_ids[0]` ends demonstrations, or `turn_end` in a chat whose template has one; `stop_texts` end completions too,
    where they are no single tokens. `bos_id` is None unless prompts begin with it; `added_tokens` are those that are
    found in any text; `source` names the tokenizer in errors.
    """

    size: int
    stop_ids: tuple[int, ...]
    stop_texts: tuple[str, ...] = ()
    turn_end: int | None = None
    bos_id: int | None
    added_tokens: Collection[str] = ()
    source: str

    @property
    def chat_template(self) -> ChatTemplate | None: ...

    def encode(self, text: str) -> list[int]: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str: ...

    def stop_at(self, texts: Sequence[str]) -> None:
        """Lets completions end at these texts too, each an added token or any other text."""
        if not texts:
            return
        named = {*texts}.intersection(self.added_tokens)
        ids = {token: i for i, token in self.tokens().items() if token in named}
        self.stop_ids = tuple(dict.fromkeys([*self.stop_ids, *(ids[text] for text in texts if text in ids)]))
        self.stop_texts = tuple(dict.fromkeys([*self.stop_texts, *(text for text in texts if text not in ids)]))

    def tokens(self) -> dict[int, str]:
        """The tokens by their ids, special ones and stop tokens too, as the vocabulary spells them."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what Hugging Face's tools need to load the same tokenizer from `folder`."""
        ...


class CharacterTokenizer(Tokenizer):
    """One id for each symbol of an alphabet; of symbols of several characters the longest that fits is taken.

    Id 0 is padding, id 1 the stop token, and the symbols follow in order.
    """

    source = "the character tokenizer"
    chat_template: ChatTemplate | None = None

    def __init__(self, symbols: Sequence[str]) -> None:
        if not symbols or not all(symbols) or len(set(symbols)) != len(symbols):
            raise ValueError(f"tokenizer: an alphabet needs distinct symbols that are not empty, got {list(symbols)}")
        self.symbols = self.added_tokens = tuple(symbols)
        self.size = 2 + len(symbols)
        self.stop_ids: tuple[int, ...] = (1,)
        self.bos_id: int | None = None
        self._ids = {symbol: 2 + i for i, symbol in enumerate(symbols)}
        self._alternation = "|".join(map(re.escape, sorted(symbols, key=len, reverse=True)))
        self._pattern = re.compile(self._alternation + "|(.)", re.DOTALL)

    @classmethod
    def load(cls, folder: Path) -> CharacterTokenizer:
        """The tokenizer that `save` wrote."""
        ids = read_json(folder / "tokenizer.json").get("model", {}).get("vocab")
        if not isinstance(ids, dict):
            raise ValueError(f"{folder / 'tokenizer.json'} is missing, or is no tokenizer of characters")
        return cls(sorted(ids, key=lambda symbol: ids[symbol])[2:])

    def encode(self, text: str) -> list[int]:
        """Raises ValueError at the first character that no symbol covers."""
        ids = []
        for match in self._pattern.finditer(text):
            if match.group(1) is not None:
                raise ValueError(
                    f"character {match.group()!r} at position {match.start()} is not in the alphabet "
                    f"{' '.join(map(repr, self.symbols))} of the task; the key `tokenizer` names one for any text"
                )
            ids.append(self._ids[match.group()])
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.symbols[i - 2] for i in ids if i >= 2)

    def tokens(self) -> dict[int, str]:
        return dict(enumerate([PAD, STOP, *self.symbols]))

    def save(self, folder: Path) -> None:
        """As a tokenizer.json with the same ids. Raises ValueError where a symbol has the name of a special token."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        if taken := {PAD, STOP} & self._ids.keys():
            raise ValueError(f"the alphabet has {taken.pop()!r}, which the saved tokenizer needs; rename the symbol")
        backend = Tokenizer(models.WordLevel({PAD: 0, STOP: 1, **self._ids}))  # unknown symbols are errors
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(self._alternation), "isolated")  # pyright: ignore
        backend.decoder = decoders.Fuse()  # pyright: ignore
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(backend.to_str(pretty=True), encoding="utf-8")
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": STOP, "pad_token": PAD}
        text = json.dumps(settings | {"clean_up_tokenization_spaces": False}, indent=2)
        (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json`, or a `vocab.json` with its `merges.txt`, with the settings in the other files of its folder.

    Tokens that only those name are added, as transformers does. Stop ids are the `eos_token` of tokenizer_config.json,
    then every `eos_token_id` of generation_config.json, or of config.json where that has none, and the token that ends
    a turn in the chat template. `bos_id` is set only if the model's own tokenizer puts the start token in front of
    texts; many define one that they never use.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer as Backend

        if file.name == "vocab.json":
            self._backend: Any = byte_level_bpe(file)
        else:
            try:
                self._backend = Backend.from_file(str(file))
            except Exception as error:  # the library raises bare Exception
                raise ValueError(f"tokenizer: {file} is not a tokenizer.json: {error}") from None
        self.source, self._file = str(file), file
        self._backend.no_truncation()  # a file may have either setting, and both would change ids silently
        self._backend.no_padding()
        self._specials = special_tokens(file.parent)
        add_tokens(self._backend, file.parent)
        # Not the number of tokens, since ids may have gaps.
        self.size = 1 + max(self._backend.get_vocab(with_added_tokens=True).values())
        ids = {name: self._backend.token_to_id(token) for name, token in self._specials.items()}
        eos, bos, pad = (ids.get(name) for name in ("eos_token", "bos_token", "pad_token"))
        added = read_json(file.parent / "tokenizer_config.json").get("add_bos_token")
        if added is None:  # then it is as tokenizer.json's post-processor does
            added = bos in self._backend.encode("", add_special_tokens=True).ids[:1]
        self.bos_id = bos if added else None
        self.stop_ids = stop_ids_of(eos, file.parent, self.size)
        self.added_tokens = [token.content for token in self._backend.get_added_tokens_decoder().values()]
        self._unread = {bos, pad}

    @functools.cached_property
    def chat_template(self) -> ChatTemplate | None:
        return load_chat_template(self._file.parent, self._specials)

    def encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        dropped = self._unread.union(self.stop_ids)
        text_ids = [int(i) for i in ids if int(i) not in dropped]
        return self._backend.decode(text_ids, skip_special_tokens=False)  # tags such as <think> may be special tokens

    def tokens(self) -> dict[int, str]:
        return {i: token for token, i in self._backend.get_vocab(with_added_tokens=True).items()}

    def save(self, folder: Path) -> None:
        copy_files(self._file, VOCABULARY_FILES + SETTINGS_FILES, folder / "tokenizer.json")
        if self._file.name == "vocab.json":
            (folder / "tokenizer.json").write_text(self._backend.to_str(pretty=True), encoding="utf-8")
            settings = self._specials | read_json(self._file.parent / "tokenizer_config.json")
            (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(source: str | Path | None, symbols: Sequence[str], stop: Sequence[str] = ()) -> Tokenizer:
    """A tokenizer of characters, or the one at a path; completions end at the texts `stop`, too.

    `source` None or "characters" takes `symbols`, the task's alphabet. Otherwise it is a folder with a tokenizer.json,
    a tokenizer.model, or a vocab.json with its merges.txt, a tokenizer.json file, or a SentencePiece model file.
    """
    if source is None or source == CHARACTERS:
        tokenizer: Tokenizer = CharacterTokenizer(symbols)
    else:
        tokenizer = _read_tokenizer(Path(source))
        if end := tokenizer.chat_template and tokenizer.chat_template.turn_end(tokenizer.added_tokens):
            tokenizer.stop_at([end])
            if end in tokenizer.added_tokens:
                (tokenizer.turn_end,) = tokenizer.encode(end)
        tokenizer.stop_at(stop_texts_of(Path(tokenizer.source).parent))
    tokenizer.stop_at(stop)
    return tokenizer


def _read_tokenizer(file: Path) -> Tokenizer:
    if file.is_dir():
        names = [name for name in ("tokenizer.json", "tokenizer.model", "vocab.json") if (file / name).is_file()]
        if not names or (names == ["vocab.json"] and not (file / "merges.txt").is_file()):
            raise ValueError(
                f"tokenizer: no tokenizer.json or tokenizer.model in {file}, and no vocab.json with merges.txt; give a "
                f"folder with one"
            )
        file = file / names[0]
    elif not file.is_file():
        raise ValueError(
            f"tokenizer: there is no file or folder {file}; give {CHARACTERS}, a model's folder, a tokenizer.json or a "
            f"SentencePiece model"
        )
    from r1jax.text.sentence_piece import SentencePieceTokenizer  # here, since it is a tokenizer of this module

    with file.open("rb") as opened:
        is_json = file.name == "tokenizer.json" or opened.read(64).lstrip().startswith(b"{")
    kind: Any = HuggingFaceTokenizer if is_json else SentencePieceTokenizer
    return kind(file)


def check_same_tokens(source: str, theirs: Tokenizer, ours: Tokenizer) -> None:
    """Raises ValueError where an id that both have is another token: `source` would read and write other words."""
    their, our = theirs.tokens(), ours.tokens()
    for i in range(min(theirs.size, ours.size)):
        if their.get(i) != our.get(i):
            raise ValueError(
                f"the tokenizer of {source} is another one: id {i} is {their.get(i)!r} there and {our.get(i)!r} here; "
                f"give the same tokenizer, or the same tasks in the same order"
            )
