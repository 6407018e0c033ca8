"""Runs r1jax with damaged and odd model folders and data files; each is refused in one clear line, or read rightly.

    uv run scripts/fuzz_files.py 600

Model folders: a tiny one in which each value of each JSON file is replaced, and files are cut, lost or exchanged; they
are sampled from. Data files: the same rows in odd forms and with every kind of damage; they are trained on. A case ends
with one line that names the file and exit code 2, or in just what the undamaged folder or file gives when compiling
begins. Prints the cases that end otherwise, and exits with 1 if there are any.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("JAX_PLATFORMS", "cpu")
MAX_LINE = 700  # characters
QUESTION = "What is 12 + 30?"
CHAT = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
INDEX, FIRST = "model.safetensors.index.json", "model-00001-of-00002.safetensors"
TEMPLATE = "chat_template.jinja"
ODD = (None, "x", "", -1, 0, 1.5, 10**400, True, [], [[]], {}, {"x": {}}, float("nan"), float("inf"), "\ud800")
# Values that mean something else, which is what they do in transformers, too.
OTHER = (
    "config.json rms_norm_eps=0", "config.json rope_theta=1.5", "generation_config.json eos_token_id=null",
    "generation_config.json eos_token_id=0", "generation_config.json eos_token_id=[]",
    "generation_config.json stop_strings=null", 'generation_config.json stop_strings="x"',
    'generation_config.json stop_strings=""', "generation_config.json stop_strings=[]",
    "tokenizer.json pre_tokenizer=null", "tokenizer.json pre_tokenizer.add_prefix_space=true",
    "tokenizer.json decoder=null", 'tokenizer.json model.continuing_subword_prefix="x"',
    'tokenizer.json model.end_of_word_suffix="x"', "tokenizer.json model.merges=[]",
    "tokenizer_config.json chat_template=null", 'tokenizer_config.json eos_token="x"',
    'tokenizer_config.json pad_token="x"', "no generation_config.json", "no tokenizer_config.json",
)  # fmt: skip
CONFIG = """\
run_dir: FOLDER/run
task: {TASK}
model: {family: qwen3, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2,
        num_key_value_heads: 2, head_dim: 8, dtype: float32}
max_prompt_length: 12
max_completion_length: 32
evaluate: {problems: 2}
stages: [{name: rl, program: grpo, steps: 1, prompts_per_step: 8, group_size: 2, rewards: {accuracy: 1.0},
          optimizer: {learning_rate: 1e-3}}]
