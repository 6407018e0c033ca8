"""Rejection sampling: samples of a trained model, graded, of which the good ones become a data set (R1's third stage).

data/STAGE.jsonl has a row for each completion that was kept, with its question, gold answer, scores, the pass rate of
its prompt and where it came from; data/STAGE.prompts.jsonl has a row for each prompt, with its pass rate. Each step
writes its part atomically, and the parts are joined at the end, so that a killed run makes the same files.

Letters: P prompts, G samples per prompt.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from r1jax.config.base import RunStopped
from r1jax.config.experiment import RejectStage
from r1jax.parallel.mesh import gather, own_rows, to_host
from r1jax.parallel.processes import wait_for_all
from r1jax.programs.steps import is_due
from r1jax.rewards.format import reasoning
from r1jax.rewards.grading import Grades
from r1jax.rl.evaluation import mean_of_graded
from r1jax.rl.rollout import Sampling, Transcript, all_grades, roll_out
from r1jax.rl.types import Rollout
from r1jax.run.console import Progress
from r1jax.run.metrics import json_ready, write_atomically
from r1jax.run.run import Run, role_key
from r1jax.run.stages import StageRun, data_file, finished_parts

_CODE_BLOCK = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
Row = dict[str, Any]


def train(run: Run, stage: StageRun, weights: Callable[[], Any]) -> Any:
    """Samples the steps that are not finished, and joins all; returns the weights as they were given, if it read them.

    Raises RunStopped where no completion was kept.
    """
    settings, file = stage.settings, data_file(run.folder, stage.settings.name)
    assert isinstance(settings, RejectStage)
    params, finished = None, finished_parts(file)
    if finished < settings.steps:
        if run.is_writer:  # a killed run of more processes may have left parts of a step that is not finished
            for part in [
                *file.with_suffix("").glob("[0-9]*-*.jsonl"),
                *file.with_suffix(".prompts").glob("[0-9]*-*.jsonl"),
            ]:
                if int(part.name.partition("-")[0]) > finished:
                    part.unlink()
            file.unlink(missing_ok=True)  # of other samples, whose parts were deleted
        wait_for_all(f"parts of {settings.name}")
        params = weights()
        model = run.loaded(stage, params)
        sampler = model.sampler(settings, group_size=settings.group_size, max_new=settings.max_completion_length)
        sampling = Sampling(run.mesh, run.tokenizer, sampler, stage.batches.task.rewards, run.timers)
        weights_for_sampling = model.sampling_weights()
        with Progress(settings.name, settings.steps, completed=finished, enabled=run.is_writer) as progress:
            for step in range(finished + 1, settings.steps + 1):
                start = stage.first_example + (step - 1) * settings.prompts_per_step
                prompts = stage.batches.prompts("train", start, own_rows(run.mesh, settings.prompts_per_step))
                key = role_key(run.key, stage.number, step, "rollout")
                with run.guard(f"{settings.name} rollout"):
                    rollout, transcript = roll_out(
                        sampling, weights_for_sampling, prompts, settings.prompts_per_step, key
                    )
                rows, prompt_rows = graded_rows(transcript, settings, step, run.config.source(settings.name))
                metrics = step_metrics(run.mesh, rollout, transcript.grades, prompt_rows)
                run.log.log(settings.name, step, metrics | run.timers.collect())
                run.log.flush()  # a part makes its row valid
                progress.update(step, metrics)
                if run.config.completions_every and is_due(step, run.config.completions_every, settings.steps):
                    run.log.completions(settings.name, step, transcript.rows())
                for is_writer in (False, True):  # a step counts by the first process's kept rows, which come last
                    if is_writer == run.is_writer:
                        write_rows(part_file(file, "prompts", step), prompt_rows)
                        write_rows(part_file(file, "", step), rows)
                    wait_for_all(f"part {step} of {settings.name}")
                run.end_if_asked()
    if run.is_writer and not file.is_file():
        for name, whole in (("prompts", file.with_suffix(".prompts.jsonl")), ("", file)):
            parts = part_file(file, name, 0).parent.glob("*.jsonl")
            parts = sorted(parts, key=lambda part: [int(number) for number in part.stem.split("-")])  # step, process
            write_atomically(whole, b"".join(part.read_bytes() for part in parts))
    wait_for_all(f"data of {settings.name}")  # on a file system that all processes share, as for checkpoints
    if not file.stat().st_size:
        raise RunStopped(
            f"stages.{settings.name}.keep: none of {settings.most_prompts * settings.group_size} completions was kept; "
            f"completions/ and {file.with_suffix('.prompts.jsonl')} show why; lower a score, or train more before, in "
            f"another run_dir, whose first stage may have init_from: {run.folder}"
        )
    return params


def graded_rows(transcript: Transcript, settings: RejectStage, step: int, source: str) -> tuple[list[Row], list[Row]]:
    """What is kept of this process's samples, and a row for each of its prompts with its pass rate."""
    kept, prompts, G = [], [], settings.group_size
    every = transcript.rows()
    for p, example in enumerate(transcript.examples):
        group = every[p * G : (p + 1) * G]
        scores = [row["rewards"]["accuracy"] for row in group if row["rewards"].get("accuracy") is not None]
        rate = float(np.mean([score == 1.0 for score in scores])) if scores else None
        about = {name: group[0][name] for name in ("question", "answer", "part", "data")}
        good = [row for row in group if is_kept(row, settings)][: settings.keep_per_prompt]
        prompts.append({**about, "pass_rate": rate, "samples": len(scores), "kept": len(good)})
        opened = "<think>" if example.prompt_opens_think else ""
        kept += [
            {
                **about,
                "completion": opened + row["completion"],
                "rewards": row["rewards"],
                "length": row["length"],
                "pass_rate": rate,
                "stage": settings.name,
                "model": source,
                "step": step,
            }
            for row in good
        ]
    return kept, prompts


