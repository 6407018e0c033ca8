"""Training questions that are also in an evaluation set are removed, as DeepSeek-R1's data was decontaminated.

    contamination = Contamination({"aime.jsonl": evaluation_questions})
    contamination.of(question)  # ("aime.jsonl", the ten words that are shared), or None
    contamination.clean(task, "rl")  # removes such questions from what a stage trains on

Two questions are the same where they share ten words in a row (the 10-gram matching of DeepSeek-R1, 2501.12948v2, D.1),
without regard to case and punctuation.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from r1jax.config.tasks import DataSet, JsonlTask, ParquetTask
from r1jax.rewards.example import Example
from r1jax.tasks.columns import example_of
from r1jax.tasks.mixture import Mixture
from r1jax.tasks.rows import UnusableRow
from r1jax.tasks.table import Table, fitted, split_rows

if TYPE_CHECKING:
    from r1jax.tasks import Task

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])[^\W_])+")  # no spaces in Chinese
_SENTENCE_MARKS = re.compile(r"[.,;:?!]+(?=\s|\Z)")


class Contamination:
    """The `n`-grams of the questions of evaluation sets, which are given by names for the report."""

    def __init__(self, sets: Mapping[str, Iterable[str]], n: int = 10) -> None:
        self.n = n
        self._grams: dict[str, str] = {}  # the name of the first set that has them
        self._short: dict[str, str] = {}
        for name, questions in sets.items():
            for text in questions:
                words = _words(text)
                for gram in _grams(words, n):
                    self._grams.setdefault(gram, name)
                if len(words) < n:
                    self._short.setdefault(_key(text), name)

    def of(self, question: str) -> tuple[str, str] | None:
        """The evaluation set that has the question, and the first `n` words that they share.

        A question of fewer words is the same only as a whole; then signs such as those of arithmetic count, and spaces
        and the marks at the ends of words do not.
        """
        words = _words(question)
        if len(words) < self.n and (name := self._short.get(_key(question))):
            return name, " ".join(question.split())
        return next(((self._grams[gram], gram) for gram in _grams(words, self.n) if gram in self._grams), None)

    def clean(self, task: Task | Mixture, stage: str) -> None:
        """Removes training examples of data sets whose question is in an evaluation set, and keeps them as `removed`.

        Warns of them. Raises ValueError where they are more than half of a data set: then it is an instruction that
        they share.
        """
        for table in tables_of(task) if self._grams or self._short else ():
            examples = table.examples["train"]
            asked = [question_text(example) for example in examples]
            found = {i: shared for i, text in enumerate(asked) if (shared := self.of(text))}
            if not found:
                continue
            first, (_, shared) = next(iter(found.items()))
            by_set = Counter(name for name, _ in found.values())
            message = (
                f"{len(found)} of {len(examples)} training questions of stage {stage} share {self.n} words in a row "
                f"with an evaluation question ({', '.join(f'{count} of {name}' for name, count in by_set.items())}); "
                f"the first is {asked[first]!r:.200}, which shares {shared!r}"
            )
            if 2 * len(found) > len(examples):
                raise ValueError(
                    f"decontaminate: {message}; if these words are an instruction, move it from the questions to "
                    f"prompt.template, else correct decontaminate or the task"
                )
            warnings.warn(f"decontaminate removed what is in evaluation sets: {message}", stacklevel=2)
            table.removed += [{"question": asked[i], "set": name, "shared": gram} for i, (name, gram) in found.items()]
            table.examples["train"] = [example for i, example in enumerate(examples) if i not in found]


def tables_of(task: Task | Mixture) -> list[Table]:
    """The parts that are data sets."""
    parts = task.parts if isinstance(task, Mixture) else [task]
    return [part for part in parts if isinstance(part, Table)]


def evaluation_questions(data: DataSet) -> tuple[str, Iterator[str]]:
    """The name of an evaluation set, and its questions: of its test set, or of all rows where it has none."""
    path = data.jsonl if isinstance(data, JsonlTask) else data.parquet if isinstance(data, ParquetTask) else data.tfds
    return data.test or (path if isinstance(path, str) else path[0]), _questions(data)


def question_text(example: Example) -> str:
    """A question's text: of chat messages, what the user says, since many conversations share a system message."""
    if isinstance(example.question, str):
        return example.question
    return "\n".join(message["content"] for message in example.question if message["role"] == "user")


def _questions(data: DataSet) -> Iterator[str]:
    try:
        settings = fitted(data.model_copy(update={"answer": None, "completion": None, "columns": []}))
        settings = settings.model_copy(update={"completion": None})
        for where, row in split_rows(settings, "test") or split_rows(settings, "train") or ():
            with contextlib.suppress(UnusableRow):
                yield question_text(example_of(settings, where, row))
    except ValueError as error:
        raise ValueError(f"decontaminate: {error}") from None


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _grams(words: list[str], n: int) -> Iterator[str]:
    return (" ".join(words[start : start + n]) for start in range(len(words) - n + 1))


def _key(text: str) -> str:
    return "".join(_SENTENCE_MARKS.sub("", unicodedata.normalize("NFKC", text).casefold()).split())
