r"""Checks that gold answers score 1 and near misses 0, in each of the fifteen styles of tests/answer_styles.py.

    uv run scripts/check_golds.py gsm8k/train.jsonl gsm8k/test.jsonl
    uv run scripts/check_golds.py tests/references/graded/golds.jsonl

A row of GSM8K is graded as it is published, with its whole solution as gold; the right answers are the number, the
number with separators, with a unit and with decimals, and the near misses gold + 1, gold x 10 and -gold. A row with
`gold`, `right` and `wrong` is graded as it says. Prints the number of scores for each file, and exits with status 1
where a score is wrong.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from answer_styles import STYLES

from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.example import Example


def answers(row: dict[str, object]) -> Iterator[tuple[str, float]]:
    """The answers to a row and their scores."""
    if "gold" in row:
        yield from ((str(answer), 1.0) for answer in (row["gold"], *row["right"]))  # pyright: ignore
        yield from ((answer, 0.0) for answer in row["wrong"])  # pyright: ignore
        return
    value = int(str(row["answer"]).rpartition("####")[2].replace(",", ""))
    yield from ((answer, 1.0) for answer in (f"{value}", f"{value:,}", f"{value} \\text{{ apples}}", f"{value}.00"))
    yield from ((f"{wrong}", 0.0) for wrong in {value + 1, value * 10, -value} - {value})


def main(files: list[str]) -> int:
    failed = 0
    for file in files:
        rows = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
        start, count, wrong = time.perf_counter(), 0, []
        for row in rows:
            example = Example("", row.get("gold", row.get("answer")))
            for answer, expected in answers(row):
                for name, style in STYLES.items():
                    if name == "plain text" and answer.endswith("!"):  # which may end the sentence
                        continue
                    result = math_answer(example, style.format(a=answer))
                    count += 1
                    if (result[0] if isinstance(result, tuple) else result) != expected:
                        wrong.append(f"  gold {example.answer[-80:]!r}, {name}: {answer!r} scored {result}")
        print(f"{file}: {len(rows)} golds, {count} scores, {len(wrong)} wrong, {time.perf_counter() - start:.1f} s")
        print("\n".join(wrong[:40]))
        failed += len(wrong)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
