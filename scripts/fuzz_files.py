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
LINES = [json.dumps(row).encode() for row in ROWS]
TEXT = b"\n".join(LINES) + b"\n"


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
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
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


def written(file: str, content: bytes) -> Callable[[Path], None]:
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


def tensors(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    """The first shard with other tensors."""

    def save(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        arrays = load_file(folder / FIRST)
        change(arrays)
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
    yield Case("as it is", lambda _: None, right=True)
    for file, *path in keys_of(folder):
        for value in ODD:
            name = f"{file} {'.'.join(path)}={json.dumps(value)}"
            yield Case(name, replaced(file, *path, value=value), None)
    files = sorted(file.name for file in folder.iterdir())
    deep = b"[" * 100_000 + b"]" * 100_000
    noise = random.Random(0).randbytes(3000)
    for file in files:
        unread = None if file == "special_tokens_map.json" else False  # as in transformers, where tokens are described
        optional = unread is None or file in ("generation_config.json", "tokenizer_config.json")
        yield Case(f"no {file}", lambda at, file=file: (at / file).unlink(), None if optional else False)
        yield Case(f"{file} is a folder", lambda at, file=file: ((at / file).unlink(), (at / file).mkdir()), unread)
        yield Case(f"{file} links nowhere", linked(file, "nowhere"), unread)
        yield Case(f"{file} links to itself", linked(file, file), unread)
        for name, content in {"empty": b"", "noise": noise, "NULs": bytes(3000)}.items():
            yield Case(f"{file}: {name}", written(file, content), unread, file)
        yield Case(f"{file}: cut", cut(file, 0.6), unread, file)
        if file.endswith(".json"):
            for content in (
                b"3",
                b"null",
                b"[]",
                b'"x"',
                deep,
                b'{"x": ' * 100_000,
                b'{"a": ' + deep + b"}",
                b"{'a': 1}",
            ):
                yield Case(f"{file}: {content[:12]}", written(file, content), unread, file)
            for encoding in ("utf-16", "utf-8-sig", "utf-32"):
                again = (folder / file).read_text().encode(encoding)
                yield Case(f"{file}: {encoding}", written(file, again), None, names=file)
    first = next(iter(json.loads((folder / INDEX).read_text())["weight_map"]))
    for where in (
        3,
        None,
        [],
        "",
        "..",
        "../x.safetensors",
        "/x.safetensors",
        "no.safetensors",
        "a/../" + FIRST,
        "config.json",
    ):
        yield Case(
            f"weight_map has {where}", replaced(INDEX, "weight_map", first, value=where), names=str(where or INDEX)
        )
    yield Case("a tensor left out", edited(INDEX, lambda index: index["weight_map"].pop(first)), names=first)
    yield Case("a tensor too many", replaced(INDEX, "weight_map", "lm_head.bias", value=FIRST), names="lm_head.bias")
    yield Case("a single file as well", lambda at: shutil.copy(at / FIRST, at / "model.safetensors"), names=INDEX)
    yield Case("shards without index", lambda at: (at / INDEX).unlink(), names="model.safetensors")
    for value in (np.nan, np.inf, -np.inf):
        yield Case(
            f"weights with {value}",
            tensors(lambda arrays, value=value: next(iter(arrays.values())).flat.__setitem__(3, value)),
            names=FIRST,
        )
    for dtype in ("float64", "int8", "uint8", "bool", "int64"):
        yield Case(
            f"weights of {dtype}",
            tensors(lambda arrays, dtype=dtype: arrays.update({k: v.astype(dtype) for k, v in arrays.items()})),
            names=dtype[0].upper(),
        )
    yield Case(
        "transposed",
        tensors(lambda arrays: arrays.update({k: np.ascontiguousarray(v.T) for k, v in arrays.items()})),
        names="shape",
    )
    yield Case(
        "scalars", tensors(lambda arrays: arrays.update(dict.fromkeys(arrays, np.array(1, np.float32)))), names="shape"
    )
    yield Case("no rows", tensors(lambda arrays: arrays.update({k: v[:0] for k, v in arrays.items()})), names="shape")
    for content in (
        b"{}",
        b"[]",
        b"3",
        deep,
        b'{"x": 3}',
        b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}}',
    ):
        yield Case(f"header {content[:20]}", written(FIRST, header(content)), names=FIRST)
    yield Case("header too long", written(FIRST, header(b"{}", 2**62)), names=FIRST)
    outside = "../outside/chat_template.jinja"
    yield Case("a template that links out", linked("chat_template.jinja", outside), names="chat_template.jinja")
    yield Case(
        "a template that links to /etc", linked("chat_template.jinja", "/etc/passwd"), names="chat_template.jinja"
    )
    for to in ("nowhere", "chat_template.jinja", "config.json/x"):
        yield Case(f"a template that links to {to}", linked("chat_template.jinja", to), names="chat_template.jinja")
    yield Case(
        "a template that is a folder", lambda at: (at / "chat_template.jinja").mkdir(), names="chat_template.jinja"
    )
    yield Case("a template file", written("chat_template.jinja", CHAT.encode()), right=True)
    yield Case(
        "a template in Latin-1", written("chat_template.jinja", b"\xe9" + CHAT.encode()), names="chat_template.jinja"
    )
    for template in ("{% for", "{{ nope() }}", "{{ 1 / 0 }}", "x", "", "{% include '/etc/passwd' %}", "{{ raise_exception('no\nway') }}",
                     "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ 'x' * 10**12 }}"):  # fmt: skip
        yield Case(
            f"template {template}", replaced("tokenizer_config.json", "chat_template", value=template), names="template"
        )
    yield Case(
        "named templates",
        replaced("tokenizer_config.json", "chat_template", value=[{"name": "default", "template": CHAT}]),
        right=True,
    )
    yield Case(
        "no default template",
        replaced("tokenizer_config.json", "chat_template", value=[{"name": "rag", "template": CHAT}]),
        names="rag",
    )
    yield Case(
        "only pickled weights",
        lambda at: ([file.unlink() for file in at.glob("*safetensors*")], (at / "pytorch_model.bin").touch()),
        names=".bin",
    )
    for key, value in {"quantization_config": {"quant_method": "gptq"}, "num_hidden_layers": 10**9, "vocab_size": 10**12,
                       "hidden_size": 2**40, "num_key_value_heads": 3, "head_dim": 7, "architectures": ["GPT2LMHeadModel"],
                       "layer_types": ["sliding_attention"], "rope_scaling": {"rope_type": "dynamic", "factor": 2.0},
                       "partial_rotary_factor": 0.5, "rope_parameters": {"full_attention": {"rope_theta": 1}}}.items():  # fmt: skip
        yield Case(f"config.json {key}={value}", replaced("config.json", key, value=value), names="config.json")
    for key, value in {
        "sliding_window": 9,
        "attention_dropout": 0.0,
        "use_cache": False,
        "unknown": {"x": [1]},
        "dtype": "bfloat16",
    }.items():
        yield Case(f"config.json {key}={value}", replaced("config.json", key, value=value), right=True)


