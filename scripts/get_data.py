"""The data that the configs read, as JSON lines with the columns `question` and `answer`.

    uv run --extra data scripts/get_data.py gsm8k                 # data/gsm8k_train.jsonl, data/gsm8k_test.jsonl
    uv run --extra data scripts/get_data.py math                  # data/math_train.jsonl, data/math_test.jsonl
    uv run --extra data scripts/get_data.py r1_samples            # data/r1_samples.jsonl
    uv run --extra data scripts/get_data.py gsm8k --source DIR    # from a copy of the files, without a network

| name | from the Hugging Face hub | what is written |
|---|---|---|
| gsm8k | openai/gsm8k | 7,473 questions to train on, 1,319 to test; `solution` is the demonstration |
| math | EleutherAI/hendrycks_math, HuggingFaceH4/MATH-500 | MATH's 7,500 training problems; MATH-500 as the test |
| r1_samples | open-r1/OpenR1-Math-220k | R1's samples that Math-Verify found right, one a problem, as `completion` |

A copy is a folder of the files under the names that they have on the hub, or of GSM8K's as they were published,
train.jsonl and test.jsonl. What a row lacks, or has in another form, is an error, and files that are there stay as they
are.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from pyarrow import parquet

Row = dict[str, Any]
SUBJECTS = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
            "precalculus")  # fmt: skip
PUBLISHED = {"gsm8k_train": 7473, "gsm8k_test": 1319, "math_train": 7500, "math_test": 500}  # rows


def gsm8k(read: Callable[[str, str], Iterator[Row]]) -> Iterator[tuple[str, Iterator[Row]]]:
    def rows(split: str) -> Iterator[Row]:
        for row in read("openai/gsm8k", f"main/{split}-*.parquet"):
            solution, mark, answer = row["answer"].rpartition("####")
            if not mark or not answer.strip():
                raise ValueError(f"no answer after #### in {row['answer']!r:.100}")
            yield {"question": row["question"], "answer": answer.strip(), "solution": solution.strip()}

    yield from ((f"gsm8k_{split}", rows(split)) for split in ("train", "test"))


def math(read: Callable[[str, str], Iterator[Row]]) -> Iterator[tuple[str, Iterator[Row]]]:
    def train() -> Iterator[Row]:
        for subject in SUBJECTS:
            for row in read("EleutherAI/hendrycks_math", f"{subject}/train-*.parquet"):
                answer = boxed(row["solution"])
                about = {"level": row["level"], "subject": row["type"]}
                yield {"question": row["problem"], "answer": answer, "solution": row["solution"], **about}

    def test() -> Iterator[Row]:
        for row in read("HuggingFaceH4/MATH-500", "test.jsonl"):
            about = {name: row[name] for name in ("solution", "level", "subject")}
            yield {"question": row["problem"], "answer": row["answer"], **about}

    yield from (("math_train", train()), ("math_test", test()))


def r1_samples(read: Callable[[str, str], Iterator[Row]]) -> Iterator[tuple[str, Iterator[Row]]]:
    def rows() -> Iterator[Row]:
        for row in read("open-r1/OpenR1-Math-220k", "data/train-*.parquet"):
            judged = zip(row["generations"], row["correctness_math_verify"], strict=True)
            right = [text for text, correct in judged if correct and "</think>" in text]
            if right:
                yield {"question": row["problem"], "answer": row["answer"], "completion": right[0]}

    yield ("r1_samples", rows())


SETS = {"gsm8k": gsm8k, "math": math, "r1_samples": r1_samples}


def boxed(solution: str) -> str:
    """What is in the last box; it may have no braces, as in `\\boxed 2$`."""
    if boxes := [*re.finditer(r"\\(?:boxed|fbox)(?![A-Za-z])\s*", solution)]:
        rest, depth = solution[boxes[-1].end() :], 0
        if not rest.startswith("{"):
            return rest.partition("$")[0].strip()
        for end, character in enumerate(rest):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if not depth:
                return rest[1:end].strip()
    raise ValueError(f"no boxed answer in {solution!r:.100}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SETS)
    parser.add_argument("--out", type=Path, default=Path("data"), help="the folder to write to")
    parser.add_argument("--source", type=Path, help="a folder of the files, instead of the hub")
    arguments = parser.parse_args()

    def read(repository: str, pattern: str) -> Iterator[Row]:
        return read_files(find_files(repository, pattern, arguments.source))

    try:
        for name, rows in SETS[arguments.name](read):
            file = arguments.out / f"{name}.jsonl"
            if file.exists():
                print(f"{file} is there and stays as it is")
                continue
            count, published = write_rows(file, rows), PUBLISHED.get(name)
            more = "" if published in (None, count) else f"; the published set has {published:,}"
            print(f"written: {file}, {count:,} rows{more}")
    except KeyError as error:
        sys.exit(f"error: {arguments.name}: a row has no column {error}, as those of the hub have")
    except (ValueError, TypeError, AttributeError, OSError) as error:
        sys.exit(f"error: {arguments.name}: {(str(error) or type(error).__name__).splitlines()[0]}")


def find_files(repository: str, pattern: str, source: Path | None) -> list[Path]:
    """Those of a copy, or of the hub, in order."""
    if source is not None:
        files = sorted(source.glob(pattern))
        if repository == "openai/gsm8k" and not files:  # as its authors published it
            files = sorted(source.glob(f"{Path(pattern).name.partition('-')[0]}.jsonl"))
        if not files:
            raise ValueError(f"{source} has no {pattern}; give a folder with the files of {repository}")
        return files
    try:
        names = [file for file in HfApi().list_repo_files(repository, repo_type="dataset") if Path(file).match(pattern)]
        files = [Path(hf_hub_download(repository, name, repo_type="dataset")) for name in sorted(names)]
    except Exception as error:  # of many kinds, and all say that the hub does not give it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the hub does not give {repository} ({reason}); give a copy with --source DIR") from None
    if not files:
        raise ValueError(f"{repository} has no {pattern} any more; give a copy with --source DIR")
    return files


def read_files(files: list[Path]) -> Iterator[Row]:
    for file in files:
        if file.suffix == ".parquet":
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=256):
                yield from batch.to_pylist()
        else:
            with file.open(encoding="utf-8") as lines:
                yield from (json.loads(line) for line in lines if line.strip())


def write_rows(file: Path, rows: Iterator[Row]) -> int:
    """Writes the file once all rows are right; returns how many."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary, count = file.with_name(f"{file.name}.tmp"), 0
    try:
        with temporary.open("w", encoding="utf-8") as lines:
            for row in rows:
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return count


if __name__ == "__main__":
    main()
