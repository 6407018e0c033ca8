"""Supervised fine-tuning on worked examples: the cold start.

Loss: mean over all completion tokens of the batch (stop token included) of -log p(token).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from r1jax.config import SftStage
from r1jax.evaluate import evaluate
from r1jax.mesh import own_rows, sharding, to_global
from r1jax.metrics import Progress
from r1jax.models.completions import Completions, completion_log_probs
from r1jax.models.dense import Transformer
from r1jax.objectives import length_mask, token_mean_weights
from r1jax.optimizer import learning_rate, make_optimizer
from r1jax.run import Run, check_finite, due, role_key
from r1jax.state import TrainState, abstract_state, apply_gradients, microbatches_of, restore_or_init, summed_gradients


def train(run: Run, number: int, stage: SftStage, weights: Callable[[], Any]) -> Any:
    """Runs stage `number` from its last checkpoint, or from `weights()`; returns the trained weights."""
    # Shapes, shardings, then arrays.
    optimizer = make_optimizer(stage.optimizer, stage.steps)
    abstract = abstract_state(run.model, optimizer, run.mesh, keep_reference=False)
    update = jax.jit(
        functools.partial(
            update_step,
            model=run.model,
            optimizer=optimizer,
            schedule=learning_rate(stage.optimizer, stage.steps),
            microbatches=microbatches_of(stage.prompts_per_step, stage.microbatch, run.mesh),
        ),
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
                with run.watch(f"{stage.name} step"):
                    rows = run.batches.demonstrations(first + (step - 1) * stage.prompts_per_step, own)
                    batch = Completions(**to_global(run.mesh, rows, stage.prompts_per_step))
                    with run.timers("update"):
                        state, metrics = update(state, batch)
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


def update_step(
    state: TrainState,
    batch: Completions,
    *,
    model: Transformer,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    microbatches: int,
) -> tuple[TrainState, dict[str, Any]]:
    """One update on a batch of prompts and completions, and its metrics."""
    mask_BT = length_mask(batch.length_B, batch.completion_BT.shape[1])
    weights_BT = token_mean_weights(mask_BT)

    def loss(params: Any, rows: tuple[Completions, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        batch, weights_BT = rows
        logp_BT, entropy_BT, likeliest_BT = completion_log_probs(model, params, batch, temperature=1.0)
        total = -jnp.sum(weights_BT * logp_BT)
        sums = {
            "loss": total,
            "entropy": jnp.sum(weights_BT * entropy_BT),
            "token_accuracy": jnp.sum(weights_BT * likeliest_BT),
        }
        return total, sums

    gradients, metrics = summed_gradients(loss, state.params, (batch, weights_BT), microbatches)
    metrics |= {"learning_rate": schedule(state.step), "num_tokens": mask_BT.sum()}
    state, norms = apply_gradients(state, gradients, optimizer)
    return dataclasses.replace(state, step=state.step + 1), metrics | norms