"""
ASKED = {"question": "9+9=", "answer": "18"}
TEST = ASKED | {"a": {"b": ASKED}, "messages": [{"role": "user", "content": "9+9="}]}
ROWS = [{"question": f"{i}+{i}=", "answer": str(2 * i)} for i in range(8)]
TEXT = b"\n".join(json.dumps(row).encode() for row in ROWS) + b"\n"
JSONL, PARQUET = "jsonl: FOLDER/data.jsonl", "parquet: FOLDER/data.parquet"
NOISE, BOM = random.Random(0).randbytes(3000), b"\xef\xbb\xbf"
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037")
NO_ROWS = (3, None, "x", [], ROWS, {}, {"question": "1"}, {"answer": "1"}, {"Question": "1", "answer": "1"})
NO_QUESTIONS = (
    3, 1.5, None, "", " \n", True, [], ["a"], {}, {"role": "user"}, [{"role": "user"}],
    [{"role": 3, "content": "x"}], "\ud800", [{"role": "user", "content": "\udfff"}],
)  # fmt: skip
NO_ANSWERS = (None, "", " ", [], ["1", "2"], {"a": 1}, "\ud800", ["\ud800"], [None])
NARRATED = [{"messages": [{"role": "narrator", "content": "x"}]}]
WRONG_COLUMNS = {  # rows, with the columns that are read
    "a nested column that is none": ([row | {"a": "x"} for row in ROWS], ", answer: a.b"),
    "a nested column of some rows": ([{"question": "1", "a": {"b": 1}}, {"question": "2", "a": {}}], ", answer: a.b"),
    "numbers as demonstrations": ([row | {"c": 3} for row in ROWS], ", completion: c"),
    "numbers as choices": ([row | {"c": 3} for row in ROWS], ", choices: c"),
    "pass rates over 1": ([row | {"p": 3} for row in ROWS], ", pass_rate: [0, 1], pass_rate_column: p"),
    "messages of texts": ([{"messages": ["x"]}], ", messages: messages"),
    "messages of other roles": (NARRATED, ", messages: messages"),
    "no messages": ([{"messages": []}], ", messages: messages"),
}
NO_TABLES = {
    "numbers as questions": [row | {"question": 3} for row in ROWS],
    "no questions": [{"answer": "1"}],
    "no rows": ROWS[:0],
    "a null question": [*ROWS, {"question": None, "answer": "1"}],
    "two answers": [row | {"answer": ["1", "2"]} for row in ROWS],
    "bytes that are no text": [row | {"question": b"\xff"} for row in ROWS],
    "NaN": [row | {"answer": float("nan")} for row in ROWS],
    "nested answers": [row | {"answer": {"a": 1}} for row in ROWS],
}
TEMPLATES = (
    "{% for", "{{ nope() }}", "{{ 1 / 0 }}", "x", "", "{% include '/etc/passwd' %}", "{{ 'x' * 10**12 }}",
    "{{ raise_exception('no\nway') }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
)  # fmt: skip
WRONG_SETTINGS = {
    "quantization_config": {"quant_method": "gptq"}, "num_hidden_layers": 10**9, "vocab_size": 10**12,
    "hidden_size": 2**40, "num_key_value_heads": 3, "head_dim": 7, "architectures": ["GPT2LMHeadModel"],
    "layer_types": ["sliding_attention"], "rope_scaling": {"rope_type": "dynamic", "factor": 2.0},
    "partial_rotary_factor": 0.5, "rope_parameters": {"full_attention": {"rope_theta": 1}},
}  # fmt: skip
RIGHT_SETTINGS = {
    "sliding_window": 9, "attention_dropout": 0.0, "use_cache": False, "unknown": {"x": [1]}, "dtype": "bfloat16",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What is done to a folder that has a model or the rows, and how it ends: None is either of the two right ends.

    `names` is what the error names; `task` is the task's data, for cases of data.
    """

    name: str
    change: Callable[[Path], Any]
    right: bool | None = False
    names: str = "/case"  # of the folder
    task: str = ""


def model_folder(folder: Path) -> None:
    """A tiny random Qwen3 in two shards, with a byte-level tokenizer and a chat template."""
    import jax
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from r1jax.huggingface.config import config_json
    from r1jax.huggingface.weights import export_params
    from r1jax.models import ModelConfig, init_params, make_model

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*alphabet, "12"])}, merges=[("1", "2")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore
    backend.decoder = decoders.ByteLevel()  # pyright: ignore
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    backend.save(str(folder / "tokenizer.json"))
    size = backend.get_vocab_size()
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = ModelConfig(**sizes, num_key_value_heads=2, head_dim=8, qk_norm=True, vocab_size=size, dtype="float32")
    export_params(
        init_params(make_model(config, size), jax.random.key(0)), config, folder, dtype="float32", shard_bytes=25_000
    )
    end = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    described = {"added_tokens_decoder": {str(size - 1): {"content": "<|endoftext|>", "special": True}}}
    for name, content in {
        "config.json": config_json(config, dtype="float32", positions=512) | {"eos_token_id": size - 2},
        "generation_config.json": {"eos_token_id": [size - 2, size - 1], "stop_strings": ["###"]},
        "tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer", "chat_template": CHAT, **end, **described},
        "special_tokens_map.json": end,
    }.items():
        (folder / name).write_text(json.dumps(content))


