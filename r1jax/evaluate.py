"""Held-out accuracy: pass@1 over k samples, unbiased pass@k, cons@k, form, lengths; and the transcripts behind them.

Letters: E problems, G samples a problem.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from r1jax.answers.expressions import expression_value
from r1jax.answers.extraction import extract_answer
from r1jax.answers.quantities import number
from r1jax.config.base import ConfigError
from r1jax.config.experiment import EvaluateConfig
from r1jax.data.batches import padded
from r1jax.parallel.mesh import gather, own_rows, row_shards, to_global, to_local
from r1jax.rl.rollout import Transcript, completion_texts, sample_and_grade
from r1jax.run.run import Run, load_model, role_key, user_errors
from r1jax.text.prompt import Question, make_prompt

SEQUENCES_AT_ONCE = 64  # a device, where no stage says
WIDTH_MULTIPLE = 64  # widths of prompts are rounded up to this, so that few shapes compile


def evaluate(
    run: Run,
    params: Any,
    settings: EvaluateConfig,
    key: jax.Array,
    show: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Answers the first `problems` of the test split; returns eval/… metrics and this process's transcripts.

    `show` is told how many of how many problems are done.

    `eval/accuracy` is pass@1: the mean of the reward `accuracy`, partial credit included. With several samples there
    are also `eval/pass@K` for powers of two, and `eval/cons@G`, the accuracy of each problem's most frequent answer.
    Samples that could not be graded are left out, and their share is `eval/frac_reward_none`.
    """
    G, shards, there = settings.samples, row_shards(run.mesh), run.batches.size("test")
    if settings.problems is None and there is None:
        raise ConfigError("evaluate.problems: null means all, and this task's problems have no end; give a number")
    problems = min(n for n in (settings.problems, there) if n is not None)
    # As many sequences at once as the stages themselves have, so that whoever can train can evaluate.
    stages = [stage.prompts_per_step * getattr(stage, "group_size", 1) for stage in run.config.stages]
    at_once = max(stages, default=SEQUENCES_AT_ONCE * shards)
    chunk = min(max(at_once // G // shards, 1), math.ceil(problems / shards)) * shards
    # Prompts of like length go together, as wide as they need: what a sample is does not depend on its batch.
    with user_errors():
        length_E = run.batches.prompt_lengths("test", problems)
    order_E = np.argsort(length_E, kind="stable")
    weights = run.sampling_weights(params)
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    rows: list[tuple[int, dict[str, Any]]] = []
    for start in range(0, problems, chunk):
        own = own_rows(run.mesh, chunk)
        chosen = np.resize(order_E[start : start + chunk], chunk)  # the last chunk is full too; what is over goes
        width = min(-(-length_E[chosen].max() // WIDTH_MULTIPLE) * WIDTH_MULTIPLE, run.config.max_prompt_length)
        prompts = run.batches.prompts("test", 0, chosen[own], width)
        _, _, transcript = sample_and_grade(
            run,
            weights,
            prompts,
            chunk,
            tuple(run.task.rewards),
            group_size=G,
            settings=settings,
            key=key,
        )
        local = _columns(transcript, G)
        wanted = min(chunk, problems - start)
        for name, values in gather(run.mesh, local, chunk).items():
            columns[name].append(values[:wanted])
        rows += [(int(chosen[own[i // G]]), row) for i, row in enumerate(transcript.rows()) if own[i // G] < wanted]
        if show is not None:
            show(min(start + chunk, problems), problems)
    table = {name: np.concatenate(parts) for name, parts in columns.items()}
    return _metrics(table, G), [row for _, row in sorted(rows, key=lambda numbered: numbered[0])]


def pass_at_k(n: int, right: int, k: int) -> float:
    """1 - C(n - right, k) / C(n, k): the chance that one of k out of n samples is right (Chen et al. 2107.03374)."""
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def consensus(answers: Sequence[str | None], right: Sequence[bool]) -> float:
    """Whether the most frequent answer is right. Equal numbers, and expressions of equal value, are one answer.

    None does not vote, ties are shared.
    """
    votes: dict[Any, list[bool]] = defaultdict(list)
    for answer, correct in zip(answers, right, strict=True):
        if answer is not None:
            value, expression = number(answer), expression_value(answer)
            if value is None and expression is not None:
                value = expression[0]
            votes[answer if value is None else value].append(correct)
    if not votes:
        return 0.0
    most = max(map(len, votes.values()))
    return float(np.mean([np.mean(v) for v in votes.values() if len(v) == most]))


def _columns(transcript: Transcript, G: int) -> dict[str, np.ndarray]:
    """[problems, ...] arrays of this process's part."""
    accuracy_EG = transcript.grades.scores["accuracy"].reshape(-1, G)
    right_EG = accuracy_EG == 1.0
    consensus_E = [
        consensus(
            [
                None if np.isnan(score) else extract_answer(text, prompt_opens_think=example.prompt_opens_think)
                for text, score in zip(transcript.texts[e * G : (e + 1) * G], accuracy_EG[e], strict=True)
            ],
            right_EG[e].tolist(),
        )
        for e, example in enumerate(transcript.examples)
    ]
    return {
        **{f"reward/{name}": values.reshape(-1, G) for name, values in transcript.grades.scores.items()},
        "right": right_EG.sum(axis=1),
        "graded": (~np.isnan(accuracy_EG)).sum(axis=1),
        "consensus": np.array(consensus_E, np.float32),
        "length": np.array([text.length for text in transcript.texts]).reshape(-1, G),
        "truncated": np.array([text.truncated for text in transcript.texts]).reshape(-1, G),
    }


def _metrics(table: dict[str, np.ndarray], G: int) -> dict[str, float]:
    rewards = {name.removeprefix("reward/"): values for name, values in table.items() if name.startswith("reward/")}
    metrics = {f"eval/{name}": float(np.nanmean(values)) for name, values in rewards.items()}
    metrics["eval/mean_length"] = float(table["length"].mean())
    metrics["eval/clipped_ratio"] = float(table["truncated"].mean())
    metrics["eval/frac_reward_none"] = float(1 - table["graded"].sum() / (G * len(table["graded"])))
    k = 2
    while k <= G:
        counts = [(int(n), int(right)) for n, right in zip(table["graded"], table["right"], strict=True) if n >= k]
        metrics[f"eval/pass@{k}"] = float(np.mean([pass_at_k(n, right, k) for n, right in counts] or [math.nan]))
        k *= 2
    if G > 1:
        metrics[f"eval/cons@{G}"] = float(table["consensus"].mean())
    return metrics


def evaluate_model(
    path: str,
    overrides: Sequence[str] = (),
    task: Mapping[str, Any] | None = None,
    show: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, float], Path | None]:
    """Evaluates a run's last checkpoint or a pretrained model, with settings changed as `evaluate.samples=8`.

    Returns the scores and where the first process wrote its transcripts; None on the other processes.
    """
    run, params, name = load_model(path, overrides, task)
    with contextlib.closing(run), run.devices():
        scores, rows = evaluate(run, params, run.config.evaluate, role_key(run.key, 0, 0, "evaluate"), show)
    if not run.is_writer:
        return scores, None
    file = run.folder / "eval" / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    settings = run.config.model_dump(include={"task", "prompt", "evaluate", "max_completion_length", "seed"})
    file.with_suffix(".json").write_text(json.dumps({"model": path, "scores": scores} | settings, indent=1) + "\n")
    return scores, file


class Speaker:
    """A run or a pretrained model that completes texts, on whatever devices there are; weights are moved once."""

    def __init__(self, path: str, overrides: Sequence[str] = ()) -> None:
        self.run, params, _ = load_model(path, overrides)
        with self.run.devices():
            self.weights = self.run.sampling_weights(params)

    def prompt(self, question: Question, *, chat: bool | None = None) -> str:
        """The question in the prompt form of the run, or of a pretrained model; `chat` overrides that."""
        settings = self.run.config.prompt
        if chat is not None:
            settings = settings.model_copy(update={"chat": chat, "template": "plain"})
        with user_errors():
            return make_prompt(question, settings, self.run.tokenizer)[0]

    def complete(self, prompt: str, *, samples: int = 1, temperature: float = 0.0, seed: int = 0) -> list[str]:
        """Completions of a text as it stands. Its width is rounded up to a power of two, so that few shapes compile."""
        run, shards = self.run, row_shards(self.run.mesh)
        own = own_rows(run.mesh, shards)  # every device answers the same prompt; the first answers are shown
        with user_errors():
            tokens = run.batches.encode(prompt)
        prompt_PS, length_P = padded([tokens] * len(own), max(16, 1 << (len(tokens) - 1).bit_length()))
        sampler = run.sampler(group_size=samples, temperature=temperature)
        prompts = to_global(run.mesh, (prompt_PS, length_P, np.zeros(len(own), np.int32)), shards)
        with run.devices():
            drawn = to_local(sampler(self.weights, *prompts, jax.random.key(seed)))
        return [str(text) for text in completion_texts(drawn, run.tokenizer)[:samples]]
