"""SmolLM2 on GSM8K's test set, in r1jax and in transformers: accuracy of both, and how many answers are the same.

    uv run r1jax eval models/smollm2-135m-instruct max_completion_length=256 \\
        --task "{jsonl: test.jsonl, test: test.jsonl, answer_after: '####'}"
    python scripts/hf_references.py gsm8k models/smollm2-135m-instruct test.jsonl answers.jsonl \\
        --like evals/smollm2-135m-instruct/eval/smollm2-135m-instruct.jsonl
    uv run scripts/compare_gsm8k.py evals/smollm2-135m-instruct/eval/smollm2-135m-instruct.jsonl answers.jsonl

Both decode greedily in float32, and `math_answer` grades both. The first file has the questions in order, the second
their indices; questions that the second file does not have are left out.
"""

import json
import sys
from pathlib import Path

from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.example import Example
from r1jax.rewards.grading import grade


def main() -> None:
    ours = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    theirs = {row["index"]: row for row in map(json.loads, Path(sys.argv[2]).read_text().splitlines())}
    both = sorted(index for index in theirs if index < len(ours))
    examples = [Example("", ours[index]["answer"]) for index in both]
    texts = {
        "r1jax": [ours[index]["completion"] for index in both],
        "transformers": [theirs[index]["completion"] for index in both],
    }
    scores = {name: grade(examples, said, {"accuracy": math_answer}).scores["accuracy"] for name, said in texts.items()}
    for name, values in scores.items():
        print(f"{name}: {int(values.sum())} of {len(values)} right, {100 * values.mean():.2f}%")
    same = sum(a == b for a, b in zip(*texts.values(), strict=True))
    lengths = sum(ours[index]["length"] == theirs[index]["tokens"] for index in both)
    print(f"{same} of {len(both)} answers are the same text, {lengths} have the same number of tokens")
    difference = abs(float(scores["r1jax"].mean() - scores["transformers"].mean()))
    sys.exit(0 if difference <= 0.005 else 1)


if __name__ == "__main__":
    main()