def edited(file: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A change of the object in a JSON file."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return edit


def replaced(file: str, *path: str, value: Any) -> Callable[[Path], None]:
    """A JSON file with another value at a path of keys."""

    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return edited(file, change)


def written(file: str, content: bytes) -> Callable[[Path], Any]:
    """A file with other content."""
    return lambda folder: (folder / file).write_bytes(content)


def cut(file: str, share: float) -> Callable[[Path], None]:
    """A file without its end."""
    return lambda folder: os.truncate(folder / file, int((folder / file).stat().st_size * share))


def linked(file: str, to: str) -> Callable[[Path], None]:
    """A file that is a link."""

    def link(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to(to)

    return link


def both(*changes: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Changes one after the other."""

    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def flipped(file: str, place: int) -> Callable[[Path], None]:
    """A file with other bytes at a place."""

    def flip(folder: Path) -> None:
        content = bytearray((folder / file).read_bytes())
        content[place : place + 4] = bytes(255 - byte for byte in content[place : place + 4])
        (folder / file).write_bytes(content)

    return flip


def tensors(change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Path], None]:
    """The first shard with other tensors, which are changed in place or replaced."""

    def save(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        arrays = {name: array.copy() for name, array in load_file(folder / FIRST).items()}
        for name, array in arrays.items():
            if (made := change(array)) is not None:
                arrays[name] = made
        save_file(arrays, folder / FIRST)

    return save


def header(content: bytes, size: int | None = None) -> bytes:
    """A safetensors file of a header alone."""
    return (len(content) if size is None else size).to_bytes(8, "little") + content


def keys_of(folder: Path) -> Iterator[tuple[str, ...]]:
    """Each JSON file of a folder with the keys in it, and those in the first levels of its objects."""
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text())
        for key, value in content.items():
            yield file.name, key
            if isinstance(value, dict) and key in ("model", "added_tokens_decoder", "pre_tokenizer", "decoder"):
                yield from ((file.name, key, below) for below in value)


def model_cases(folder: Path) -> Iterator[Case]:
    """What can be wrong with a model's folder, of which `folder` has a good one."""
    deep = b"[" * 100_000 + b"]" * 100_000
    damage = {"empty": b"", "noise": NOISE, "NULs": bytes(3000)}
    no_objects = (b"3", b"null", b"[]", b'"x"', b"{'a': 1}", deep, b'{"x": ' * 100_000, b'{"a": ' + deep + b"}")
    yield Case("as it is", lambda _: None, right=True)
    for file, *path in keys_of(folder):
        for value in ODD:
            yield Case(f"{file} {'.'.join(path)}={json.dumps(value)}", replaced(file, *path, value=value), None)
    for file in sorted(file.name for file in folder.iterdir()):
        right = None if file == "special_tokens_map.json" else False  # not read where tokens are described, as it is
        can_be_missing = right is None or file in ("generation_config.json", "tokenizer_config.json")
        yield Case(f"no {file}", lambda at, file=file: (at / file).unlink(), None if can_be_missing else False)
        yield Case(f"{file} is a folder", lambda at, file=file: ((at / file).unlink(), (at / file).mkdir()), right)
        yield Case(f"{file} links nowhere", linked(file, "nowhere"), right)
        yield Case(f"{file} links to itself", linked(file, file), right)
        yield Case(f"{file}: cut", cut(file, 0.6), right, file)
        contents = damage | ({str(content[:12]): content for content in no_objects} if file.endswith(".json") else {})
        for name, content in contents.items():
            yield Case(f"{file}: {name}", written(file, content), right, file)
        for encoding in ("utf-16", "utf-8-sig", "utf-32") if file.endswith(".json") else ():
            again = (folder / file).read_text().encode(encoding)
            yield Case(f"{file}: {encoding}", written(file, again), None, names=file)
    first = next(iter(json.loads((folder / INDEX).read_text())["weight_map"]))
    named = (
        "..",
        "../x.safetensors",
        "/x.safetensors",
        "no.safetensors",
        "a/../" + FIRST,
        "config.json",
        "",
        3,
        [],
        None,
    )
    for where in named:
        change = replaced(INDEX, "weight_map", first, value=where)
        yield Case(f"weight_map has {where}", change, names=str(where or INDEX))
    yield Case("a tensor left out", edited(INDEX, lambda index: index["weight_map"].pop(first)), names=first)
    yield Case("a tensor too many", replaced(INDEX, "weight_map", "lm_head.bias", value=FIRST), names="lm_head.bias")
    yield Case("a single file as well", lambda at: shutil.copy(at / FIRST, at / "model.safetensors"), names=INDEX)
    yield Case("shards without index", lambda at: (at / INDEX).unlink(), names="model.safetensors")
    for value in (np.nan, np.inf, -np.inf):
        yield Case(f"weights with {value}", tensors(lambda array, value=value: array.put(3, value)), names=FIRST)
    for dtype in ("float64", "int8", "uint8", "bool", "int64"):
        change = tensors(lambda array, dtype=dtype: array.astype(dtype))
        yield Case(f"weights of {dtype}", change, names=dtype[0].upper())
    yield Case("transposed", tensors(lambda array: np.ascontiguousarray(array.T)), names="shape")
    yield Case("scalars", tensors(lambda array: np.array(1, np.float32)), names="shape")
    yield Case("no rows", tensors(lambda array: array[:0]), names="shape")
    beyond = b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}}'
    for content in (b"{}", b"[]", b"3", deep, b'{"x": 3}', beyond):
        yield Case(f"header {content[:20]}", written(FIRST, header(content)), names=FIRST)
    yield Case("header too long", written(FIRST, header(b"{}", 2**62)), names=FIRST)
    for to in ("../outside/" + TEMPLATE, "/etc/passwd", "nowhere", TEMPLATE, "config.json/x"):
        yield Case(f"a template that links to {to}", linked(TEMPLATE, to), names=TEMPLATE)
    yield Case("a template that is a folder", lambda at: (at / TEMPLATE).mkdir(), names=TEMPLATE)
    yield Case("a template in Latin-1", written(TEMPLATE, b"\xe9" + CHAT.encode()), names=TEMPLATE)
    yield Case("a template file", written(TEMPLATE, CHAT.encode()), right=True)
    for template in TEMPLATES:
        change = replaced("tokenizer_config.json", "chat_template", value=template)
        yield Case(f"template {template}", change, names="template")
    for name, right in {"default": True, "rag": False}.items():
        value = [{"name": name, "template": CHAT}]
        yield Case(f"named template {name}", replaced("tokenizer_config.json", "chat_template", value=value), right)
    for right, values in ((False, WRONG_SETTINGS), (True, RIGHT_SETTINGS)):
        for key, value in values.items():
            yield Case(f"config.json {key}={value}", replaced("config.json", key, value=value), right)


def parquet(rows: Any, file: str = "data.parquet", **options: Any) -> Callable[[Path], None]:
    """A Parquet file."""

    def write(folder: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / file, **options)

    return write


def lines(rows: Any) -> bytes:
    """Rows as JSONL."""
    return b"\n".join(json.dumps(row).encode() for row in rows) + b"\n"


def each(**columns: Any) -> list[dict[str, Any]]:
    """The rows with other values in some columns."""
    return [row | columns for row in ROWS]


def data_cases() -> Iterator[Case]:
    """The rows in odd forms, and files that have not all of them."""
    array, zipped = json.dumps(ROWS).encode(), gzip.compress(TEXT)
    numbers = [row | {"answer": int(row["answer"])} for row in ROWS]
    lists = [row | {"answer": [row["answer"]]} for row in ROWS]
    nested, path = [{"a": {"b": row}} for row in ROWS], ", question: a.b.question, answer: a.b.answer"
    right = {
        "as it is": TEXT,
        "CRLF": TEXT.replace(b"\n", b"\r\n"),
        "a byte order mark": BOM + TEXT,
        "empty lines": b"\n\n" + TEXT.replace(b"\n", b"\n \n\t\n"),
        "no last newline": TEXT.strip(),
        "an array": array,
        "an array in many lines": b"\n" + json.dumps(ROWS, indent=2).encode(),
        "an array after a byte order mark": BOM + array,
        "numbers as answers": lines(numbers),
        "lists of one answer": lines(lists),
        "other columns": lines({"x": float("nan"), "y": None, "é": [{"a": "😀"}]} | row for row in ROWS),
    }
    wrong = {
        "Latin-1": TEXT + '{"question": "é", "answer": "1"}'.encode("latin-1"),
        "pretty-printed": b"\n".join(json.dumps(row, indent=2).encode() for row in ROWS),
        "cut": TEXT[:-6],
        "an array that is cut": array[:-9],
        "an array and more": array + b"\n" + TEXT,
        "an array of arrays": json.dumps([[row] for row in ROWS]).encode(),
        "an array with a number": json.dumps([*ROWS, 3]).encode(),
        "an empty array": b"[]",
        "arrays in lines": lines([row] for row in ROWS),
        "two in a line": TEXT.replace(b"\n", b" "),
        "commas between": TEXT.replace(b"\n", b",\n"),
        "columns of lists": lines([{"question": ["1+1="], "answer": ["2"]}]),
        "quotes of Python": "\n".join(map(str, ROWS)).encode(),
        "CSV": b"question,answer\n1+1=,2\n",
        "empty": b"",
        "white space": b" \n\t\n\r\n",
        "a byte order mark alone": BOM,
        "noise": NOISE,
        "NULs": bytes(3000),
        "deep": TEXT + b"[" * 100_000,
        "deep in a row": TEXT + b'{"question": ' * 100_000,
        "a deep array": b"[" * 100_000 + b"]" * 100_000,
        "a number of 5000 digits": TEXT + b'{"question": "1", "answer": ' + b"9" * 5000 + b"}",
        "gzip without its ending": zipped,
    }
    wrong |= {f"a row {json.dumps(row)[:40]}": TEXT + lines([row]) for row in NO_ROWS}
    wrong |= {f"a question {json.dumps(q)}": TEXT + lines([{"question": q, "answer": "1"}]) for q in NO_QUESTIONS}
    wrong |= {f"an answer {json.dumps(a)}": TEXT + lines([{"question": "1", "answer": a}]) for a in NO_ANSWERS}
    wrong |= {f"all answers {a}": lines(each(answer=a)) for a in (float("nan"), "see solution", [[1]])}
    encoded = {f"in {name}": TEXT.decode().encode(name) for name in ENCODINGS}
    for is_right, contents in ((True, right), (False, wrong), (None, encoded)):
        for name, content in contents.items():
            yield Case(name, written("data.jsonl", content), is_right, "data.jsonl", JSONL)
    members = b"".join(gzip.compress(line) for line in TEXT.splitlines(keepends=True))
    changed = zipped[:30] + bytes(3) + zipped[33:]
    for name, content in {"gzip": zipped, "two members": members}.items():
        yield Case(name, written("data.json.gz", content), True, task="jsonl: FOLDER/data.json.gz")
    for name, content in {"cut": zipped[:-20], "changed": changed, "no": TEXT, "empty": b""}.items():
        yield Case(f"{name} gzip", written("d.jsonl.gz", content), False, "d.jsonl.gz", "jsonl: FOLDER/d.jsonl.gz")
    yield Case("nested columns", written("data.jsonl", lines(nested)), True, task=JSONL + path)
    for name, (rows, columns) in WRONG_COLUMNS.items():
        yield Case(name, written("data.jsonl", lines(rows)), names="data.jsonl", task=JSONL + columns)

    def shards(at: Path) -> None:
        (at / "d").mkdir()
        (at / "d" / "a.jsonl").write_bytes(lines(ROWS[:1]))
        (at / "d" / "b.jsonl.gz").write_bytes(gzip.compress(lines(ROWS[1:])))
        (at / "d" / "README.md").touch()

    yield Case("a folder of shards", shards, True, task="jsonl: FOLDER/d")
    yield Case("a pattern", written("a-1.jsonl", TEXT), True, task="jsonl: FOLDER/a-*.jsonl")
    yield Case("a list of files", written("a.jsonl", TEXT), True, task="jsonl: [FOLDER/a.jsonl]")
    yield Case("a name like a pattern", written("d[1] *.jsonl", TEXT), True, task="jsonl: 'FOLDER/d[1] *.jsonl'")
    yield Case("an empty folder", lambda at: (at / "d").mkdir(), names="/d", task="jsonl: FOLDER/d")
    yield Case(
        "a folder like a file", lambda at: (at / "d.jsonl").mkdir(), names="/d.jsonl", task="jsonl: FOLDER/d.jsonl"
    )
    yield Case("a link to itself", linked("l.jsonl", "l.jsonl"), names="l.jsonl", task="jsonl: FOLDER/l.jsonl")
    yield Case("a pipe", lambda at: os.mkfifo(at / "p.jsonl"), names="p.jsonl", task="jsonl: FOLDER/p.jsonl")
    for name in ("nope.jsonl", "nope*.jsonl", "config.yaml/b.jsonl", "x" * 300):
        yield Case(f"no file {name}", lambda _: None, names=name, task=f"jsonl: FOLDER/{name}")
    yield Case("one of two files", written("a", TEXT), names="/b", task="jsonl: [FOLDER/a, FOLDER/b]")
    yield Case("a device", lambda _: None, names="/dev/null", task="jsonl: /dev/null")
    yield Case("a NUL in its name", lambda _: None, names="jsonl", task='jsonl: "FOLDER/a\\0b"')
    for name, content in {"noise": NOISE, "empty": b""}.items():
        change = both(written("data.jsonl", TEXT), written("test.jsonl", content))
        yield Case(f"test rows: {name}", change, names="test.jsonl", task=JSONL)
    for name, rows in {"rows": ROWS, "numbers": numbers, "lists": lists}.items():
        yield Case(f"Parquet of {name}", parquet(rows, row_group_size=1), True, task=PARQUET)
    yield Case(
        "Parquet of bytes", parquet([{k: v.encode() for k, v in row.items()} for row in ROWS]), True, task=PARQUET
    )
    yield Case("Parquet of nested columns", parquet(nested), True, task=PARQUET + path)
    for name, rows in NO_TABLES.items():
        yield Case(f"Parquet: {name}", parquet(rows), names="data.parquet", task=PARQUET)
    footer = NOISE + len(NOISE).to_bytes(4, "little")
    contents = {"noise": NOISE, "empty": b"", "magic": b"PAR1PAR1", "JSONL": TEXT, "footer": b"PAR1" + footer + b"PAR1"}
    for name, content in contents.items():
        yield Case(f"Parquet: {name}", written("data.parquet", content), names="data.parquet", task=PARQUET)
    yield Case("Parquet: cut", both(parquet(ROWS), cut("data.parquet", 0.7)), names="data.parquet", task=PARQUET)
    for place in (6, 20, 60, 120):
        change = both(parquet(ROWS), flipped("data.parquet", place))
        yield Case(f"Parquet: changed at {place}", change, None, "data.parquet", PARQUET)
    yield Case("Parquet as JSONL", parquet(ROWS), names="data.parquet", task="jsonl: FOLDER/data.parquet")
    yield Case("Arrow of noise", written("data.arrow", NOISE), names="data.arrow", task="parquet: FOLDER/data.arrow")


class WorkBegan(Exception):
    """What was brought is accepted; with what was read of it."""


def _model_read(loaded: Any, *_: Any, **__: Any) -> None:
    """In the place of a sampler: all that the answer depends on."""
    import jax

    from r1jax.config.sampling import PromptSettings
    from r1jax.text.prompt import make_prompt

    tokenizer, config = loaded.tokenizer, loaded.model.config
    chat = make_prompt(QUESTION, PromptSettings(chat=tokenizer.chat_template is not None), tokenizer)[0]
    text = tokenizer.encode(chat), tokenizer.decode(range(tokenizer.size)), tokenizer.stop_ids, tokenizer.stop_texts
    weights = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(loaded.weights)]
    raise WorkBegan(text, tokenizer.bos_id, tokenizer.size, repr(config), weights)


