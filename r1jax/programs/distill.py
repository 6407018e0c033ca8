"""On-policy distillation: the student samples, the teacher scores the same tokens, and the student moves towards it.

A stage's `init_from` and `model` are the student's; `teacher` is an earlier stage or a folder, on a mesh of its own.
The loss and its formulas are in `rl.distillation`. Distillation on a teacher's samples, as for R1's small models, is
`program: sft` on these.

Letters: P prompts, G samples per prompt, B = P·G sequences, M packed rows of W positions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from r1jax.config.experiment import DistillStage
from r1jax.data.packing import Layout
from r1jax.models import Model, abstract_params, head
from r1jax.parallel.jitted import Jitted, abstract
from r1jax.parallel.mesh import TRAIN_WEIGHTS, abstract_weights, move_rows, sharding, weight_shardings
from r1jax.programs.grpo import check_sampler, rows_of
from r1jax.programs.steps import Steps
from r1jax.rl.distillation import Scores, loss_and_sums, teacher_scores
from r1jax.rl.losses import length_mask, reduction_weights
from r1jax.rl.rollout import Collected, Sampling, collect, packed_rows, sequence_lengths
from r1jax.rl.train_batch import joined, rollout_metrics
from r1jax.rl.types import Rollout
from r1jax.run.run import Run, role_key
from r1jax.run.stages import StageRun
from r1jax.run.teacher import load_teacher
from r1jax.sampling.loaded_model import LoadedModel
from r1jax.training.optimizer import learning_rate, make_optimizer
from r1jax.training.state import (
    TrainState,
    abstract_state,
    apply_gradients,
    in_microbatches,
    microbatches_of,
    restore_or_init,
    summed_gradients,
)


def train(run: Run, stage: StageRun, weights: Callable[[], Any]) -> Any:
    """Runs a stage from its last checkpoint, or from `weights()`; returns the trained weights."""
    trainer = Trainer(run, stage)
    with Steps(run, stage, trainer.inspect) as steps:
        state = restore_or_init(trainer.abstract, (trainer.optimizer, None), steps.checkpoints, weights)
        for step in steps.remaining(state):
            collected = trainer.collect(state, step)
            steps.end_if_asked(step, state)
            scores = trainer.score(collected.rollout)
            state, metrics = trainer.update(state, collected.rollout, scores)
            steps.end(step, state, functools.partial(dict, metrics, **collected.metrics), collected.transcript.rows)
        return steps.result(state)


class Trainer:
    """The parts of a step, in the order in which `train` calls them."""

    def __init__(self, run: Run, stage: StageRun) -> None:
        assert isinstance(stage.settings, DistillStage)
        self.run, self.stage, self.settings = run, stage, stage.settings
        self.optimizer = make_optimizer(self.settings.optimizer, self.settings.updates)
        self.abstract = abstract_state(stage.model, (self.optimizer, None), run.mesh)
        rewards = stage.batches.task.rewards
        self.rewards = {name: rewards[name] for name in self.settings.reward_weights} or rewards
        self._checked = False

    @functools.cached_property
    def teacher(self) -> LoadedModel:
        """Read when a step first needs it: a finished stage goes without."""
        return load_teacher(self.run, self.stage)

    @functools.cached_property
    def functions(self) -> dict[str, Jitted]:
        """The stage's jitted functions."""
        student, width = self.run.loaded(self.stage, None), self.stage.batches.width["train"]
        return functions(student, self.teacher, self.settings, width, list(self.rewards))

    @functools.cached_property
    def teacher_head(self) -> Any:
        """What makes logits of the teacher's hidden states, on the student's mesh; with `teacher_top_k` nothing."""
        if self.settings.teacher_top_k is not None:
            return None
        weights = head(self.teacher.weights)
        return jax.device_put(weights, weight_shardings(self.run.mesh, weights, TRAIN_WEIGHTS))

    def collect(self, state: TrainState, step: int) -> Collected:
        """The student's samples on the next training examples, graded."""
        run, settings = self.run, self.settings
        sampling = Sampling(run.mesh, run.tokenizer, self.functions["rollout"], self.rewards, run.timers)
        start = self.stage.first_example + (step - 1) * settings.prompts_per_step
        with run.guard(f"{settings.name} rollout"):
            weights = run.loaded(self.stage, state.params).sampling_weights()
            key = role_key(run.key, self.stage.number, step, "rollout")
            return collect(sampling, self.stage.batches, settings, weights, start, key)

    def score(self, rollout: Rollout) -> Scores:
        """The teacher's scores of a rollout, computed on its mesh and brought to the student's."""
        run, teacher = self.run, self.teacher
        layout = self._layout(rollout, teacher.mesh)
        with teacher.devices(), run.guard(f"{self.settings.name} teacher {rows_of(layout)}"), run.timers("teacher"):
            scores = self.functions["teacher"](teacher.weights, move_rows(rollout, teacher.mesh), layout)
            return jax.block_until_ready(move_rows(scores, run.mesh))

    def update(self, state: TrainState, rollout: Rollout, scores: Scores) -> tuple[TrainState, dict[str, jax.Array]]:
        """The step's update."""
        layout = self._layout(rollout, self.run.mesh)
        with self.run.guard(f"{self.settings.name} update {rows_of(layout)}"), self.run.timers("update"):
            return self.functions["update"](state, rollout, scores, self.teacher_head, layout)

    def _layout(self, rollout: Rollout, mesh: Mesh) -> Layout | None:
        """How the rollout's sequences lie in packed rows on the mesh of student or teacher; None without packing."""
        if self.settings.pack_length is None:
            return None
        length_B, batches = sequence_lengths(rollout), self.stage.batches
        joined = batches.width["train"] + batches.max_completion_length
        return packed_rows(mesh, length_B, self.settings, joined)

    def inspect(self, step: int, metrics: Mapping[str, float]) -> None:
        """The start-up gate, once."""
        if not self._checked:
            check_sampler(metrics, self.stage.model.config.dtype, self.settings.name, step)
            self._checked = True


