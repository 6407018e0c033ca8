"""GRPO and its kin: sample groups, score them by rule, take advantages from the group, update, repeat.

DeepSeekMath 2402.03300 section 4.1, as DeepSeek-R1 2501.12948 uses it: by default the loss per token is the clipped
policy term plus kl.coef × k3 to the reference, averaged over each completion's tokens, then over completions (eq. 3).
A stage's settings make it DAPO, Dr. GRPO, GSPO, CISPO, RLOO, or with a value model PPO; their formulas are in
`objectives` and `advantages`.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1jax.config.experiment import GrpoStage
from r1jax.data.packing import Layout, lay_out
from r1jax.evaluate import evaluate
from r1jax.models.transformer import Transformer
from r1jax.parallel.mesh import constrain, own_rows, row_shards, sharding, to_global, to_local
from r1jax.rewards.monitor import RewardMonitor
from r1jax.rl.logprobs import completion_log_probs, completion_values
from r1jax.rl.losses import (
    clipped_sides,
    kl_terms,
    length_mask,
    log_ratio,
    off_policy_mask,
    policy_terms,
    reduction_weights,
    value_terms,
)
from r1jax.rl.rollout import Experience, collect, sequence_lengths
from r1jax.rl.train_batch import Rollout, make_preparer, needs_forwards
from r1jax.run.metrics import Progress
from r1jax.run.run import Run, check_finite, due, role_key
from r1jax.training.optimizer import learning_rate, make_optimizer, updates_made
from r1jax.training.state import (
    TrainState,
    abstract_state,
    apply_gradients,
    microbatches_of,
    renewed_reference,
    restore_or_init,
    summed_gradients,
)

LOGP_DIFFERENCE = "sampling/sampling_logp_difference/mean"
# Mean |Δ log-prob| between sampler and trainer above which a run does not start.
MAX_LOGP_DIFFERENCE = {"float32": 1e-4, "bfloat16": 5e-2}


def train(run: Run, number: int, stage: GrpoStage, weights: Callable[[], Any]) -> Any:
    """Runs stage `number` from its last checkpoint, or from `weights()`; returns the trained weights."""
    # Shapes, shardings, then arrays.
    optimizer, value_optimizer = optimizers(stage)
    abstract = abstract_state(
        run.model, optimizer, run.mesh, keep_reference=stage.kl.coef > 0, value_optimizer=value_optimizer
    )
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    rows = stage.prompts_per_step * stage.group_size // stage.minibatches
    prepare = make_preparer(run.model, run.mesh, stage)
    update = jax.jit(
        functools.partial(
            update_step,
            model=run.model,
            optimizer=optimizer,
            value_optimizer=value_optimizer,
            stage=stage,
            microbatches=microbatches_of(rows, stage.microbatch, run.mesh),
        ),
        donate_argnums=0,
        out_shardings=(shardings, sharding(run.mesh, "")),
    )
    renew = jax.jit(renewed_reference, static_argnums=1, donate_argnums=0, out_shardings=shardings)
    with run.checkpoints(stage.name) as checkpoints:
        state = restore_or_init(abstract, optimizer, checkpoints, weights, value_optimizer)
        start, first = int(state.step), run.first_example(number)
        watch, checked = RewardMonitor([name for name, weight in stage.rewards.items() if weight]), False
        with Progress(stage.name, stage.steps, start, enabled=run.is_writer) as progress:
            for step in range(start + 1, stage.steps + 1):
                begin, compiles = time.perf_counter(), run.watch.count
                key = role_key(run.key, number, step, "rollout")
                next_example = first + int(state.drawn) * stage.prompts_per_step
                with run.watch(f"{stage.name} rollout"):
                    experience, sampled, transcript, drawn = collect(
                        run, stage, run.sampling_weights(state.params), next_example, key
                    )
                    order_NB = minibatch_order(role_key(run.key, number, step, "minibatches"), stage)
                    layouts = layouts_of(run, stage, experience, order_NB)
                with run.timers("prepare"), run.watch(f"{stage.name} prepare {rows_of(layouts[0])}"):
                    rollout, assembled = jax.block_until_ready(prepare(state, experience, layouts[0]))
                updates = []
                for i, (chosen_B, layout) in enumerate(zip(order_NB, layouts[1:], strict=True)):
                    with run.timers("update"), run.watch(f"{stage.name} update {rows_of(layout)}"):
                        numbers = jnp.int32(i), jnp.int32(drawn)
                        state, update_metrics = update(state, rollout, chosen_B, layout, *numbers)
                        updates.append({name: float(value) for name, value in update_metrics.items()})
                    if step == start + 1 and i == 0:
                        check_finite(updates[0], stage.name, step, checkpoints)
                    if not checked and updates[-1]["update_tokens"] > 0:  # before them the weights were the sampler's
                        check_sampler(updates[-1], run.config.model.dtype, stage.name, step)
                        checked = True
                metrics = {name: float(value) for name, value in {**assembled, **sampled}.items()}
                metrics |= over_updates(updates)
                if stage.kl.reference_every and state.reference is not None and step % stage.kl.reference_every == 0:
                    state = renew(state, stage.kl.reference_mix)
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
                    rows = transcript.rows(mean_advantages(rollout), to_local(rollout.counted_B))
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


def optimizers(stage: GrpoStage) -> tuple[optax.GradientTransformation, optax.GradientTransformation | None]:
    """The policy's and, where there is one, the value model's."""
    policy = make_optimizer(stage.optimizer, stage.updates)
    if stage.value is None:
        return policy, None
    rate = stage.value.learning_rate or stage.optimizer.learning_rate
    return policy, make_optimizer(stage.optimizer.model_copy(update={"learning_rate": rate}), stage.updates)


def mean_advantages(rollout: Rollout) -> np.ndarray:
    """Of each of this process's samples the mean over its tokens: in all but PPO the one that they share."""
    advantage_BT, length_B = to_local((rollout.advantage_BT, rollout.completions.length_B))
    return advantage_BT.sum(axis=1) / np.maximum(length_B, 1)


