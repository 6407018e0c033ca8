"""Chat messages → the text a model was trained on, by the Jinja template that comes with its tokenizer.

    template = load_chat_template(folder, {"eos_token": "<|im_end|>"})
    text = template.render([{"role": "user", "content": "2+2?"}])

A template is downloaded code: it runs in Jinja's sandbox, in a process of its own that can be killed.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from r1jax.config.base import ConfigError
from r1jax.sandbox.workers import WorkerCrash, WorkerPool, WorkerTimeout

RENDER_SECONDS = 5.0
RENDER_MB = 512
ANSWER = "Ninetyseven"  # by which the end of a turn is found
# Templates are given this as the current date: a run that is resumed on another day must have the same prompts.
TODAY = datetime.datetime(2025, 1, 20)


class ChatTemplate:
    """A template, the special tokens that it may use, and where it comes from, for errors."""

    def __init__(self, template: str, variables: Mapping[str, str], source: str | Path = "the tokenizer") -> None:
        self.template, self.variables, self.source = template, dict(variables), source
        self._pool = WorkerPool("r1jax.text.chat_template:render", size=1, timeout=RENDER_SECONDS, memory_mb=RENDER_MB)

    def render(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True, **arguments: Any
    ) -> str:
        """The messages as text, up to where the model's reply begins. Raises ValueError where the template fails."""
        variables = self.variables | arguments | {"add_generation_prompt": add_generation_prompt}
        try:
            return self._pool.call(self.template, list(messages), variables)
        except (ValueError, WorkerTimeout, WorkerCrash) as error:
            reason = " ".join(str(error).split())[:300]  # a template may write errors of its own, of any length
            raise ValueError(
                f"the chat template of {self.source} fails: {reason}; fix the template or set prompt.chat=false"
            ) from None

    def turn_end(self, tokens: Collection[str]) -> str:
        """What the template writes right after the assistant's text: one of these tokens, another <mark>, or ""."""
        talk = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": ANSWER}]
        try:
            _, found, after = self.render(talk, add_generation_prompt=False).rpartition(ANSWER)
        except ValueError:  # a template that needs other messages, or is not used
            return ""
        ends = [token for token in tokens if token and found and after.lstrip().startswith(token)]
        mark = re.match(r"\s*(<[^<>\s]+>)", after if found else "")  # of a template that the vocabulary does not have
        return max(ends, key=len, default=mark[1] if mark else "")


def render(template: str, messages: list[dict[str, Any]], variables: dict[str, Any]) -> str:
    """Renders as Hugging Face's apply_chat_template does, without tools and documents. Call it through a worker."""
    return _compiled(template).render(messages=messages, **({"tools": None, "documents": None} | variables))


@functools.lru_cache(maxsize=4)
def _compiled(template: str) -> Any:
    from jinja2 import FunctionLoader, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}…{% endgeneration %}` marks the assistant's text, which is rendered as it is."""

        tags = {"generation"}  # noqa: RUF012 (Jinja's own interface)

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation], loader=FunctionLoader(_refuse_file)
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = TODAY.strftime
    return environment.from_string(template)


def _refuse_file(name: str) -> NoReturn:
    raise ValueError(f"it asks for the file {name!r}, and a chat template may not read files")


def _raise_exception(message: str) -> NoReturn:
    raise ValueError(f"it refuses the messages: {message}")


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """JSON as it is: Jinja's own filter escapes <, > and & for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def load_chat_template(folder: Path, variables: Mapping[str, str]) -> ChatTemplate | None:
    """The template of a Hugging Face folder with its special tokens; None where it has none."""
    template = read_chat_template(folder)
    return None if template is None else ChatTemplate(template, variables, folder)


def read_chat_template(folder: Path) -> str | None:
    """The template of a Hugging Face folder; None where it has none. Raises ValueError where it cannot be read."""
    file = folder / "chat_template.jinja"
    if os.path.lexists(file):
        check_not_a_link(file)
        try:
            return file.read_text(encoding="utf-8")
        except (ValueError, OSError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from None
    for file in (folder / "tokenizer_config.json", folder / "chat_template.json"):
        template = read_json(file).get("chat_template")
        if isinstance(template, list) and all(isinstance(entry, dict) for entry in template):
            named = {str(entry.get("name")): entry.get("template") for entry in template}
            if "default" not in named:
                raise ValueError(f"{file} has the chat templates {', '.join(named)}; rename the one to use to default")
            template = named["default"]
        if template is not None and not isinstance(template, str):
            raise ConfigError(f"{file}: chat_template is {template!r:.80}; a template is a text")
        if template is not None:
            return template
    return None


def check_not_a_link(file: Path) -> None:
    """Raises ConfigError for a link out of a model's folder: what it leads to would be copied into runs and exports.

    The hub's cache consists of links to its `blobs`.
    """
    to = Path(os.path.realpath(file))  # Path.resolve fails for a link to itself
    if file.is_symlink() and not any(to.is_relative_to(f.resolve()) for f in (file.parent, _blobs(file.parent))):
        raise ConfigError(
            f"{file} is a link to {to}, which is outside of the model's folder; put the file itself there"
        )


def _blobs(folder: Path) -> Path:
    return folder.resolve().parent.parent / "blobs"


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a model's folder; empty where there is no file."""
    try:
        value = json.loads(file.read_text(encoding="utf-8")) if os.path.lexists(file) else {}
        json.dumps(value, ensure_ascii=False).encode()  # fails for half a character
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not valid JSON: {error}") from None
    except OSError as error:  # such as a broken link
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{file} has no JSON object; use the files of one model")
    return value
