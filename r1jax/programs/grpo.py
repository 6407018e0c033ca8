"""GRPO: sample groups, score them by rule, take each answer's advantage from its own group, update, repeat.

DeepSeekMath 2402.03300 section 4.1, as DeepSeek-R1 2501.12948 uses it. The loss per token is the clipped policy term
plus kl_coef × k3 to the reference, averaged over each completion's tokens, then over completions (eq. 3). Old log-probs
are the sampler's own. The reference is the weights that the stage began with; without KL none is held.
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

from r1jax.config import GrpoStage
from r1jax.evaluate import evaluate
from r1jax.mesh import constrain, sharding, to_local
from r1jax.metrics import Progress
from r1jax.models.completions import completion_log_probs
from r1jax.models.dense import Transformer
from r1jax.objectives import kl_terms, length_mask, policy_terms, sequence_mean_weights, token_mean_weights
from r1jax.optimizer import learning_rate, make_optimizer
from r1jax.rewards.watch import RewardWatch
from r1jax.rollout import Rollout, collect
from r1jax.run import Run, check_finite, due, role_key
from r1jax.state import TrainState, abstract_state, apply_gradients, microbatches_of, restore_or_init, summed_gradients

LOGP_DIFFERENCE = "sampling/sampling_logp_difference/mean"
# Mean |Δ log-prob| between sampler and trainer above which a run does not start.
MAX_LOGP_DIFFERENCE = {"float32": 1e-4, "bfloat16": 5e-2}


def train(run: Run, number: int, stage: GrpoStage, weights: Callable[[], Any]) -> Any:
    """Runs stage `number` from its last checkpoint, or from `weights()`; returns the trained weights."""
    # Shapes, shardings, then arrays.
    optimizer = make_optimizer(stage.optimizer, stage.steps * stage.minibatches)
    abstract = abstract_state(run.model, optimizer, run.mesh, keep_reference=stage.kl_coef > 0)
    rows = stage.prompts_per_step * stage.group_size // stage.minibatches
    update = jax.jit(
        functools.partial(
            update_step,
            model=run.model,
            optimizer=optimizer,
            stage=stage,
            microbatches=microbatches_of(rows, stage.microbatch, run.mesh),
        ),
        donate_argnums=0,
        out_shardings=(jax.tree.map(lambda x: x.sharding, abstract), sharding(run.mesh, "")),
    )
    with run.checkpoints(stage.name) as checkpoints:
        state = restore_or_init(abstract, optimizer, checkpoints, weights)
        start, first = int(state.step), run.first_example(number)
        watch = RewardWatch(tuple(stage.rewards))
        with Progress(stage.name, stage.steps, start, enabled=run.is_writer) as progress:
            for step in range(start + 1, stage.steps + 1):
                begin, compiles = time.perf_counter(), run.watch.count
                with run.watch(f"{stage.name} step"):
                    key = role_key(run.key, number, step, "rollout")
                    rollout, metrics, transcript = collect(
                        run, stage, run.sampling_weights(state.params), first + (step - 1) * stage.prompts_per_step, key
                    )
                    with run.timers("update"):
                        order = role_key(run.key, number, step, "minibatches")
                        updates = []
                        for i in range(stage.minibatches):
                            state, update_metrics = update(state, rollout, order, jnp.int32(i))
                            updates.append({name: float(value) for name, value in update_metrics.items()})
                            if step == start + 1 and i == 0:
                                check_finite(updates[0], stage.name, step, checkpoints)
                                check_sampler(updates[0], run.config.model.dtype, stage.name, step)
                metrics = {name: float(value) for name, value in metrics.items()}
                metrics |= {name: sum(u[name] for u in updates) / len(updates) for name in updates[0]}
                # Between sampler and trainer: before the first update has moved the policy.
                metrics[LOGP_DIFFERENCE] = updates[0][LOGP_DIFFERENCE]
                check_finite(metrics, stage.name, step, checkpoints)
                seconds = time.perf_counter() - begin
                metrics |= run.timers.collect() | {
                    "step_time": seconds,
                    "tokens_per_second": metrics["num_tokens"] / seconds,
                    "compiles": run.watch.count - compiles,
                }
                run.log.log(stage.name, step, metrics)
                progress.update(step, metrics)
                for line in watch(metrics):
                    run.say(line)
                if due(step, run.config.log.completions_every or stage.steps, stage.steps) or step == 1:
                    rows = transcript.rows(to_local(rollout.advantage_B))
                    if run.config.log.completions_every:
                        run.log.completions(stage.name, step, rows)
                    progress.show_sample(rows[0]["prompt"], rows[0]["completion"], rows[0]["rewards"])
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
    rollout: Rollout,
    order: jax.Array,
    index: jax.Array,
    *,
    model: Transformer,
    optimizer: optax.GradientTransformation,
    stage: GrpoStage,
    microbatches: int,
) -> tuple[TrainState, dict[str, Any]]:
    """The update on minibatch `index` of a rollout shuffled by the key `order`, and its metrics."""
    if stage.minibatches > 1:
        size = rollout.advantage_B.shape[0] // stage.minibatches
        shuffled_B = jax.random.permutation(order, rollout.advantage_B.shape[0])
        chosen = jax.lax.dynamic_slice_in_dim(shuffled_B, index * size, size)
        rollout = jax.tree.map(lambda x: constrain(x[chosen], "BT"[: x.ndim]), rollout)
    mask_BT = length_mask(rollout.completions.length_B, rollout.completions.completion_BT.shape[1])
    mask_BT = mask_BT * rollout.graded_B[:, None]
    batch = (rollout, sequence_mean_weights(mask_BT), token_mean_weights(mask_BT))

    def loss(params: Any, rows: tuple[Rollout, jax.Array, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        rollout, sequence_BT, token_BT = rows
        advantage_B1 = rollout.advantage_B[:, None]
        logp_BT, entropy_BT, _ = completion_log_probs(model, params, rollout.completions, temperature=stage.temperature)
        # Past a row's length the numbers mean nothing: make them equal, so that the terms there are plain zeros.
        logp_BT = jnp.where(token_BT > 0, logp_BT, rollout.logp_BT)
        terms_BT, ratio_BT = policy_terms(
            logp_BT,
            old_logp_BT=rollout.logp_BT,
            advantage_B=rollout.advantage_B,
            clip_low=stage.clip_low,
            clip_high=stage.clip_high,
        )
        low_BT = (ratio_BT < 1 - stage.clip_low) & (advantage_B1 < 0)
        high_BT = (ratio_BT > 1 + stage.clip_high) & (advantage_B1 > 0)
        difference_BT = jnp.abs(logp_BT - rollout.logp_BT)
        sums = {
            "entropy": jnp.sum(token_BT * entropy_BT),
            "clip_ratio/low_mean": jnp.sum(token_BT * low_BT),
            "clip_ratio/high_mean": jnp.sum(token_BT * high_BT),
            "clip_ratio/region_mean": jnp.sum(token_BT * (low_BT | high_BT)),
            LOGP_DIFFERENCE: jnp.sum(token_BT * difference_BT),
        }
        if state.reference is not None:
            reference_logp_BT, _, _ = completion_log_probs(
                model, state.reference, rollout.completions, temperature=stage.temperature
            )
            kl_BT = kl_terms(logp_BT, jnp.where(token_BT > 0, reference_logp_BT, logp_BT))
            terms_BT += stage.kl_coef * kl_BT
            sums["kl"] = jnp.sum(token_BT * kl_BT)
        total = jnp.sum(sequence_BT * terms_BT)
        return total, sums | {"loss": total}

    gradients, metrics = summed_gradients(loss, state.params, batch, microbatches)
    schedule = learning_rate(stage.optimizer, stage.steps * stage.minibatches)
    metrics["learning_rate"] = schedule(state.step * stage.minibatches + index)
    state, norms = apply_gradients(state, gradients, optimizer)
    return dataclasses.replace(state, step=state.step + (index == stage.minibatches - 1)), metrics | norms


def check_sampler(metrics: dict[str, float], dtype: str, stage: str, step: int) -> None:
    """The start-up gate: sampler and trainer must give the same tokens the same log-probs."""
    difference = metrics[LOGP_DIFFERENCE]
    if not difference <= MAX_LOGP_DIFFERENCE[dtype]:
        raise FloatingPointError(
            f"stage {stage}, step {step}: sampler and trainer differ by {difference:.2g} in log-prob on average; at "
            f"most {MAX_LOGP_DIFFERENCE[dtype]} is expected in {dtype}, and training on the difference would be wrong"
        )