def parquet(rows: Any, file: str = "data.parquet", **options: Any) -> Callable[[Path], None]:
    """A Parquet file."""

    def write(folder: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / file, **options)

    return write


def data_cases() -> Iterator[Case]:
    """The rows in odd forms, and files that have not all of them."""

    def jsonl(name: str, content: bytes, right: bool | None = False, task: str = "", file: str = "data.jsonl") -> Case:
        return Case(name, written(file, content), right, file, f"jsonl: 'FOLDER/{file}'{task}")

    def rows(name: str, row: Any, right: bool = False, task: str = "") -> Case:
        return jsonl(name, TEXT + json.dumps(row).encode() + b"\n", right, task)

    def each(name: str, change: Callable[[dict[str, Any]], Any], right: bool = False, task: str = "") -> Case:
        return jsonl(name, b"\n".join(json.dumps(change(row)).encode() for row in ROWS), right, task)

    noise = random.Random(0).randbytes(3000)
    array, zipped = json.dumps(ROWS).encode(), gzip.compress(TEXT)
    yield jsonl("as it is", TEXT, right=True)
    yield jsonl("CRLF", TEXT.replace(b"\n", b"\r\n"), right=True)
    yield jsonl("a byte order mark", b"\xef\xbb\xbf" + TEXT, right=True)
    yield jsonl("empty lines", b"\n\n" + TEXT.replace(b"\n", b"\n \n\t\n"), right=True)
    yield jsonl("no last newline", TEXT.strip(), right=True)
    yield jsonl("an array", array, right=True)
    yield jsonl("an array in many lines", b"\n" + json.dumps(ROWS, indent=2).encode(), right=True)
    yield jsonl("an array after a byte order mark", b"\xef\xbb\xbf" + array, right=True)
    yield jsonl("gzip", zipped, right=True, file="data.jsonl.gz")
    yield jsonl(
        "gzip in two members", b"".join(gzip.compress(line + b"\n") for line in LINES), True, file="data.json.gz"
    )
    yield jsonl("a name like a pattern", TEXT, right=True, file="da[1]ta *.jsonl")
    yield each("numbers as answers", lambda row: row | {"answer": int(row["answer"])}, right=True)
    yield each("lists of one answer", lambda row: row | {"answer": [row["answer"]]}, right=True)
    yield each("other columns", lambda row: {"x": float("nan"), "y": None, "z": [{"a": 1}]} | row, right=True)
    yield each("nested columns", lambda row: {"a": {"b": row}}, True, ", question: a.b.question, answer: a.b.answer")
    yield each("escapes", lambda row: row | {"question": row["question"], "é": "\U0001f600"}, right=True)
    yield Case("a folder of shards", lambda at: ((at / "d").mkdir(), (at / "d" / "a.jsonl").write_bytes(TEXT[: len(LINES[0]) + 1]),
               (at / "d" / "b.jsonl.gz").write_bytes(gzip.compress(TEXT[len(LINES[0]) + 1 :])), (at / "d" / "README.md").touch()), True, task="jsonl: FOLDER/d")  # fmt: skip
    yield Case("a pattern", written("a-1.jsonl", TEXT), True, task="jsonl: FOLDER/a-*.jsonl")
    yield Case("a list of files", written("a.jsonl", TEXT), True, task="jsonl: [FOLDER/a.jsonl]")
    yield Case(
        "a link",
        lambda at: (written("a.jsonl", TEXT)(at), linked("l.jsonl", "a.jsonl")(at)),
        True,
        task="jsonl: FOLDER/l.jsonl",
    )
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037"):
        yield jsonl(f"in {encoding}", TEXT.decode().encode(encoding), None)
    yield jsonl("Latin-1", TEXT + '{"question": "é", "answer": "1"}'.encode("latin-1"))
    yield jsonl("pretty-printed", b"\n".join(json.dumps(row, indent=2).encode() for row in ROWS))
    yield jsonl("cut", TEXT[:-6])
    yield jsonl("an array that is cut", array[:-9])
    yield jsonl("an array and more", array + b"\n" + TEXT)
    yield jsonl("an array of arrays", json.dumps([[row] for row in ROWS]).encode())
    yield jsonl("an array with a number", json.dumps([*ROWS, 3]).encode())
    yield jsonl("an empty array", b"[]")
    yield jsonl("arrays in lines", b"\n".join(b"[" + line + b"]" for line in LINES))
    yield jsonl("two in a line", b" ".join(LINES))
    yield jsonl("commas between", b",\n".join(LINES))
    yield jsonl("one object of columns", json.dumps({"question": ["1+1="], "answer": ["2"]}).encode())
    yield jsonl("quotes of Python", b"\n".join(str(row).encode() for row in ROWS))
    yield jsonl("CSV", b"question,answer\n1+1=,2\n")
    yield jsonl("empty", b"")
    yield jsonl("white space", b" \n\t\n\r\n")
    yield jsonl("a byte order mark alone", b"\xef\xbb\xbf")
    yield jsonl("noise", noise)
    yield jsonl("NULs", bytes(3000))
    yield jsonl("deep", TEXT + b"[" * 100_000)
    yield jsonl("deep in a row", TEXT + b'{"question": ' * 100_000)
    yield jsonl("a deep array", b"[" * 100_000 + b"]" * 100_000)
    yield jsonl("a number of 5000 digits", TEXT + b'{"question": "1", "answer": ' + b"9" * 5000 + b"}")
    yield jsonl("gzip without its ending", zipped)
    yield jsonl("cut gzip", zipped[:-20], file="data.jsonl.gz")
    yield jsonl("changed gzip", zipped[:30] + b"\0\0\0" + zipped[33:], file="data.jsonl.gz")
    yield jsonl("gzip in name alone", TEXT, file="data.jsonl.gz")
    yield jsonl("gzip of nothing", b"", file="data.jsonl.gz")
    for row in (3, None, "x", [], ROWS, {}, {"question": "1"}, {"answer": "1"}, {"Question": "1", "answer": "1"}):
        yield rows(f"a row {json.dumps(row)[:30]}", row)
    for value in (3, 1.5, None, "", " \n", True, [], ["a"], {}, {"role": "user"}, [{"role": "user"}], [{"role": 3, "content": "x"}],
                  "\ud800", [{"role": "user", "content": "\udfff"}]):  # fmt: skip
        yield rows(f"a question {json.dumps(value)[:30]}", {"question": value, "answer": "1"})
    for value in (None, "", " ", [], ["1", "2"], {"a": 1}, "\ud800", ["\ud800"], [None]):
        yield rows(f"an answer {json.dumps(value)[:30]}", {"question": "1", "answer": value})
    for value in (float("nan"), "see solution", [[1]]):
        yield each(f"all answers {json.dumps(value)[:30]}", lambda row, value=value: row | {"answer": value})
    yield each("a nested column that is none", lambda row: row | {"a": "x"}, task=", answer: a.b")
    yield each(
        "a nested column of some rows",
        lambda row: {"question": row["question"], "a": {"b": 1} if row["question"] != "7+7=" else {}},
        task=", answer: a.b",
    )
    yield each("numbers as demonstrations", lambda row: row | {"completion": 3}, task=", completion: completion")
    yield each("messages of texts", lambda row: {"messages": ["x"]}, task=", messages: messages")
    yield each(
        "messages of other roles",
        lambda row: {"messages": [{"role": "narrator", "content": "x"}]},
        task=", messages: messages",
    )
    yield each("messages without a turn", lambda row: {"messages": []}, task=", messages: messages")
    yield each("choices that are numbers", lambda row: row | {"c": 3}, task=", choices: c")
    yield each("pass rates over 1", lambda row: row | {"p": 3}, task=", pass_rate: [0, 1], pass_rate_column: p")
    yield Case("an empty folder", lambda at: (at / "d").mkdir(), names="/d", task="jsonl: FOLDER/d")
    yield Case(
        "a folder of other files",
        lambda at: ((at / "d").mkdir(), (at / "d" / "a.csv").touch()),
        names="/d",
        task="jsonl: FOLDER/d",
    )
    yield Case(
        "a folder named like a file",
        lambda at: (at / "d.jsonl").mkdir(),
        names="/d.jsonl",
        task="jsonl: FOLDER/d.jsonl",
    )
    yield Case("no file", lambda at: None, names="nope.jsonl", task="jsonl: FOLDER/nope.jsonl")
    yield Case("no file of a pattern", lambda at: None, names="nope*", task="jsonl: FOLDER/nope*.jsonl")
    yield Case(
        "one of two files", written("a.jsonl", TEXT), names="b.jsonl", task="jsonl: [FOLDER/a.jsonl, FOLDER/b.jsonl]"
    )
    yield Case("below a file", written("a.jsonl", TEXT), names="a.jsonl/b", task="jsonl: FOLDER/a.jsonl/b.jsonl")
    yield Case("a link to itself", linked("l.jsonl", "l.jsonl"), names="l.jsonl", task="jsonl: FOLDER/l.jsonl")
    yield Case("a pipe", lambda at: os.mkfifo(at / "p.jsonl"), names="p.jsonl", task="jsonl: FOLDER/p.jsonl")
    yield Case("a device", lambda at: None, names="/dev/null", task="jsonl: /dev/null")
    yield Case("a NUL in its name", lambda at: None, names="", task='jsonl: "FOLDER/a\\0b"')
    yield Case("a long name", lambda at: None, names="xxx", task=f"jsonl: FOLDER/{'x' * 300}.jsonl")
    yield Case(
        "test rows alone are wrong",
        lambda at: (written("data.jsonl", TEXT)(at), written("test.jsonl", noise)(at)),
        names="test.jsonl",
        task="jsonl: FOLDER/data.jsonl",
    )
    of = "parquet: FOLDER/data.parquet"
    yield Case("Parquet", parquet(ROWS), True, task=of)
    yield Case("Parquet in groups of a row", parquet(ROWS, row_group_size=1, compression="gzip"), True, task=of)
    yield Case("Parquet of numbers", parquet([row | {"answer": int(row["answer"])} for row in ROWS]), True, task=of)
    yield Case("Parquet of bytes", parquet([{k: v.encode() for k, v in row.items()} for row in ROWS]), True, task=of)
    yield Case(
        "Parquet of nested columns",
        parquet([{"a": {"b": row}} for row in ROWS]),
        True,
        task=of + ", question: a.b.question, answer: a.b.answer",
    )
    yield Case("Parquet of lists", parquet([row | {"answer": [row["answer"]]} for row in ROWS]), True, task=of)
    wrong: dict[str, Any] = {
        "numbers as questions": [row | {"question": 3} for row in ROWS], "no questions": [{"answer": "1"}], "no rows": ROWS[:0],
        "a null question": [*ROWS, {"question": None, "answer": "1"}], "two answers": [row | {"answer": ["1", "2"]} for row in ROWS],
        "bytes that are no text": [row | {"question": b"\xff"} for row in ROWS], "NaN": [row | {"answer": float("nan")} for row in ROWS],
        "nested answers": [row | {"answer": {"a": 1}} for row in ROWS],
    }  # fmt: skip
    for name, content in wrong.items():
        yield Case(f"Parquet: {name}", parquet(content), names="data.parquet", task=of)
    for name, content in {"noise": noise, "nothing": b"", "magic": b"PAR1PAR1", "JSONL": TEXT, "a long footer": b"PAR1" + noise + b"\xff\xff\xff\x7fPAR1",
                          "a footer of noise": b"PAR1" + noise + (3000).to_bytes(4, "little") + b"PAR1"}.items():  # fmt: skip
        yield Case(f"Parquet: {name}", written("data.parquet", content), names="data.parquet", task=of)
    yield Case(
        "Parquet: cut", lambda at: (parquet(ROWS)(at), cut("data.parquet", 0.7)(at)), names="data.parquet", task=of
    )
    for place in (6, 20, 60, 120):
        yield Case(
            f"Parquet: changed at {place}",
            lambda at, place=place: (parquet(ROWS)(at), _flip(at / "data.parquet", place)),
            None,
            "data.parquet",
            of,
        )
    yield Case("Parquet as JSONL", parquet(ROWS), names="data.parquet", task="jsonl: FOLDER/data.parquet")
    yield Case("Arrow of noise", written("data.arrow", noise), names="data.arrow", task="parquet: FOLDER/data.arrow")


def _flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place : place + 4] = bytes(255 - byte for byte in content[place : place + 4])
    file.write_bytes(content)


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
                print(f"{kind}, {ascii(case.name):.120}: {problem}", flush=True)
    for kind in ("model folders", "data files"):
        print(f"{kind}: {ends[kind, True]} ended as they should, {ends[kind, False]} otherwise")
    sys.exit(any(count for (_, right), count in ends.items() if not right))


if __name__ == "__main__":
    main()
