"""Reward models: a scalar head on the policy's transformer, trained on preference pairs or on labels.

Pairs (Bradley-Terry): the mean over pairs of -log sigmoid(s_better - s_worse) + center (s_better + s_worse)².
Labels (pointwise, R1's safety model): the mean of -log sigmoid(s) for label 1 and -log sigmoid(-s) for label 0.
A score s is the head's at the stop token. DeepSeek-R1 2501.12948v2, section B.2 of its supplement.

Letters: P examples, K responses of each (2 or 1), B = P·K sequences, W positions of prompt and response.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1jax.config.experiment import RewardModelStage
from r1jax.data.batches import Judged
from r1jax.models import Model, init_value_params
from r1jax.parallel.jitted import Jitted
from r1jax.parallel.mesh import gather, own_rows, row_shards, sharding, to_global
from r1jax.programs.steps import Steps
from r1jax.run.run import Run
from r1jax.run.stages import StageRun
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.sampling.reward_model import ROWS, Scorer, last_scores
from r1jax.training.optimizer import learning_rate, make_optimizer
from r1jax.training.state import (
    TrainState,
    abstract_state,
    apply_gradients,
    microbatches_of,
    restore_or_init,
    summed_gradients,
)


class JudgedBatch(NamedTuple):
    """Sequences as arrays: tokens, their lengths, those of the responses alone, and labels (1 for pairs)."""

    token_PKW: Any
    length_PK: Any
    response_length_PK: Any
    label_P: Any


def train(run: Run, stage: StageRun, weights: Callable[[], Any]) -> Any:
    """Runs a stage from its last checkpoint, or from `weights()`; returns None: no stage begins with its weights."""
    settings, batches = stage.settings, stage.batches
    assert isinstance(settings, RewardModelStage)
    update = functions(run.loaded(stage, None), settings, responses=batches.responses)["update"]
    abstract, optimizer = update.arguments[0], make_optimizer(settings.optimizer, settings.updates)
    shardings = jax.tree.map(lambda x: x.sharding, abstract.params)

    def with_head() -> Any:
        return jax.jit(init_value_params, out_shardings=shardings, donate_argnums=0)(weights())

    with Steps(run, stage, evaluate=evaluate) as steps:
        state = restore_or_init(abstract, (optimizer, None), steps.checkpoints, with_head)
        for step in steps.remaining(state):
            start, own = stage.first_example + (step - 1) * settings.prompts_per_step, settings.prompts_per_step
            judged = batches.judged("train", start, own_rows(run.mesh, own))
            batch = to_global(run.mesh, padded_batch(judged, settings, batches.responses), own)
            with run.guard(f"{settings.name} step"), run.timers("update"):
                state, metrics = update(state, batch)
            steps.end(step, state, functools.partial(dict, metrics))
    return None


def functions(model: LoadedModel, stage: RewardModelStage, *, responses: int) -> dict[str, Jitted]:
    """The jitted update by its name, with its abstract arguments, for `responses` of an example: 2 of pairs, or 1."""
    mesh, optimizer = model.mesh, make_optimizer(stage.optimizer, stage.updates)
    state = abstract_state(model.model, (optimizer, None), mesh, with_head=True)
    P, width = stage.prompts_per_step, stage.max_prompt_length + stage.max_completion_length

    def integers(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding(mesh, "B"))

    updating = functools.partial(
        update_step,
        model=model.model,
        optimizer=optimizer,
        schedule=learning_rate(stage.optimizer, stage.updates),
        stage=stage,
        microbatches=microbatches_of(P, stage.microbatch, mesh),
    )
    shardings = (jax.tree.map(lambda x: x.sharding, state), sharding(mesh, ""))
    lengths = integers(P, responses)
    batch = JudgedBatch(integers(P, responses, width), lengths, lengths, integers(P))
    return {"update": Jitted(jax.jit(updating, donate_argnums=0, out_shardings=shardings), (state, batch))}


def padded_batch(judged: Sequence[Judged], stage: RewardModelStage, responses: int) -> JudgedBatch:
    """Token ids of examples with so many responses as arrays, right-padded with 0."""
    width = stage.max_prompt_length + stage.max_completion_length
    token_PKW = np.zeros((len(judged), responses, width), np.int32)
    length_PK, response_length_PK = np.zeros((2, len(judged), responses), np.int32)
    for p, example in enumerate(judged):
        for k, response in enumerate(example.responses):
            ids = [*example.prompt, *response]
            token_PKW[p, k, : len(ids)] = ids
            length_PK[p, k], response_length_PK[p, k] = len(ids), len(response)
    return JudgedBatch(token_PKW, length_PK, response_length_PK, np.array([j.label for j in judged], np.int32))


def pair_weights(response_length_PK: jax.Array, *, balance_lengths: bool) -> jax.Array:
    """The weights of examples in the loss, [P], of sum 1.

    Balanced, the pairs whose better response is longer weigh as much together as those where it is shorter, unless all
    are of one kind; a pair of equal lengths weighs as in the mean.
    """
    if not balance_lengths or response_length_PK.shape[1] == 1:
        return jnp.full(len(response_length_PK), 1 / len(response_length_PK))
    better_P, worse_P = response_length_PK.T
    longer_P, shorter_P = better_P > worse_P, better_P < worse_P
    both = longer_P.any() & shorter_P.any()
    half = (longer_P.sum() + shorter_P.sum()) / 2
    own_P = jnp.where(longer_P, longer_P.sum(), shorter_P.sum())
    weight_P = jnp.where(both & (longer_P | shorter_P), half / jnp.maximum(own_P, 1), 1.0)
    return weight_P / len(weight_P)


def update_step(
    state: TrainState,
    batch: JudgedBatch,
    *,
    model: Model,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    stage: RewardModelStage,
    microbatches: int,
) -> tuple[TrainState, dict[str, Any]]:
    """One update on pairs or labelled responses, and its metrics."""
    weight_P = pair_weights(batch.response_length_PK, balance_lengths=stage.balance_lengths)
    P, K = batch.length_PK.shape

    def loss(params: Any, rows: tuple[JudgedBatch, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        batch, weight_P = rows
        token_BW = batch.token_PKW.reshape(-1, batch.token_PKW.shape[2])
        score_PK = last_scores(model, params, token_BW, batch.length_PK.reshape(-1)).reshape(-1, K)
        loss_P, right_P, margin_P = judged_loss(score_PK, batch.label_P, stage.center)
        total = jnp.sum(weight_P * loss_P)
        sums = {"loss": total, "accuracy": jnp.sum(right_P) / P, "margin": jnp.sum(margin_P) / P}
        return total, sums | {"score": jnp.sum(score_PK) / (P * K)}

    gradients, metrics = summed_gradients(loss, state.params, (batch, weight_P), microbatches)
    metrics |= {"learning_rate": schedule(state.step), "num_tokens": batch.length_PK.sum()}
    if K == 2:
        metrics["frac_better_longer"] = jnp.mean(batch.response_length_PK[:, 0] > batch.response_length_PK[:, 1])
    state, norms = apply_gradients(state, gradients, optimizer)
    return dataclasses.replace(state, step=state.step + 1), metrics | norms


def judged_loss(score_PK: jax.Array, label_P: jax.Array, center: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each example its loss, whether the model is right, and by how much: s_better - s_worse, or ± s of a label."""
    if score_PK.shape[1] == 2:
        better_P, worse_P = score_PK.T
        margin_P = better_P - worse_P
        loss_P = -jax.nn.log_sigmoid(margin_P) + center * (better_P + worse_P) ** 2
    else:
        margin_P = jnp.where(label_P == 1, score_PK[:, 0], -score_PK[:, 0])
        loss_P = -jax.nn.log_sigmoid(margin_P)
    return loss_P, margin_P > 0, margin_P


