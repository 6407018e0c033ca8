"""Held-out accuracy: pass@1 over k samples, unbiased pass@k, cons@k, form, lengths; and the transcripts behind them.

Letters: E problems, G samples a problem.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from r1jax.answers import exact_value, final_answer
from r1jax.config import EvaluateConfig
from r1jax.data import padded
from r1jax.mesh import gather, own_rows, row_shards, to_global, to_local
from r1jax.rollout import Transcript, completion_texts, sample_and_grade
from r1jax.run import Run, load_run, role_key, user_errors


def evaluate(
    run: Run, params: Any, settings: EvaluateConfig, key: jax.Array
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Answers the first `problems` of the test split; returns eval/… metrics and this process's transcripts.

    `eval/accuracy` is pass@1: the mean over problems of the share of right samples. With several samples there are
    also `eval/pass@K` for powers of two, and `eval/cons@G`, the accuracy of each problem's most frequent answer.
    """
    G, shards = settings.samples, row_shards(run.mesh)
    # As many sequences at once as the stages themselves have, so that whoever can train can evaluate.
    at_once = max(stage.prompts_per_step * getattr(stage, "group_size", 1) for stage in run.config.stages)
    chunk = min(max(at_once // G // shards, 1), math.ceil(settings.problems / shards)) * shards
    weights = run.sampling_weights(params)
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    rows: list[dict[str, Any]] = []
    for start in range(0, settings.problems, chunk):
        own = own_rows(run.mesh, chunk)
        prompts = run.batches.prompts("test", start, own)
        _, _, transcript = sample_and_grade(
            run,
            weights,
            prompts,
            chunk,
            tuple(run.task.rewards),
            group_size=G,
            temperature=settings.temperature,
            key=key,
        )
        local = _columns(transcript, G)
        wanted = min(chunk, settings.problems - start)  # the last chunk is full too; what is over is left out
        for name, values in gather(run.mesh, local, chunk).items():
            columns[name].append(values[:wanted])
        rows += [row for i, row in enumerate(transcript.rows()) if own[i // G] < wanted]
    table = {name: np.concatenate(parts) for name, parts in columns.items()}
    return _metrics(table, G), rows


def pass_at_k(n: int, right: int, k: int) -> float:
    """1 - C(n - right, k) / C(n, k): the chance that one of k out of n samples is right (Chen et al. 2107.03374)."""
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def consensus(answers: Sequence[str | None], right: Sequence[bool]) -> float:
    """Whether the most frequent answer is right. Equal numbers are one answer, None does not vote, ties are shared."""
    votes: dict[Any, list[bool]] = defaultdict(list)
    for answer, correct in zip(answers, right, strict=True):
        if answer is not None:
            value = exact_value(answer)
            votes[answer if value is None else value].append(correct)
    if not votes:
        return 0.0
    most = max(map(len, votes.values()))
    return float(np.mean([np.mean(v) for v in votes.values() if len(v) == most]))


def _columns(transcript: Transcript, G: int) -> dict[str, np.ndarray]:
    """[problems, ...] arrays of this process's part."""
    right_EG = transcript.rewards["accuracy"].reshape(-1, G) == 1.0
    consensus_E = [
        consensus(
            [
                final_answer(text, prompt_opens_think=example.prompt_opens_think)
                for text in transcript.texts[e * G : (e + 1) * G]
            ],
            right_EG[e].tolist(),
        )
        for e, example in enumerate(transcript.examples)
    ]
    return {
        **{name: values.reshape(-1, G) for name, values in transcript.rewards.items()},
        "right": right_EG.sum(axis=1),
        "consensus": np.array(consensus_E, np.float32),
        "length": np.asarray(transcript.samples.length_B).reshape(-1, G),
        "truncated": np.asarray(transcript.samples.truncated_B).reshape(-1, G),
    }


def _metrics(table: dict[str, np.ndarray], G: int) -> dict[str, float]:
    own = ("right", "consensus", "length", "truncated")
    metrics = {f"eval/{name}": float(np.nanmean(values)) for name, values in table.items() if name not in own}
    metrics["eval/mean_length"] = float(table["length"].mean())
    metrics["eval/clipped_ratio"] = float(table["truncated"].mean())
    k = 2
    while k <= G:
        metrics[f"eval/pass@{k}"] = float(np.mean([pass_at_k(G, int(right), k) for right in table["right"]]))
        k *= 2
    if G > 1:
        metrics[f"eval/cons@{G}"] = float(table["consensus"].mean())
    return metrics


def evaluate_folder(folder: Path, overrides: Sequence[str] = ()) -> tuple[dict[str, float], Path | None]:
    """Evaluates a run's last checkpoint with its own settings, or overridden ones such as `evaluate.samples=8`.

    Returns the scores and where the first process wrote its transcripts; None on the other processes.
    """
    run, params, name = load_run(folder, overrides)
    with contextlib.closing(run), run.devices():
        scores, rows = evaluate(run, params, run.config.evaluate, role_key(run.key, 0, 0, "evaluate"))
    if not run.is_writer:
        return scores, None
    file = folder / "eval" / f"{name}.jsonl"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return scores, file


def complete(folder: Path, prompt: str, *, samples: int, temperature: float, seed: int) -> list[str]:
    """Completions of one prompt by a run's last checkpoint, on whatever devices there are."""
    run, params, _ = load_run(folder, ["mesh={data: -1}"])
    shards = row_shards(run.mesh)  # every device answers the same prompt; the first answers are shown
    own = own_rows(run.mesh, shards)
    with user_errors():
        tokens = run.batches.encode_prompt(prompt)
    prompt_PS, length_P = padded([tokens] * len(own), run.config.max_prompt_length)
    sampler = run.sampler(group_size=samples, temperature=temperature)
    prompts = to_global(run.mesh, (prompt_PS, length_P, np.zeros(len(own), np.int32)), shards)
    with contextlib.closing(run), run.devices():
        drawn = to_local(sampler(run.sampling_weights(params), *prompts, jax.random.key(seed)))
    return completion_texts(drawn, run.tokenizer)[:samples]
