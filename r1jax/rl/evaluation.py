"""Held-out scores: pass@1 over k samples, unbiased pass@k, cons@k, lengths; and the transcripts behind them.

    scores, rows, accuracy_P = evaluate(model, batches, settings, key)

Letters: P prompts (one per problem), G samples per prompt.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from r1jax.answers.equivalence import same_answer
from r1jax.answers.extraction import extract_answer, kind_of
from r1jax.config.base import ConfigError, user_errors
from r1jax.config.sampling import EvaluateSettings
from r1jax.data.batches import Batches
from r1jax.parallel.mesh import gather, own_rows, row_shards
from r1jax.rewards.accuracy import grade_answer
from r1jax.rl.rollout import Sampling, Transcript, roll_out
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.tasks.mixture import Mixture

SEQUENCES_AT_ONCE = 64  # on each device, where no stage says how many it has
MAX_PROVED = 16  # different answers to a problem that algebra compares with each further one, for cons@k
WAITING = 4  # a call's samples, as a multiple of those that are decoded at once
WIDTH_MULTIPLE = 64  # widths of prompts are rounded up to this, so that few shapes are compiled


class Evaluation(NamedTuple):
    """What `evaluate` found: eval/… metrics, this process's transcripts as rows, and each problem's accuracy.

    `accuracy_P` [P] is the mean over a problem's samples, in the order of the test split; NaN where none was graded,
    and for problems of a mixture's part without that reward.
    """

    scores: dict[str, float]
    rows: list[dict[str, Any]]
    accuracy_P: np.ndarray


def evaluate(
    model: LoadedModel,
    batches: Batches,
    settings: EvaluateSettings,
    key: jax.Array,
    *,
    sequences: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Answers and grades the first `problems` of the test split.

    `sequences` is how many there is memory for (None: SEQUENCES_AT_ONCE a device), which changes no sample. `progress`
    is called with how many of how many problems are done.

    `eval/accuracy` is pass@1: the mean of the reward `accuracy`, partial credit included. With several samples there
    are also `eval/pass@K` for powers of two, and `eval/cons@G`, the accuracy of each problem's most frequent answer.
    Samples that could not be graded are left out; their share is `eval/frac_reward_none`.

    In a mixture each score is over the problems whose part has the reward, and those of the problems of a part that has
    a name are there too, as `eval/accuracy/NAME`.
    """
    G, mesh, size = settings.samples, model.mesh, batches.size("test")
    if settings.problems == 0:
        raise ConfigError("evaluate.problems: 0 evaluates nothing; give a number, or null for all")
    if settings.problems is None and size is None:
        raise ConfigError("evaluate.problems: null means all, and this task's problems have no end; give a number")
    problems, shards = min(n for n in (settings.problems, size) if n is not None), row_shards(mesh)
    S, T = batches.max_prompt_length, batches.max_completion_length
    chunk, decode_batch = call_sizes(settings, problems, shards, sequences, S, T)
    with user_errors():
        length_P = batches.prompt_lengths("test", problems)
    order_P = np.argsort(length_P, kind="stable")  # prompts of similar length together, no wider than they need
    sampling_settings = settings.model_copy(update={"decode_batch": decode_batch})
    sampler = model.sampler(sampling_settings, group_size=G, max_new=T)
    sampling = Sampling(mesh, model.tokenizer, sampler, batches.task.rewards)
    weights = model.sampling_weights()
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    rows: list[tuple[int, dict[str, Any]]] = []
    for start in range(0, problems, chunk):
        own, wanted = own_rows(mesh, chunk), min(chunk, problems - start)
        chosen = np.resize(order_P[start : start + chunk], chunk)  # the last chunk repeats problems and drops them
        width = min(-(-length_P[chosen].max() // WIDTH_MULTIPLE) * WIDTH_MULTIPLE, S)
        prompts = batches.prompts("test", 0, chosen[own], width)
        _, transcript = roll_out(sampling, weights, prompts, chunk, key)
        for name, values in gather(mesh, _columns(transcript, G), chunk).items():
            columns[name].append(values[:wanted])
        rows += [(int(chosen[own[i // G]]), row) for i, row in enumerate(transcript.rows()) if own[i // G] < wanted]
        progress(min(start + chunk, problems), problems)
    table = {name: np.concatenate(parts) for name, parts in columns.items()}
    metrics = _metrics(table, G)
    for number, name in enumerate(batches.task.names if isinstance(batches.task, Mixture) else ()):
        own_P = table["part"] == number
        if name is not None and own_P.any():
            own = _metrics({column: values[own_P] for column, values in table.items()}, G)
            metrics |= {f"{metric}/{name}": value for metric, value in own.items()}
    accuracy_P = np.full(problems, math.nan)
    for problem, samples, applies in zip(order_P, table["reward/accuracy"], table["applies/accuracy"], strict=True):
        accuracy_P[problem] = mean_of_graded(samples) if applies else math.nan
    return Evaluation(metrics, [row for _, row in sorted(rows, key=lambda numbered: numbered[0])], accuracy_P)


def call_sizes(
    settings: EvaluateSettings, problems: int, shards: int, sequences: int | None, S: int, T: int
) -> tuple[int, int | None]:
    """How many problems a call of the sampler has, and how many samples each of the `shards` devices decodes at once.

    Unless settings.decode_batch is given, a call's caches take no more than those of `sequences` whole sequences, but a
    call has at least one problem a device. Of more samples than that, a call has up to WAITING times as many as are
    decoded at once, if beside the prompts of those that wait three quarters can still be decoded; else none waits, and
    the second number is None.
    """
    G, own = settings.samples, math.ceil(problems / shards)
    fits = (sequences or SEQUENCES_AT_ONCE * shards) // shards
    if own * G <= (settings.decode_batch or fits):
        return own * shards, None
    batch = settings.decode_batch or max(fits * (S + T) * G // ((S + T) * G + WAITING * S), 1)
    waits = settings.decode_batch or fits < G or 4 * batch >= 3 * fits
    held = max(min(WAITING * batch // G, (fits - batch) * (S + T) // S), batch // G, 1)
    calls = math.ceil(own / (held if waits else fits // G))
    return math.ceil(own / calls) * shards, batch if waits else None


def pass_at_k(n: int, right: int, k: int) -> float:
    """1 - C(n - right, k) / C(n, k): the chance that one of k out of n samples is right (Chen et al. 2107.03374)."""
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def consensus(answers: Sequence[str | None], right: Sequence[bool]) -> float:
    """Whether the most frequent answer is right. Answers that are equivalent, and all that are right, are one answer.

    None does not vote, ties are shared. Algebra compares an answer with the MAX_PROVED most frequent ones alone.
    """
    votes = sum(right)
    wrong = Counter(a for a, correct in zip(answers, right, strict=True) if a is not None and not correct)
    if votes > wrong.total() or not votes:
        return float(votes > 0)
    groups: dict[str, int] = {}
    for answer, count in wrong.most_common():
        compare = grade_answer if len(groups) < MAX_PROVED else same_answer
        group = next((other for other in groups if compare(answer, other) == 1), answer)
        groups[group] = groups.get(group, 0) + count
    most = max(groups.values())
    return float(votes > most) if votes != most else 1 / (1 + list(groups.values()).count(most))


def _columns(transcript: Transcript, G: int) -> dict[str, np.ndarray]:
    """[problems, ...] arrays of this process's part."""
    texts, grades = transcript.texts, transcript.grades
    accuracy = grades.scores["accuracy"]
    examples = [example for example in transcript.examples for _ in range(G)]
    answers = [
        None
        if np.isnan(score)
        else extract_answer(text, prompt_opens_think=e.prompt_opens_think, kind=kind_of(e.answer))
        for text, score, e in zip(texts, accuracy, examples, strict=True)
    ]
    right_PG = accuracy.reshape(-1, G) == 1.0
    consensus_P = [consensus(answers[p * G : (p + 1) * G], right_G.tolist()) for p, right_G in enumerate(right_PG)]
    return {
        **{f"reward/{name}": values.reshape(-1, G) for name, values in grades.scores.items()},
        **{f"applies/{name}": values.reshape(-1, G)[:, 0] for name, values in grades.applies.items()},
        "part": np.array([example.part for example in transcript.examples], np.int32),
        "consensus": np.array(consensus_P, np.float32),
        "length": np.array([text.length for text in texts], np.int32).reshape(-1, G),
        "truncated": np.array([text.truncated for text in texts], bool).reshape(-1, G),
    }


def _metrics(table: dict[str, np.ndarray], G: int) -> dict[str, float]:
    """Of the problems in a table; no score of a reward that none of them has."""
    has_P = {name.removeprefix("applies/"): values for name, values in table.items() if name.startswith("applies/")}
    rewards = {name: table[f"reward/{name}"][values] for name, values in has_P.items() if values.any()}
    metrics = {f"eval/{name}": mean_of_graded(values) for name, values in rewards.items()}
    metrics["eval/mean_length"] = float(table["length"].mean())
    metrics["eval/clipped_ratio"] = float(table["truncated"].mean())
    if "accuracy" not in rewards:
        return metrics
    graded_P = (~np.isnan(rewards["accuracy"])).sum(axis=1)
    right_P = (rewards["accuracy"] == 1.0).sum(axis=1)
    metrics["eval/frac_reward_none"] = float(1 - graded_P.sum() / (G * len(graded_P)))
    counts = list(zip(graded_P.tolist(), right_P.tolist(), strict=True))
    for k in (2**power for power in range(1, G.bit_length())):
        chances = [pass_at_k(n, right, k) for n, right in counts if n >= k]
        metrics[f"eval/pass@{k}"] = float(np.mean(chances or [math.nan]))
    if G > 1:
        metrics[f"eval/cons@{G}"] = float(table["consensus"][has_P["accuracy"]].mean())
    return metrics


def mean_of_graded(values: np.ndarray) -> float:
    """The mean of the scores that are not NaN; NaN where all are."""
    return math.nan if np.isnan(values).all() else float(np.nanmean(values, dtype=np.float64))