def minibatch_order(key: jax.Array, stage: GrpoStage) -> np.ndarray:
    """Which sequences of a rollout each update has, [minibatches, B]: shuffled, unless there is one update."""
    rows = stage.prompts_per_step * stage.group_size
    order = np.arange(rows) if stage.minibatches == 1 else np.asarray(jax.random.permutation(key, rows))
    return order.astype(np.int32).reshape(stage.minibatches, -1)


def layouts_of(run: Run, stage: GrpoStage, experience: Experience, order_NB: np.ndarray) -> list[Layout | None]:
    """How the sequences of the rollout and of each update lie in packed rows.

    None where each has a row of its own, and of the rollout where no model is run on it before the updates.
    """
    if stage.pack_length is None:
        return [None] * (1 + len(order_NB))
    length_B = sequence_lengths(run.mesh, experience, stage.group_size)

    def layout(length_B: np.ndarray) -> Layout:
        laid_out = lay_out(
            length_B,
            shards=row_shards(run.mesh),
            microbatches=microbatches_of(len(length_B), stage.microbatch, run.mesh),
            joined=run.batches.width["train"] + run.config.max_completion_length,
            width=stage.pack_length or 0,
        )
        return Layout(*(to_global(run.mesh, x[own_rows(run.mesh, len(x))], len(x)) for x in laid_out))

    # A layout that nothing reads would only be one more shape to compile.
    whole = layout(length_B) if needs_forwards(stage) else None
    return [whole, *(layout(length_B[chosen_B]) for chosen_B in order_NB)]


def rows_of(layout: Layout | None) -> str:
    """The name of a shape that is compiled."""
    return "" if layout is None else f"of {len(layout.source_RW)} rows"


