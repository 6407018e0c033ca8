"""GRPO and its variants: sample groups, score them by rule, take advantages from the group, update, repeat.

DeepSeekMath 2402.03300 section 4.1, as DeepSeek-R1 2501.12948 uses it: by default the loss per token is the clipped
policy term plus kl.coef × k3 to the reference, averaged over each completion's tokens, then over completions (eq. 3).
A stage's settings make it DAPO, Dr. GRPO, GSPO, CISPO, RLOO, or with a value model PPO; their formulas are in
`rl.losses` and `rl.advantages`.

Letters: P prompts, G samples per prompt, B = P·G sequences, T completion positions, M packed rows of W positions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1jax.config.experiment import GrpoStage
from r1jax.data.packing import Layout
from r1jax.models import Model
from r1jax.parallel.jitted import Jitted, abstract
from r1jax.parallel.mesh import constrain, sharding, to_local
from r1jax.programs.steps import Steps
from r1jax.rewards.example import rewards_in
from r1jax.rewards.judge import Judge
from r1jax.rewards.monitor import RewardMonitor
from r1jax.rl import dynamic_sampling, rollout
from r1jax.rl.losses import length_mask, reduction_weights
from r1jax.rl.objective import LOGP_DIFFERENCE, loss_and_sums
from r1jax.rl.rollout import Collected, Sampling, packed_rows, sequence_lengths
from r1jax.rl.train_batch import needs_forwards, prepare
from r1jax.rl.types import Rollout, TrainBatch
from r1jax.run.run import Run, role_key
from r1jax.run.stages import StageRun
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.sampling.reward_model import RewardModel
from r1jax.training.optimizer import learning_rate, make_optimizer, updates_made
from r1jax.training.state import (
    TrainState,
    abstract_state,
    apply_gradients,
    microbatches_of,
    restore_or_init,
    summed_gradients,
    sync_reference,
)

# Mean |Δ log-prob| between sampler and trainer above which a run does not start.
MAX_LOGP_DIFFERENCE = {"float32": 1e-4, "bfloat16": 5e-2}


def train(run: Run, stage: StageRun, weights: Callable[[], Any]) -> Any:
    """Runs a stage from its last checkpoint, or from `weights()`; returns the trained weights."""
    trainer = Trainer(run, stage)
    with Steps(run, stage, trainer.inspect) as steps:
        state = restore_or_init(trainer.abstract, trainer.optimizers, steps.checkpoints, weights)
        for step in steps.remaining(state):
            collected = trainer.collect(state, step)
            steps.end_if_asked(step, state)
            order, layouts = trainer.minibatches(collected, step)
            batch, prepared = trainer.prepare(state, collected, layouts[0])
            updates = []
            for index, (rows_B, layout) in enumerate(zip(order, layouts[1:], strict=True)):
                state, metrics = trainer.update(state, batch, rows_B, layout, index, collected.batches)
                updates.append(metrics)
            state = trainer.sync_reference(state, step)
            metrics = functools.partial(step_metrics, prepared, collected.metrics, updates)
            steps.end(step, state, metrics, functools.partial(sample_rows, collected, batch))
        return steps.result(state)


class Trainer:
    """The parts of a step, in the order in which `train` calls them."""

    def __init__(self, run: Run, stage: StageRun) -> None:
        assert isinstance(stage.settings, GrpoStage)
        self.run, self.stage, self.settings = run, stage, stage.settings
        self.optimizers = optimizers(self.settings)
        self.functions = functions(run.loaded(stage, None), self.settings, stage.batches.width["train"])
        self.abstract: TrainState = self.functions["update"].arguments[0]
        rewards = {name: stage.batches.task.rewards[name] for name in self.settings.reward_weights}
        self.sampling = Sampling(run.mesh, run.tokenizer, self.functions["rollout"], rewards, run.timers)
        kinds = {name: [type(one) for one in rewards_in(reward)] for name, reward in rewards.items()}
        models = [name for name, own in kinds.items() if RewardModel in own or Judge in own]
        self._monitor = RewardMonitor(self.settings.reward_weights, models)
        self._checked = False

    def collect(self, state: TrainState, step: int) -> Collected:
        """Samples on the next training examples, graded."""
        run, settings = self.run, self.settings
        start = self.stage.first_example + int(state.batches_consumed) * settings.prompts_per_step
        sample = rollout.collect if settings.dynamic_sampling is None else dynamic_sampling.collect
        with run.guard(f"{settings.name} rollout"):
            weights = run.loaded(self.stage, state.params).sampling_weights()
            key = role_key(run.key, self.stage.number, step, "rollout")
            return sample(self.sampling, self.stage.batches, settings, weights, start, key)

    def minibatches(self, collected: Collected, step: int) -> tuple[np.ndarray, list[Layout | None]]:
        """Which sequences each update has, and how those of the rollout and of each update lie in packed rows.

        A layout is None where each sequence has a row of its own; the rollout's also where `prepare` runs no model on
        it, since one that nothing reads would only be one more shape to compile.
        """
        settings, mesh, batches = self.settings, self.run.mesh, self.stage.batches
        joined = batches.width["train"] + batches.max_completion_length
        with self.run.guard(f"{settings.name} minibatches"):
            order = minibatch_order(role_key(self.run.key, self.stage.number, step, "minibatches"), settings)
        if settings.pack_length is None:
            return order, [None] * (1 + len(order))
        # Outside of the guard: moving rows to other processes compiles for each number of them.
        length_B = sequence_lengths(collected.rollout)
        whole = packed_rows(mesh, length_B, settings, joined) if needs_forwards(settings) else None
        return order, [whole, *(packed_rows(mesh, length_B[rows_B], settings, joined) for rows_B in order)]

    def prepare(
        self, state: TrainState, collected: Collected, layout: Layout | None
    ) -> tuple[TrainBatch, dict[str, jax.Array]]:
        """What the updates train on, and the rollout's metrics."""
        with self.run.guard(f"{self.settings.name} prepare {rows_of(layout)}"), self.run.timers("prepare"):
            return jax.block_until_ready(self.functions["prepare"](state, collected.rollout, layout))

    def update(
        self, state: TrainState, batch: TrainBatch, rows_B: np.ndarray, layout: Layout | None, index: int, batches: int
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Update `index` of a step, on the sequences `rows_B`; the last update counts the step and its batches."""
        with self.run.guard(f"{self.settings.name} update {rows_of(layout)}"), self.run.timers("update"):
            return self.functions["update"](state, batch, rows_B, layout, jnp.int32(index), jnp.int32(batches))

    def sync_reference(self, state: TrainState, step: int) -> TrainState:
        """Makes the policy the new reference, where that is due after this step."""
        every = self.settings.kl.sync_reference_every
        due = every is not None and step % every == 0 and state.reference is not None
        return self.functions["sync_reference"](state) if due else state

    def inspect(self, step: int, metrics: Mapping[str, float]) -> None:
        """The start-up gate, once; and what the metrics say about rewards that teach nothing."""
        if not self._checked and metrics["update_tokens"] > 0:
            check_sampler(metrics, self.stage.model.config.dtype, self.settings.name, step)
            self._checked = True
        for line in self._monitor(metrics):
            self.run.print(line)


def functions(model: LoadedModel, stage: GrpoStage, prompt_width: int) -> dict[str, Jitted]:
    """The stage's jitted functions by name, with their abstract arguments: rollout, prepare, update, sync_reference.

    With packed rows, layouts have as many rows as there are sequences: no batch needs more.
    """
    mesh, (policy, value) = model.mesh, optimizers(stage)
    rows, everywhere = sharding(mesh, "B"), sharding(mesh, "")
    P, B = stage.prompts_per_step, stage.prompts_per_step * stage.group_size
    state = abstract_state(model.model, (policy, value), mesh, keep_reference=stage.kl.coef > 0)
    shardings = jax.tree.map(lambda x: x.sharding, state)

    def integers(*shape: int, where: Any = rows) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=where)

    def layout(sequences: int) -> Layout | None:
        if stage.pack_length is None:
            return None
        row = integers(sequences, stage.pack_length)
        return Layout(row, row, row, integers(sequences))

    sampler = dataclasses.replace(model, weights=state.params).rollout(
        stage, prompts=P, width=prompt_width, group_size=stage.group_size, max_new=stage.max_completion_length
    )
    prompts: tuple[Any, Any, Any] = sampler.arguments[1:4]  # pyright: ignore[reportAssignmentType]
    samples = abstract(jax.eval_shape(sampler.function, *sampler.arguments), rows)
    rewards: Any = dict.fromkeys(stage.reward_weights, jax.ShapeDtypeStruct((B,), jnp.float32, sharding=rows))
    applies: Any = dict.fromkeys(stage.reward_weights, jax.ShapeDtypeStruct((B,), jnp.bool, sharding=rows))
    included_P: Any = jax.ShapeDtypeStruct((P,), jnp.bool, sharding=rows)
    graded = Rollout(*prompts, samples, rewards, applies, included_P)

    def microbatches(sequences: int) -> int:
        return microbatches_of(sequences, stage.microbatch, mesh)

    # A group's prompt is computed once for its samples, where these are together in every forward of the stage. Along
    # `context` neither prompts nor completions alone have to divide.
    together = stage.pack_length is None and stage.minibatches == 1 and mesh.shape["context"] == 1
    whole_groups = together and (stage.microbatch or stage.group_size) % stage.group_size == 0
    group_size = stage.group_size if whole_groups else 1
    preparing = functools.partial(
        prepare, model=model.model, stage=stage, microbatches=microbatches(B), group_size=group_size
    )
    prepare_jit = jax.jit(preparing, out_shardings=(rows, everywhere))
    whole = layout(B) if needs_forwards(stage) else None
    batch = abstract(jax.eval_shape(preparing, state, graded, whole)[0], rows)
    minibatch = B // stage.minibatches
    updating = functools.partial(
        update_step,
        model=model.model,
        optimizer=policy,
        value_optimizer=value,
        stage=stage,
        microbatches=microbatches(minibatch),
        group_size=group_size,
    )
    numbers = integers(minibatch, where=everywhere), layout(minibatch), *[integers(where=everywhere)] * 2
    update_jit = jax.jit(updating, donate_argnums=0, out_shardings=(shardings, everywhere))
    sync_jit = jax.jit(sync_reference, donate_argnums=0, out_shardings=shardings)
    return {
        "rollout": sampler,
        "prepare": Jitted(prepare_jit, (state, graded, whole)),
        "update": Jitted(update_jit, (state, batch, *numbers)),
        "sync_reference": Jitted(sync_jit, (state,)),
    }


def optimizers(stage: GrpoStage) -> tuple[optax.GradientTransformation, optax.GradientTransformation | None]:
    """The optimizers of the policy and, where there is one, of the value model."""
    policy = make_optimizer(stage.optimizer, stage.updates)
    return policy, None if stage.value is None else policy


def minibatch_order(key: jax.Array, stage: GrpoStage) -> np.ndarray:
    """Which sequences of a rollout each update has, [minibatches, B]: shuffled, unless there is one update."""
    rows = stage.prompts_per_step * stage.group_size
    order = np.arange(rows) if stage.minibatches == 1 else np.asarray(jax.random.permutation(key, rows))
    return order.astype(np.int32).reshape(stage.minibatches, -1)


def rows_of(layout: Layout | None) -> str:
    """The part of a region's name that tells shapes apart, each of which is compiled."""
    return "" if layout is None else f"of {len(layout.source_MW)} rows"


def sample_rows(collected: Collected, batch: TrainBatch) -> list[dict[str, Any]]:
    """This process's samples for completions/; an advantage is the mean over the sample's tokens."""
    advantage_BT, length_B, included_B = to_local((batch.advantage_BT, batch.length_B, batch.included_B))
    return collected.transcript.rows(advantage=advantage_BT.sum(axis=1) / np.maximum(length_B, 1), in_loss=included_B)


def step_metrics(
    prepared: Mapping[str, Any], sampled: Mapping[str, Any], updates: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """A step's metrics: of its rollout and of its updates."""
    metrics = [{name: float(value) for name, value in part.items()} for part in (prepared, sampled, *updates)]
    return metrics[0] | metrics[1] | over_updates(metrics[2:])


def over_updates(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """A step's metrics from those of its updates: means, except that `…/max` are maxima and `sampling/…` the first's.

    The log-prob differences of later updates are the policy's own changes. Updates without a token in the loss count in
    `update_tokens` alone; where no update has any, there are no means over tokens.
    """
    learnt = [update for update in updates if update["update_tokens"] > 0]
    if not learnt:
        names = ("loss", "grad_norm", "param_norm", "learning_rate", "update_tokens")
        return {name: updates[0][name] for name in names}
    metrics = {}
    for name, first in learnt[0].items():
        values = [update[name] for update in (updates if name == "update_tokens" else learnt)]
        metrics[name] = max(values) if name.endswith("/max") else sum(values) / len(values)
        if name.startswith("sampling/"):
            metrics[name] = first
    return metrics


def update_step(
    state: TrainState,
    batch: TrainBatch,
    rows_B: jax.Array,
    layout: Layout | None,
    index: jax.Array,
    batches: jax.Array,
    *,
    model: Model,
    optimizer: optax.GradientTransformation,
    value_optimizer: optax.GradientTransformation | None = None,
    stage: GrpoStage,
    microbatches: int,
    group_size: int = 1,
) -> tuple[TrainState, dict[str, Any]]:
    """Update `index` of a step, on the sequences `rows_B` of a batch, and its metrics.

    The last update of a step counts the step, and the `batches` of prompts that it consumed. Each `group_size`
    sequences in turn have one prompt.
    """
    if stage.minibatches > 1:
        batch = jax.tree.map(lambda x: constrain(x[rows_B], "BT_"[: x.ndim]), batch)
    batch = dataclasses.replace(batch, layout=layout)
    mask_BT = length_mask(batch.length_B, batch.completion_BT.shape[1]) * batch.included_B[:, None]
    rows = (batch, reduction_weights(mask_BT, stage.loss.reduce), reduction_weights(mask_BT, "token_mean"))
    policy_and_value = state.params, None if state.value is None else state.value.params
    loss = functools.partial(loss_and_sums, model=model, stage=stage, group_size=group_size)
    (gradients, value_gradients), metrics = summed_gradients(loss, policy_and_value, rows, microbatches, group_size)
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
    state = dataclasses.replace(state, step=state.step + last, batches_consumed=state.batches_consumed + last * batches)
    return state, metrics | norms


def check_sampler(metrics: Mapping[str, float], dtype: str, stage: str, step: int) -> None:
    """The start-up gate: sampler and trainer must give the same tokens the same log-probs."""
    difference = metrics[LOGP_DIFFERENCE]
    if not difference <= MAX_LOGP_DIFFERENCE[dtype]:
        raise FloatingPointError(
            f"stage {stage}, step {step}: sampler and trainer differ by {difference:.2g} in log-prob on average; at "
            f"most {MAX_LOGP_DIFFERENCE[dtype]} is expected in {dtype}, and training on the difference would be wrong"
        )
