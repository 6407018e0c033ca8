"""Tokenizers behind one interface: a task's characters, a Hugging Face tokenizer.json, a SentencePiece model.

    tokenizer = load_tokenizer("characters", task.symbols)
    ids = tokenizer.encode("12+34=")

The libraries that the last two need are imported only when such a tokenizer is made.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from r1jax.text.chat_template import ChatTemplate, load_chat_template, read_json

CHARACTERS = "characters"
PAD, STOP = "<|pad|>", "<|stop|>"  # of the character tokenizer
SETTINGS_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")


class Tokenizer(Protocol):
    """Ids are 0 to `size` - 1. `encode` adds no special tokens; `decode` leaves out padding, stop and start tokens.

    `stop_ids[0]` ends demonstrations; `bos_id` is None unless prompts begin with it; `source` names the tokenizer in
    errors.
    """

    size: int
    stop_ids: tuple[int, ...]
    bos_id: int | None
    source: str

    @property
    def chat_template(self) -> ChatTemplate | None: ...

    def encode(self, text: str) -> list[int]: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str: ...

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
        self.symbols = tuple(symbols)
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
                    f"{' '.join(map(repr, self.symbols))}"
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
        backend.save(str(folder / "tokenizer.json"))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": STOP, "pad_token": PAD}
        text = json.dumps(settings | {"clean_up_tokenization_spaces": False}, indent=2)
        (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


class HuggingFaceTokenizer(Tokenizer):
    """A `tokenizer.json`, with the settings in the other files of its folder.

    Stop ids are the `eos_token` of tokenizer_config.json, then every `eos_token_id` of generation_config.json, or of
    config.json where that has none. `bos_id` is set only if the model's own tokenizer puts the start token in front of
    texts; many define one that they never use.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer as Backend

        try:
            self._backend: Any = Backend.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"tokenizer: {file} is not a tokenizer.json: {error}") from None
        self.source, self._file = str(file), file
        self._backend.no_truncation()  # a file may have either setting, and both would change ids silently
        self._backend.no_padding()
        # Not the number of tokens, since ids may have gaps.
        self.size = 1 + max(self._backend.get_vocab(with_added_tokens=True).values())
        self._specials = _special_tokens(file.parent)
        ids = {name: self._backend.token_to_id(token) for name, token in self._specials.items()}
        eos, bos, pad = (ids.get(name) for name in ("eos_token", "bos_token", "pad_token"))
        self.stop_ids = _stop_ids(eos, file.parent, self.size)
        added = read_json(file.parent / "tokenizer_config.json").get("add_bos_token")
        if added is None:  # then it is as tokenizer.json's post-processor does
            added = bos in self._backend.encode("", add_special_tokens=True).ids[:1]
        self.bos_id = bos if added else None
        self._dropped = {*self.stop_ids, bos, pad}

    @functools.cached_property
    def chat_template(self) -> ChatTemplate | None:
        return load_chat_template(self._file.parent, self._specials)

    def encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        text_ids = [int(i) for i in ids if int(i) not in self._dropped]
        return self._backend.decode(text_ids, skip_special_tokens=False)  # tags such as <think> may be special tokens

    def tokens(self) -> dict[int, str]:
        return {i: token for token, i in self._backend.get_vocab(with_added_tokens=True).items()}

    def save(self, folder: Path) -> None:
        _copy_files(self._file, VOCABULARY_FILES + SETTINGS_FILES, folder / "tokenizer.json")


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece `.model` file, with the settings in the other files of its folder.

    Its eos piece is the first stop token; those that generation_config.json or config.json name follow. Its bos piece,
    if any, begins prompts unless tokenizer_config.json has `add_bos_token` false. As in Hugging Face's tokenizers, and
    unlike SentencePiece itself, control pieces in a text (`<s>` in a rendered chat) are encoded as their ids.
    """

    def __init__(self, file: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        try:
            self._backend: Any = SentencePieceProcessor(model_file=str(file))
        except (RuntimeError, OSError) as error:
            raise ValueError(f"tokenizer: {file} is not a SentencePiece model: {error}") from None
        self.source, self._file = str(file), file
        self.size: int = self._backend.get_piece_size()
        added = read_json(file.parent / "added_tokens.json")
        if beyond := [token for token, i in added.items() if i >= self.size]:
            raise ValueError(
                f"tokenizer: added_tokens.json beside {file} has {beyond[0]!r}, which the model does not; convert "
                "them to one tokenizer.json with transformers' AutoTokenizer"
            )
        eos, bos, pad = self._backend.eos_id(), self._backend.bos_id(), self._backend.pad_id()  # -1: has none
        if eos < 0:
            raise ValueError(f"tokenizer: {file} has no eos piece, so that completions could not end")
        self.stop_ids: tuple[int, ...] = _stop_ids(eos, file.parent, self.size)
        starts = bos >= 0 and read_json(file.parent / "tokenizer_config.json").get("add_bos_token") is not False
        self.bos_id: int | None = bos if starts else None
        self._dropped = {*self.stop_ids, bos, pad}
        pieces = {i: self._backend.id_to_piece(i) for i in range(self.size) if i == eos or self._backend.is_control(i)}
        self._control = {piece: i for i, piece in pieces.items()}
        self._pattern = re.compile(f"({'|'.join(map(re.escape, sorted(self._control, key=len, reverse=True)))})")
        named = {"bos_token": bos, "eos_token": eos, "pad_token": pad, "unk_token": self._backend.unk_id()}
        texts = {name: self._backend.id_to_piece(i) for name, i in named.items() if i >= 0}
        self._specials = texts | _special_tokens(file.parent)

    @functools.cached_property
    def chat_template(self) -> ChatTemplate | None:
        return load_chat_template(self._file.parent, self._specials)

    def encode(self, text: str) -> list[int]:
        ids = []
        for part in self._pattern.split(text):
            ids += [self._control[part]] if part in self._control else self._backend.encode(part)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode([int(i) for i in ids if int(i) not in self._dropped])

    def tokens(self) -> dict[int, str]:
        return {i: self._backend.id_to_piece(i) for i in range(self.size)}

    def save(self, folder: Path) -> None:
        _copy_files(self._file, SETTINGS_FILES, folder / "tokenizer.model")


def load_tokenizer(source: str | Path | None, symbols: Sequence[str]) -> Tokenizer:
    """A tokenizer of characters, or the one at a path.

    `source` None or "characters" takes `symbols`, the task's alphabet. Otherwise it is a folder with a tokenizer.json
    or a tokenizer.model, a tokenizer.json file, or a SentencePiece model file.
    """
    if source is None or source == CHARACTERS:
        return CharacterTokenizer(symbols)
    file = Path(source)
    if file.is_dir():
        files = [file / name for name in ("tokenizer.json", "tokenizer.model") if (file / name).is_file()]
        if not files:
            raise ValueError(f"tokenizer: no tokenizer.json or tokenizer.model in {file}; give a folder with one")
        file = files[0]
    elif not file.is_file():
        raise ValueError(
            f"tokenizer: there is no file or folder {file}; give {CHARACTERS}, a model's folder, a tokenizer.json or a "
            f"SentencePiece model"
        )
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


def _stop_ids(eos: int | None, folder: Path, size: int) -> tuple[int, ...]:
    file = folder / "generation_config.json"
    named = read_json(file).get("eos_token_id")
    if named is None:
        file = folder / "config.json"
        named = read_json(file).get("eos_token_id")
    more = named if isinstance(named, list) else [named]
    if unknown := [stop for stop in more if stop is not None and not 0 <= stop < size]:
        raise ValueError(
            f"tokenizer: {file} has eos_token_id {unknown[0]}, and the tokenizer has ids 0 to {size - 1}; use "
            "files of the same model"
        )
    stops = tuple(dict.fromkeys(stop for stop in (eos, *more) if stop is not None))
    if not stops:
        raise ValueError(f"tokenizer: no stop token in {folder}; add eos_token_id to generation_config.json")
    return stops


def _special_tokens(folder: Path) -> dict[str, str]:
    """The special tokens that templates may use, by name; the files give each as a text or as an object with one."""
    settings = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
    tokens = {name: settings.get(name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    texts = {name: token.get("content") if isinstance(token, dict) else token for name, token in tokens.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _copy_files(file: Path, beside: Sequence[str], target: Path) -> None:
    """Copies a file to `target`, under whose name the original may be another, and the files beside it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sources = {target.parent / name: file.parent / name for name in beside} | {target: file}
    for to, source in sources.items():
        if source.is_file() and source.resolve() != to.resolve():
            shutil.copyfile(source, to)