def over_updates(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """A step's metrics: means over its updates, of maxima the largest, between sampler and trainer the first's.

    Later updates' differences are the policy's own. Updates without a token that counts are in `update_tokens` alone;
    where no update has any, there are no means over tokens.
    """
    learnt = [update for update in updates if update["update_tokens"] > 0]
    if not learnt:
        return {
            name: updates[0][name] for name in ("loss", "grad_norm", "param_norm", "learning_rate", "update_tokens")
        }
    metrics = {}
    for name, first in learnt[0].items():
        values = [update[name] for update in (updates if name == "update_tokens" else learnt)]
        metrics[name] = max(values) if name.endswith("/max") else sum(values) / len(values)
        if name.startswith("sampling/"):
            metrics[name] = first
    return metrics


def update_step(
    state: TrainState,
    rollout: Rollout,
    chosen_B: jax.Array,
    layout: Layout | None,
    index: jax.Array,
    drawn: jax.Array,
    *,
    model: Transformer,
    optimizer: optax.GradientTransformation,
    value_optimizer: optax.GradientTransformation | None = None,
    stage: GrpoStage,
    microbatches: int,
) -> tuple[TrainState, dict[str, Any]]:
    """Update `index` of a step, on the sequences `chosen_B` of a rollout, and its metrics.

    The last one counts the step, and the batches of prompts that were `drawn` for it.
    """
    if stage.minibatches > 1:
        rollout = jax.tree.map(lambda x: constrain(x[chosen_B], "BT_"[: x.ndim]), rollout)
    rollout = dataclasses.replace(rollout, completions=dataclasses.replace(rollout.completions, layout=layout))
    mask_BT = length_mask(rollout.completions.length_B, rollout.completions.completion_BT.shape[1])
    mask_BT = mask_BT * rollout.counted_B[:, None]
    batch = (rollout, reduction_weights(mask_BT, stage.loss.reduce), reduction_weights(mask_BT, "token_mean"))
    policy_and_value = state.params, None if state.value is None else state.value.params
    loss = functools.partial(loss_and_sums, model=model, stage=stage)
    (gradients, value_gradients), metrics = summed_gradients(loss, policy_and_value, batch, microbatches)
    schedule = learning_rate(stage.optimizer, stage.updates)
    metrics |= {"learning_rate": schedule(updates_made(state.opt_state)), "update_tokens": mask_BT.sum()}
    # Where no token counts, momentum and weight decay would still move the weights.
    when = mask_BT.any()
    if state.value is not None and value_optimizer is not None:
        value, norms = apply_gradients(state.value, value_gradients, value_optimizer, when=when)
        state = dataclasses.replace(state, value=value)
        metrics |= {f"value/{name}": norm for name, norm in norms.items()}
    state, norms = apply_gradients(state, gradients, optimizer, when=when)
    last = index == stage.minibatches - 1
    state = dataclasses.replace(state, step=state.step + last, drawn=state.drawn + last * drawn)
    return state, metrics | norms


def loss_and_sums(
    params: tuple[Any, Any], rows: tuple[Rollout, jax.Array, jax.Array], *, model: Transformer, stage: GrpoStage
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The part of the loss that some rows of a batch have, and of the metrics.

    `params` are the policy's and the value model's; the weights beside the rollout sum terms to the loss and to means
    over tokens.
    """
    (policy, value), (rollout, weight_BT, token_BT) = params, rows
    mask_BT = (token_BT > 0).astype(jnp.float32)
    logp_BT, entropy_BT = completion_log_probs(model, policy, rollout.completions, temperature=stage.temperature)
    entropy_BT = jnp.where(mask_BT > 0, entropy_BT, 0.0)
    policy_BT, ratio_BT = policy_terms(
        logp_BT,
        old_logp_BT=rollout.old_logp_BT,
        advantage_BT=rollout.advantage_BT,
        mask_BT=mask_BT,
        settings=stage.loss,
    )
    factor_BT = rollout.factor_BT
    if stage.off_policy_mask is not None:
        keep_BT = off_policy_mask(
            logp_BT, rollout.sampler_logp_BT, rollout.advantage_BT, mask_BT, threshold=stage.off_policy_mask
        )
        factor_BT = factor_BT * keep_BT
    terms_BT = policy_BT * factor_BT
    if stage.loss.entropy_coef > 0:  # the entropy's gradient takes a fifth of the head's time
        terms_BT -= stage.loss.entropy_coef * entropy_BT
    moved_BT = log_ratio(logp_BT, rollout.old_logp_BT, mask_BT)
    difference_BT = jnp.abs(log_ratio(logp_BT, rollout.sampler_logp_BT, mask_BT))
    per_token: dict[str, Any] = {
        "entropy": entropy_BT,
        "approx_kl": jnp.expm1(moved_BT) - moved_BT,
        LOGP_DIFFERENCE: difference_BT,
    }
    has_ratio = stage.loss.kind != "reinforce"
    if has_ratio:
        per_token["ratio/mean"] = ratio_BT
    if stage.loss.clip_low is not None:
        # A token without a policy term has nothing to clip.
        low_BT, high_BT = (
            side_BT & (factor_BT > 0) for side_BT in clipped_sides(ratio_BT, rollout.advantage_BT, stage.loss)
        )
        per_token |= {
            "clip_ratio/low_mean": low_BT,
            "clip_ratio/high_mean": high_BT,
            "clip_ratio/region_mean": low_BT | high_BT,
        }
    if stage.off_policy_mask is not None:
        per_token["off_policy_masked"] = 1 - keep_BT
    if rollout.reference_logp_BT is not None:
        kl_BT = kl_terms(
            logp_BT,
            rollout.reference_logp_BT,
            mask_BT,
            estimator=stage.kl.estimator,
            old_logp_BT=rollout.old_logp_BT,
        )
        per_token["kl"] = kl_BT
        if stage.kl.place == "loss":
            terms_BT += stage.kl.coef * kl_BT
    loss = jnp.sum(weight_BT * terms_BT)
    sums: dict[str, Any] = {name: jnp.sum(token_BT * x_BT) for name, x_BT in per_token.items()} | {
        "loss": loss,
        "sampling/sampling_logp_difference/max": jnp.max(difference_BT),
    }
    if has_ratio:
        sums["ratio/max"] = jnp.max(mask_BT * ratio_BT)
    if rollout.value_BT is not None and rollout.return_BT is not None and stage.value is not None:
        value_BT = value_terms(
            completion_values(model, value, rollout.completions),
            old_value_BT=rollout.value_BT,
            return_BT=rollout.return_BT,
            mask_BT=mask_BT,
            clip=stage.value.clip,
        )
        sums["value/loss"] = jnp.sum(token_BT * value_BT)
        loss += sums["value/loss"]
    return loss, sums


def check_sampler(metrics: dict[str, float], dtype: str, stage: str, step: int) -> None:
    """The start-up gate: sampler and trainer must give the same tokens the same log-probs."""
    difference = metrics[LOGP_DIFFERENCE]
    if not difference <= MAX_LOGP_DIFFERENCE[dtype]:
        raise FloatingPointError(
            f"stage {stage}, step {step}: sampler and trainer differ by {difference:.2g} in log-prob on average; at "
            f"most {MAX_LOGP_DIFFERENCE[dtype]} is expected in {dtype}, and training on the difference would be wrong"
        )
