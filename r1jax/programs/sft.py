"""Supervised fine-tuning on worked examples: the cold start.

Loss: mean over all completion tokens of the batch (stop token included) of -log p(token). Packing changes neither a
step's examples nor its loss.

Letters: M packed rows of W positions, D model width.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1jax.config.experiment import SftStage
from r1jax.data.packing import HEIGHTS, Packed, first_fit, pack
from r1jax.evaluate import evaluate
from r1jax.models import Model, forward
from r1jax.models.logprobs import token_log_probs
from r1jax.parallel.mesh import greatest, own_rows, row_shards, sharding, to_global
from r1jax.rl.losses import reduction_weights
from r1jax.run.metrics import Progress
from r1jax.run.run import Run, check_finite, due, role_key
from r1jax.training.optimizer import learning_rate, make_optimizer
from r1jax.training.state import (
    TrainState,
    abstract_state,
    apply_gradients,
    microbatches_of,
    restore_or_init,
    summed_gradients,
)


def train(run: Run, number: int, stage: SftStage, weights: Callable[[], Any]) -> Any:
    """Runs stage `number` from its last checkpoint, or from `weights()`; returns the trained weights."""
    # Shapes, shardings, then arrays.
    optimizer = make_optimizer(stage.optimizer, stage.updates)
    abstract = abstract_state(run.model, optimizer, run.mesh)
    update = jax.jit(
        functools.partial(
            update_step,
            model=run.model,
            optimizer=optimizer,
            schedule=learning_rate(stage.optimizer, stage.updates),
        ),
        static_argnames="microbatches",
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda x: x.sharding, abstract), sharding(run.mesh, "")),
    )
    with run.checkpoints(stage.name) as checkpoints:
        state = restore_or_init(abstract, optimizer, checkpoints, weights)
        own, first = own_rows(run.mesh, stage.prompts_per_step), run.first_example(number)
        start = int(state.step)
        with Progress(stage.name, stage.steps, start, enabled=run.is_writer) as progress:
            for step in range(start + 1, stage.steps + 1):
                begin, compiles = time.perf_counter(), run.watch.count
                batch = packed_batch(run, stage, first + (step - 1) * stage.prompts_per_step, own)
                rows = len(batch.token_MW)
                with run.watch(f"{stage.name} step of {rows} rows"), run.timers("update"):
                    microbatches = microbatches_of(rows, stage.microbatch, run.mesh)
                    state, metrics = update(state, batch, microbatches=microbatches)
                    metrics = {name: float(value) for name, value in metrics.items()}
                check_finite(metrics, stage.name, step, checkpoints)
                seconds = time.perf_counter() - begin
                metrics |= run.timers.collect() | {
                    "step_time": seconds,
                    "tokens_per_second": metrics["num_tokens"] / seconds,
                    "compiles": run.watch.count - compiles,
                }
                run.log.log(stage.name, step, metrics)
                progress.update(step, metrics)
                if due(step, stage.eval_every, stage.steps):
                    with run.watch("evaluate"):
                        key = role_key(run.key, number, step, "evaluate")
                        scores, _ = evaluate(run, state.params, run.config.evaluate, key)
                    run.log.log(stage.name, step, scores | run.timers.collect())
                    progress.update(step, scores)
                if due(step, stage.save_every, stage.steps):
                    run.log.flush()
                    checkpoints.save(step, state.items())
    return state.params


def packed_batch(run: Run, stage: SftStage, start: int, own: np.ndarray) -> Packed:
    """The step's examples from position `start`, of which this process makes those at start + `own`, as global arrays.

    The number of rows is what the examples need, rounded up so that a run sees few different ones: each is compiled.
    """
    examples = run.batches.demonstrations(start, own)
    if stage.pack_length is None:
        width = run.batches.width["train"] + run.config.max_completion_length
        rows, height = [[i] for i in range(len(examples))], stage.prompts_per_step
    else:
        width = stage.pack_length
        rows = first_fit([len(prompt) + len(completion) for prompt, completion in examples], width)
        least = row_shards(run.mesh) * (stage.microbatch or 1)
        multiple = least * math.ceil(stage.prompts_per_step / (HEIGHTS * least))
        needed = greatest(math.ceil(len(rows) * stage.prompts_per_step / len(own)))
        height = multiple * math.ceil(needed / multiple)
    local = pack(examples, rows, width=width, height=len(own_rows(run.mesh, height)))
    return to_global(run.mesh, local, height)


def update_step(
    state: TrainState,
    batch: Packed,
    *,
    model: Model,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    microbatches: int,
) -> tuple[TrainState, dict[str, Any]]:
    """One update on rows of prompts and completions, and its metrics."""
    weights_MW = reduction_weights(batch.learned_MW.astype(jnp.float32), "token_mean")

    def loss(params: Any, rows: tuple[Packed, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        batch, weights_MW = rows
        hidden_MWD, _ = forward(model, params, batch.token_MW, batch.position_MW, batch.segment_MW)
        target_MW, weights_MW = batch.token_MW[:, 1:], weights_MW[:, 1:]
        logp_MW, entropy_MW, is_argmax_MW = token_log_probs(
            model, params, hidden_MWD[:, :-1], target_MW, temperature=1.0
        )
        total = -jnp.sum(weights_MW * logp_MW)
        sums = {
            "loss": total,
            "entropy": jnp.sum(weights_MW * entropy_MW),
            "token_accuracy": jnp.sum(weights_MW * is_argmax_MW),
        }
        return total, sums

    gradients, metrics = summed_gradients(loss, state.params, (batch, weights_MW), microbatches)
    metrics |= {
        "learning_rate": schedule(state.step),
        "num_tokens": batch.learned_MW.sum(),
        "packing_fill": jnp.mean(batch.segment_MW > 0),
    }
    state, norms = apply_gradients(state, gradients, optimizer)
    return dataclasses.replace(state, step=state.step + 1), metrics | norms