def functions(
    model: LoadedModel, teacher: LoadedModel, stage: DistillStage, prompt_width: int, rewards: Sequence[str]
) -> dict[str, Jitted]:
    """The stage's jitted functions by name, with their abstract arguments: rollout, teacher, update.

    `teacher` is called on the teacher's mesh, the others on the student's. `rewards` are the names of those to log.
    """
    P, B = stage.prompts_per_step, stage.prompts_per_step * stage.group_size
    optimizer = make_optimizer(stage.optimizer, stage.updates)
    state = abstract_state(model.model, (optimizer, None), model.mesh)
    rows, everywhere = sharding(model.mesh, "B"), sharding(model.mesh, "")
    theirs = sharding(teacher.mesh, "B")

    def integers(*shape: int, where: Any = rows) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=where)

    def layout(where: Any) -> Layout | None:
        if stage.pack_length is None:
            return None
        row = integers(B, stage.pack_length, where=where)
        return Layout(row, row, row, integers(B, where=where))

    sampler = dataclasses.replace(model, weights=state.params).rollout(
        stage, prompts=P, width=prompt_width, group_size=stage.group_size, max_new=stage.max_completion_length
    )
    prompts: tuple[Any, Any, Any] = sampler.arguments[1:4]  # pyright: ignore[reportAssignmentType]
    samples = abstract(jax.eval_shape(sampler.function, *sampler.arguments), rows)
    included_P: Any = jax.ShapeDtypeStruct((P,), jnp.bool, sharding=rows)
    scored: Any = dict.fromkeys(rewards, jax.ShapeDtypeStruct((B,), jnp.float32, sharding=rows))
    applies: Any = dict.fromkeys(rewards, jax.ShapeDtypeStruct((B,), jnp.bool, sharding=rows))
    graded = Rollout(*prompts, samples, scored, applies, included_P)

    def score(weights: Any, rollout: Rollout, layout: Layout | None) -> Scores:
        batch = dataclasses.replace(joined(rollout, stage.group_size), layout=layout)
        scoring = functools.partial(teacher_scores, teacher.model, weights, stage=stage)
        return in_microbatches(scoring, batch, microbatches_of(B, stage.microbatch, teacher.mesh))

    abstract_teacher = dataclasses.replace(teacher, weights=abstract_params(teacher.model, teacher.mesh))
    weights = abstract_teacher.abstract_sampling_weights(TRAIN_WEIGHTS)
    score_arguments = (weights, abstract(graded, theirs), layout(theirs))
    with teacher.devices():
        scores = abstract(jax.eval_shape(score, *score_arguments), rows)
    top = None if stage.teacher_top_k else abstract_weights(model.mesh, head(weights), TRAIN_WEIGHTS)

    def update(
        state: TrainState, rollout: Rollout, scores: Scores, head: Any, layout: Layout | None
    ) -> tuple[TrainState, dict[str, Any]]:
        return update_step(
            state,
            rollout,
            scores,
            head,
            layout,
            model=model.model,
            teacher=teacher.model,
            optimizer=optimizer,
            stage=stage,
            microbatches=microbatches_of(B, stage.microbatch, model.mesh),
        )

    shardings = jax.tree.map(lambda x: x.sharding, state)
    return {
        "rollout": sampler,
        "teacher": Jitted(jax.jit(score, out_shardings=theirs), score_arguments),
        "update": Jitted(
            jax.jit(update, donate_argnums=0, out_shardings=(shardings, everywhere)),
            (state, graded, scores, top, layout(rows)),
        ),
    }


def update_step(
    state: TrainState,
    rollout: Rollout,
    scores: Scores,
    head: Any,
    layout: Layout | None,
    *,
    model: Model,
    teacher: Model,
    optimizer: optax.GradientTransformation,
    stage: DistillStage,
    microbatches: int,
) -> tuple[TrainState, dict[str, Any]]:
    """One update on a rollout that the teacher has scored, and its metrics."""
    batch = dataclasses.replace(joined(rollout, stage.group_size), layout=layout)
    token_BT = reduction_weights(length_mask(batch.length_B, batch.completion_BT.shape[1]), "token_mean")

    def loss(params: Any, rows: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        return loss_and_sums(params, rows, head, model=model, teacher=teacher, stage=stage)

    gradients, metrics = summed_gradients(loss, state.params, (batch, scores, token_BT), microbatches)
    metrics |= {"learning_rate": learning_rate(stage.optimizer, stage.updates)(state.step)}
    state, norms = apply_gradients(state, gradients, optimizer)
    return dataclasses.replace(state, step=state.step + 1), metrics | norms | rollout_metrics(rollout)