def _data_read(run: Any, _: Any) -> None:
    """In the place of the first evaluation: the rows that are trained on."""
    raise WorkBegan(run.stages[0].batches.task.examples["train"])


@contextlib.contextmanager
def folder_of(case: Case, model: Path) -> Iterator[Path]:
    """A new folder with what the case is about."""
    with tempfile.TemporaryDirectory() as parent:
        (Path(parent) / "outside").mkdir()
        (Path(parent) / "outside" / "chat_template.jinja").write_text(CHAT)
        folder = Path(parent) / "case"
        if case.task:
            folder.mkdir()
            ending = "parquet" if case.task.startswith("parquet") else "jsonl"
            task = case.task + f", test: FOLDER/test.{ending}"
            (folder / "config.yaml").write_text(CONFIG.replace("TASK", task).replace("FOLDER", str(folder)))
            (folder / "test.jsonl").write_text(json.dumps(TEST))
            if ending == "parquet":
                parquet([TEST], "test.parquet")(folder)
        else:
            shutil.copytree(model, folder)
        case.change(folder)
        yield folder


def ending(case: Case, model: Path) -> tuple[Any, Any, str]:
    """The exception that a case ends with, its exit code, and its last words."""
    from typer.testing import CliRunner

    from r1jax.cli import app
    from r1jax.programs import pipeline
    from r1jax.sampling.loaded_model import LoadedModel

    originals = LoadedModel.sampler, pipeline.already_evaluated
    LoadedModel.sampler, pipeline.already_evaluated = _model_read, _data_read  # pyright: ignore
    try:
        with folder_of(case, model) as folder, contextlib.chdir(folder), warnings.catch_warnings(action="ignore"):
            command = ["train", "config.yaml"] if case.task else ["sample", str(folder), QUESTION]
            result = CliRunner().invoke(app, command)
    finally:
        LoadedModel.sampler, pipeline.already_evaluated = originals
    return result.exception, result.exit_code, result.stderr.strip()


