r"""False accepts and false rejects of the math reward and of the library math-verify, on the same pairs of answers.

    uv run scripts/grader_comparison.py --pairs 2000 --failures failures.jsonl

The pairs are random algebra (tests/random_algebra.py), the gold answers with right and wrong answers in
tests/references/graded/golds.jsonl, and those of math-verify's own tests in tests/rewards/math_verify_pairs.jsonl.
There, the pairs that r1jax means to score in another way than these tests are a row of their own, with r1jax's labels;
the file has the reasons.

Both grade the same completions, one at a time. math-verify is called as its README advises: `parse` with its LaTeX and
plain expressions, the gold answer in dollar signs, then `verify`, with the time limits that it has by default. It
grades the answer alone in `$\boxed{…}$` too, and the better of its two results is reported, for each row.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from rich.console import Console
from rich.table import Column, Table

from r1jax.answers.extraction import extract_answer
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.example import Example

TESTS = Path(__file__).parents[1] / "tests"
sys.path.append(str(TESTS))
from random_algebra import completion, pairs  # noqa: E402

EXTRACTION = (LatexExtractionConfig(), ExprExtractionConfig())


class Graded(NamedTuple):
    """A completion with the answer in it, the gold answer for r1jax and for math-verify, and whether they are equal."""

    gold: str
    marked_gold: str
    answer: str
    completion: str
    equal: bool


class Result(NamedTuple):
    """The indices of the false accepts and rejects, and the seconds that all scores took."""

    accepts: list[int]
    rejects: list[int]
    seconds: float


def algebra(count: int, seed: int, latex: bool) -> Iterator[Graded]:
    for pair in pairs(count, seed):
        if pair.latex == latex:
            yield Graded(pair.gold, f"${pair.gold}$", pair.answer, completion(pair), pair.equal)


def golds(file: Path) -> Iterator[Graded]:
    """Every right and wrong answer in a box."""
    for row in rows(file):
        gold = row["gold"]
        marked = gold if any(mark in gold for mark in ("$", "\\boxed", "\\(", "\\[")) else f"${gold}$"
        for equal, answers in ((True, row["right"]), (False, row["wrong"])):
            for answer in answers:
                yield Graded(gold, marked, answer, answer if "\\boxed" in answer else rf"\boxed{{{answer}}}", equal)


def library_pairs(file: Path, disputed: bool) -> Iterator[Graded]:
    """Whole completions; a gold answer that is a worked solution is read as one."""
    for row in rows(file):
        gold = row["gold"]
        if len(gold) > 60 or "boxed" in gold:
            gold = extract_answer(gold, kind="formula") or gold
        if ("ours" in row) == disputed:
            yield Graded(gold, row["gold"], row["answer"], row["answer"], bool(row.get("ours", row["expected"])))


def rows(file: Path) -> Iterator[dict]:
    return map(json.loads, file.read_text(encoding="utf-8").splitlines()) if file.exists() else iter(())


def r1jax_score(gold: str, completion: str) -> bool:
    result = math_answer(Example("", gold), completion)
    return (result[0] if isinstance(result, tuple) else result) == 1.0


def library_score(gold: str, completion: str) -> bool:
    return bool(verify(parse(gold, EXTRACTION), parse(completion, EXTRACTION)))


def measure(score: Callable[[str, str], bool], items: Iterable[tuple[str, str, bool]]) -> Result:
    accepts, rejects, start = [], [], time.perf_counter()
    for index, (gold, text, equal) in enumerate(items):
        accepted = score(gold, text)
        if accepted and not equal:
            accepts.append(index)
        if equal and not accepted:
            rejects.append(index)
    return Result(accepts, rejects, time.perf_counter() - start)


def compare(corpus: list[Graded]) -> dict[str, Result]:
    """The result of r1jax, and the better of math-verify's two."""
    alone = [item.answer if "\\boxed" in item.answer else rf"$\boxed{{{item.answer}}}$" for item in corpus]
    library = [
        measure(library_score, [(i.marked_gold, text, i.equal) for i, text in zip(corpus, texts, strict=True)])
        for texts in ([item.completion for item in corpus], alone)
    ]
    return {
        "r1jax": measure(r1jax_score, [(i.gold, i.completion, i.equal) for i in corpus]),
        "math-verify": min(library, key=lambda result: len(result.accepts) + len(result.rejects)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=2000, help="of random algebra")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--golds", type=Path, default=TESTS / "references" / "graded" / "golds.jsonl")
    parser.add_argument("--failures", type=Path, help="a JSONL file for the pairs that one of the two gets wrong")
    options = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    theirs = TESTS / "rewards" / "math_verify_pairs.jsonl"
    corpora = {
        "algebra, LaTeX": algebra(options.pairs, options.seed, latex=True),
        "algebra, plain text": algebra(options.pairs, options.seed, latex=False),
        "gold answers": golds(options.golds),
        "math-verify's pairs": library_pairs(theirs, disputed=False),
        "those disputed": library_pairs(theirs, disputed=True),
    }
    table = Table(
        Column("corpus", no_wrap=True),
        "pairs",
        Column("grader", no_wrap=True),
        "false accepts",
        "false rejects",
        "pairs/s",
    )
    failures = []
    r1jax_score("\\sqrt{8}", "\\boxed{2\\sqrt{2}}")  # starts a worker
    for name, corpus in ((name, list(items)) for name, items in corpora.items()):
        if not corpus:
            continue
        for grader, result in compare(corpus).items():
            counts = (str(len(indices)) for indices in (result.accepts, result.rejects))
            table.add_row(name, str(len(corpus)), grader, *counts, f"{len(corpus) / result.seconds:.0f}")
            failures += [
                {"corpus": name, "grader": grader, "index": index, **corpus[index]._asdict()}
                for index in itertools.chain(result.accepts, result.rejects)
            ]
    Console().print(table)
    if options.failures:
        lines = (json.dumps(failure, ensure_ascii=False) for failure in failures)
        options.failures.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