def is_kept(row: Row, settings: RejectStage) -> bool:
    """Whether a completion stopped, has every score of `keep`, and its reasoning passes the filters of its form.

    Of the rewards in `keep`, those that its part of a mixture lacks ask nothing of it.
    """
    scores = [(row["rewards"][name], least) for name, least in settings.keep.items() if name in row["rewards"]]
    if row["truncated"] or any(score is None or score < least for score, least in scores):
        return False
    thought = reasoning(row["completion"], row["prompt_opens_think"]) or ""
    if not settings.code_blocks and _CODE_BLOCK.search(thought):
        return False
    longest = max(map(len, re.split(r"\n\s*\n", thought)))
    return settings.max_paragraph is None or longest <= settings.max_paragraph


def step_metrics(mesh: Mesh, rollout: Rollout, grades: Grades, prompts: list[Row]) -> dict[str, float]:
    """Of all processes' samples; the grades and the rows of prompts are this process's own."""
    length_B = to_host(rollout.samples.length_B)
    rates = [math.nan if row["pass_rate"] is None else row["pass_rate"] for row in prompts]
    own = np.array(rates, np.float32), np.array([row["kept"] for row in prompts], np.int32)
    rate_P, kept_P = gather(mesh, own, rollout.prompt_id_P.shape[0])
    scores = all_grades(mesh, grades, len(length_B)).scores
    return {
        "pass_rate": mean_of_graded(rate_P),
        "frac_kept": float(kept_P.sum() / len(length_B)),
        "frac_prompts_kept": float(np.mean(kept_P > 0)),
        "completions/mean_length": float(np.mean(length_B)),
        "num_tokens": float(length_B.sum()),
        **{
            f"rewards/{name}/mean": mean_of_graded(column)
            for name, column in scores.items()
            if not np.isnan(column).all()
        },
    }


def part_file(file: Path, name: str, step: int) -> Path:
    """Where this process writes its part of a step: of the kept completions (""), or of the "prompts"."""
    folder = file.with_suffix("") if not name else file.with_suffix(f".{name}")
    return folder / f"{step:06d}-{jax.process_index()}.jsonl"


def write_rows(file: Path, rows: list[Row]) -> None:
    """Writes JSON lines atomically."""
    text = "".join(json.dumps(json_ready(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_atomically(file, text.encode("utf-8", "backslashreplace"))
