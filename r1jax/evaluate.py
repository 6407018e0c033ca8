"""Held-out scores of a run's checkpoint or a pretrained model, with transcripts: `r1jax eval`.

scores, file = evaluate_model("runs/quickstart", ["evaluate.samples=8"])
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from r1jax.config.base import ConfigError, user_errors
from r1jax.config.tasks import JsonlTask, ParquetTask
from r1jax.data.batches import Batches
from r1jax.parallel.processes import gather_texts
from r1jax.rl.evaluation import evaluate
from r1jax.run.checks import check_judges
from r1jax.run.loading import load_model, reward_model
from r1jax.run.run import role_key
from r1jax.tasks import make_task
from r1jax.tasks.table import split_rows

DATA_SETS = {"gsm8k": "data/gsm8k_test.jsonl", "math": "data/math_test.jsonl"}  # as scripts/get_data.py writes them
SETTINGS = ("task", "prompt", "evaluate", "max_completion_length", "seed")  # that are written beside the scores


def _task_block(task: str) -> str:
    if task in DATA_SETS:
        if not os.path.isfile(file := DATA_SETS[task]):
            raise ConfigError(f"--task {task} reads {file}, which is not here; scripts/get_data.py {task} writes it")
        return f"{{jsonl: {file}, test: {file}}}"
    return Path(task).read_text() if os.path.isfile(task) else task


def evaluate_model(
    path: str,
    overrides: Sequence[str] = (),
    task: str | None = None,
    *,
    checkpoint: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, float], Path | None]:
    """The scores of a run's checkpoint or of a pretrained model, and where the first process wrote the transcripts.

    The task is that of the checkpoint's stage, unless `task` replaces it: the name of a well-known data set, a task
    block in YAML, or a file with one. Other processes get None, as does the first where it could not write them.
    """
    if task is not None:
        overrides = [f"task={_task_block(task)}", *overrides]
    loaded = load_model(path, overrides, checkpoint=checkpoint)
    config, model = loaded.config, loaded.model
    if config.task is None:
        raise ConfigError("--task is needed for a model that is no run: --task gsm8k, or --task '{jsonl: FILE}'")
    if (
        task is not None
        and isinstance(config.task, JsonlTask | ParquetTask)
        and split_rows(config.task, "test") is None
    ):
        warnings.warn(
            "--task has no `test`, so only the part of its rows is answered that training would hold out; to have all "
            "of a file answered, name it as `test` too",
            stacklevel=2,
        )
    with user_errors(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* test questions are trained on, too")  # nothing is trained
        batches = Batches(
            make_task(
                config.task,
                config.seed,
                rewards=config.reward_definitions,
                max_completion_length=config.max_completion_length,
                reward_model=functools.partial(reward_model, Path(path), model.mesh),
            ),
            model.tokenizer,
            prompt=config.prompt,
            seed=config.seed,
            max_prompt_length=config.max_prompt_length,
            max_completion_length=config.max_completion_length,
        )
        check_judges([batches.task])
    with model.devices():
        key = role_key(jax.random.key(config.seed), 0, 0, "evaluate")
        scores, rows, _ = evaluate(model, batches, config.evaluate, key, progress=progress)
    transcripts = "".join(gather_texts("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)))
    if jax.process_index() > 0:
        return scores, None
    name = loaded.name
    if task is not None:  # each task has files of its own
        name += f"-{task if task in DATA_SETS else hashlib.blake2b(task.encode(), digest_size=4).hexdigest()}"
    file = Path(config.run_dir) / "eval" / f"{name}.jsonl"
    settings = config.model_dump(include=set(SETTINGS))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(transcripts)
        file.with_suffix(".json").write_text(json.dumps({"model": path, "scores": scores} | settings, indent=1) + "\n")
    except OSError as error:
        warnings.warn(f"the transcripts could not be written to {file}: {error.strerror}", stacklevel=2)
        return scores, None
    return scores, file
