"""Supervised fine-tuning on demonstrations: the cold start.

Loss: the mean over all tokens of the batch that the assistant wrote, stop tokens included, of -log p(token). Packing
changes neither a step's examples nor its loss.

Letters: M packed rows of W positions, D model width.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from r1jax.config.experiment import SftStage
from r1jax.data.batches import Batches
from r1jax.data.packing import HEIGHTS, Packed, first_fit, pack
from r1jax.models import Model, forward
from r1jax.models.logprobs import token_log_probs
from r1jax.parallel.jitted import Jitted
from r1jax.parallel.mesh import own_rows, row_shards, sharding, to_global
from r1jax.parallel.processes import greatest
from r1jax.programs.steps import Steps
from r1jax.rl.losses import reduction_weights
from r1jax.run.run import Run
from r1jax.run.stages import StageRun
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.training.optimizer import learning_rate, make_optimizer
from r1jax.training.state import (
    TrainState,
    abstract_state,
    apply_gradients,
    microbatches_of,
    restore_or_init,
    summed_gradients,
)


def train(run: Run, stage: StageRun, weights: Callable[[], Any]) -> Any:
    """Runs a stage from its last checkpoint, or from `weights()`; returns the trained weights."""
    settings, batches = stage.settings, stage.batches
    assert isinstance(settings, SftStage)
    update = functions(run.loaded(stage, None), settings, batches.width["train"])["update"]
    optimizer = make_optimizer(settings.optimizer, settings.updates)
    with Steps(run, stage) as steps:
        state = restore_or_init(update.arguments[0], (optimizer, None), steps.checkpoints, weights)
        for step in steps.remaining(state):
            start = stage.first_example + (step - 1) * settings.prompts_per_step
            batch = packed_batch(run.mesh, batches, settings, start)
            with run.guard(f"{settings.name} step of {len(batch.token_MW)} rows"), run.timers("update"):
                state, metrics = update(state, batch)
            steps.end(step, state, functools.partial(dict, metrics))
        return steps.result(state)


def functions(model: LoadedModel, stage: SftStage, prompt_width: int) -> dict[str, Jitted]:
    """The jitted update by its name, with the abstract state and the largest batch that it may be called with."""
    mesh, optimizer = model.mesh, make_optimizer(stage.optimizer, stage.updates)
    state = abstract_state(model.model, (optimizer, None), mesh)
    shape = stage.prompts_per_step, stage.pack_length or prompt_width + stage.max_completion_length
    positions_MW = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding(mesh, "B"))

    def update(state: TrainState, batch: Packed) -> tuple[TrainState, dict[str, Any]]:
        return update_step(
            state,
            batch,
            model=model.model,
            optimizer=optimizer,
            schedule=learning_rate(stage.optimizer, stage.updates),
            microbatches=microbatches_of(len(batch.token_MW), stage.microbatch, mesh),
        )

    shardings = (jax.tree.map(lambda x: x.sharding, state), sharding(mesh, ""))
    jitted = jax.jit(update, donate_argnums=0, out_shardings=shardings)
    return {"update": Jitted(jitted, (state, Packed(*[positions_MW] * 4)))}


def packed_batch(mesh: Mesh, batches: Batches, stage: SftStage, start: int) -> Packed:
    """The step's demonstrations from position `start` on, as global arrays; each process makes its own part.

    The number of rows is what the demonstrations need, rounded up so that a run sees few different ones: each is
    compiled.
    """
    own = own_rows(mesh, stage.prompts_per_step)
    examples = batches.demonstrations(start, own)
    if stage.pack_length is None:
        width = batches.width["train"] + batches.max_completion_length
        rows, height = [[i] for i in range(len(examples))], stage.prompts_per_step
    else:
        width = stage.pack_length
        rows = first_fit([len(each.prompt) + len(each.completion) for each in examples], width)
        least = row_shards(mesh) * (stage.microbatch or 1)
        multiple = least * math.ceil(stage.prompts_per_step / (HEIGHTS * least))
        needed = greatest(math.ceil(len(rows) * stage.prompts_per_step / max(len(own), 1)))
        height = multiple * math.ceil(needed / multiple)
    local = pack(examples, rows, width=width, height=len(own_rows(mesh, height)))
    return to_global(mesh, local, height)


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
        hidden_MWD = hidden_MWD[:, :-1]
        logp_MW, entropy_MW, is_argmax_MW = token_log_probs(model, params, hidden_MWD, target_MW, temperature=1.0)
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
