"""Sums, orderings and multiple-choice questions for a small language model, with worked demonstrations, as JSONL.

    uv run scripts/small_tasks.py data/small_tasks

writes sums, logic and choice, each as NAME.jsonl and NAME.test.jsonl, whose questions do not overlap. The columns are
question, answer, completion (a demonstration in R1's format), and choices in choice.
"""

import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Iris", "Jack", "Kate", "Leo"]
TRAIN, TEST = 4000, 400


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, make in enumerate((sums, logic, choice)):
        rng, rows = random.Random(number), {}
        while len(rows) < TRAIN + TEST:
            row = make(rng)
            rows.setdefault(row["question"] + str(row.get("choices")), row)
        made = list(rows.values())
        for suffix, part in (("", made[:TRAIN]), (".test", made[TRAIN:])):
            lines = [json.dumps(row) + "\n" for row in part]
            (folder / f"{make.__name__}{suffix}.jsonl").write_text("".join(lines))


def sums(rng: random.Random) -> dict[str, Any]:
    """Two or three numbers of at most one or two digits, added and subtracted from left to right."""
    largest = rng.choice([9, 99])
    total = rng.randint(1, largest)
    expression, steps = str(total), []
    for _ in range(rng.randint(1, 2)):
        sign, number = rng.choice("+-"), rng.randint(1, largest)
        result = total + number if sign == "+" else total - number
        steps.append(f"{total} {sign} {number} = {result}")
        expression, total = f"{expression} {sign} {number}", result
    return _row(f"State the final answer: {expression} =", str(total), ", ".join(steps))


def logic(rng: random.Random) -> dict[str, Any]:
    """Three or four people by height, each of whom is compared with the next."""
    people = rng.sample(NAMES, rng.randint(3, 4))  # from the tallest to the shortest
    pairs = [*itertools.pairwise(people)]
    said = [f"{a} is taller than {b}." if rng.random() < 0.5 else f"{b} is shorter than {a}." for a, b in pairs]
    rng.shuffle(said)
    asked, position = rng.choice([("the tallest", 0), ("the second tallest", 1), ("the shortest", -1)])
    thought = f"From the tallest to the shortest: {', '.join(people)}"
    return _row(f"{' '.join(said)} Who is {asked}? Answer with the name alone.", people[position], thought)


def choice(rng: random.Random) -> dict[str, Any]:
    """The largest or smallest of four numbers, by its letter."""
    numbers = rng.sample(range(1000), 4)
    kind, right = rng.choice([("largest", max(numbers)), ("smallest", min(numbers))])
    letter = "ABCD"[numbers.index(right)]
    row = _row(
        f"Which number is the {kind}? Answer with the letter alone.", letter, f"The {kind} is {right}, at {letter}"
    )
    return row | {"choices": [str(n) for n in numbers]}


def _row(question: str, answer: str, thought: str) -> dict[str, Any]:
    completion = f"<think>\n{thought}.\n</think>\n<answer>{answer}</answer>"
    return {"question": question, "answer": answer, "completion": completion}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