def evaluate(run: Run, stage: StageRun, weights: Any, step: int) -> dict[str, float]:
    """The accuracy on held-out pairs or labels, logged as a row of `step`; of pairs also by the longer response."""
    settings, batches = stage.settings, stage.batches
    assert isinstance(settings, RewardModelStage)
    size = batches.size("test")
    problems = min(settings.evaluate.problems or size or 0, size or settings.evaluate.problems or 0)
    with run.guard(f"{settings.name} evaluation"), run.timers("evaluate"):
        judged = batches.judged("test", 0, np.arange(problems))
        total = math.ceil(problems / row_shards(run.mesh)) * row_shards(run.mesh)  # the last are some of the first
        own = [judged[row % problems] for row in own_rows(run.mesh, total)]
        sequences = [[*example.prompt, *response] for example in own for response in example.responses]
        assert batches.reading is not None
        rows = 2 * settings.microbatch if settings.microbatch else ROWS
        scorer = Scorer(run.loaded(stage, weights), batches.reading, rows)
        score_PK = gather(run.mesh, scorer(sequences).reshape(len(own), batches.responses), total)[:problems]
    labels = jnp.array([example.label for example in judged])
    _, right_P, margin_P = jax.device_get(judged_loss(jnp.asarray(score_PK), labels, 0.0))
    scores = {
        "eval/accuracy": float(right_P.mean()),
        "eval/margin": float(margin_P.mean()),
        "eval/score": float(score_PK.mean()),
        "eval/score_std": float(score_PK.std()),
    }
    if score_PK.shape[1] == 2:
        longer_P = np.array([np.sign(len(j.responses[0]) - len(j.responses[1])) for j in judged])
        for name, own_P in (("longer", longer_P > 0), ("shorter", longer_P < 0)):
            if own_P.any():
                scores[f"eval/accuracy_where_better_is_{name}"] = float(right_P[own_P].mean())
    run.log.log(settings.name, step, scores | run.timers.collect())
    return scores