@functools.cache
def undamaged(is_data: bool, model: Path) -> Any:
    """How the rows as they are end, or the model's folder."""
    of = Case("", written("data.jsonl", TEXT), task="jsonl: FOLDER/data.jsonl") if is_data else Case("", lambda _: None)
    return ending(of, model)[0]


def outcome(case: Case, model: Path) -> str | None:
    """What is wrong with how a case ends; None where nothing is. `model` is the folder of the undamaged model."""
    error, code, text = ending(case, model)
    if isinstance(error, WorkBegan):
        if case.right is False:
            return "was accepted"
        is_same = error.args == undamaged(bool(case.task), model).args
        return None if is_same != (case.name in OTHER) else f"was read {'as before' if is_same else 'otherwise'}"
    if case.right:
        return f"was refused: {text[-MAX_LINE:]} {error!r:.300}"
    if code != 2 or "\n" in text or not text.startswith("error: ") or len(text) > MAX_LINE:
        return f"ended with code {code}, {error!r:.300} and {text[-MAX_LINE:]!r}"
    return None if case.names in text else f"does not name {case.names}: {text}"


def cases(model: Path, seed: int) -> list[Case]:
    """All cases, in an order that the seed gives."""
    made = [*model_cases(model), *data_cases()]
    random.Random(seed).shuffle(made)
    return made


def main() -> None:
    """Runs as many cases as are asked for."""
    ends: Counter[tuple[str, bool]] = Counter()
    with tempfile.TemporaryDirectory() as model:
        model_folder(Path(model))
        for case in cases(Path(model), seed=0)[: int(sys.argv[1]) if len(sys.argv) > 1 else None]:
            problem, kind = outcome(case, Path(model)), "data files" if case.task else "model folders"
            ends[kind, problem is None] += 1
            if problem:
                print(f"{kind}, {case.name!a:.120}: {problem}", flush=True)
    for kind in ("model folders", "data files"):
        print(f"{kind}: {ends[kind, True]} ended as they should, {ends[kind, False]} otherwise")
    sys.exit(any(count for (_, right), count in ends.items() if not right))


if __name__ == "__main__":
    main()
