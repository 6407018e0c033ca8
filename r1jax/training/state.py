"""Training state: one documented pytree, made as shapes → shardings → arrays, and the update that moves it.

abstract = abstract_state(model, optimizer, mesh, keep_reference=True)
state = restore_or_init(abstract, optimizer, checkpoints, weights)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from r1jax.models import Model, abstract_params, init_value_params
from r1jax.parallel.mesh import TRAIN_WEIGHTS, abstract_weights, row_shards
from r1jax.training.checkpoint import Checkpoints

Sums = dict[str, Any]  # metrics; those whose name ends in /max are maxima
Optimizers = tuple[optax.GradientTransformation, optax.GradientTransformation | None]  # the policy's, a value model's


@flax.struct.dataclass
class ValueState:
    """A value model's weights and its optimizer's state."""

    params: Any
    opt_state: Any


@flax.struct.dataclass
class TrainState:
    """`step` counts finished steps of the stage, `batches_consumed` the batches of prompts that they sampled from.

    `reference` are the weights that the KL is taken to, None where there is no KL; `value` is PPO's value model with
    its optimizer's state.
    """

    params: Any
    step: Any
    opt_state: Any
    reference: Any = None
    batches_consumed: Any = None
    value: ValueState | None = None

    def items(self) -> dict[str, Any]:
        """What a checkpoint keeps: the weights apart, because evaluation and the next stage want nothing else."""
        rest = {name: getattr(self, name) for name in ("step", "opt_state", "reference", "batches_consumed")}
        if self.value is not None:
            rest |= {"value_params": self.value.params, "value_opt_state": self.value.opt_state}
        return {"params": self.params, "training": {name: x for name, x in rest.items() if x is not None}}


def restore_or_init(
    abstract: TrainState, optimizers: Optimizers, checkpoints: Checkpoints, weights: Callable[[], Any]
) -> TrainState:
    """The state of the last checkpoint; where there is none, a state at step 0 around `weights()`."""
    latest = checkpoints.latest()
    if latest is None:
        return init_state(abstract, optimizers, weights())
    items = checkpoints.restore(latest, abstract.items())
    rest = dict(items["training"])
    value = ValueState(rest.pop("value_params"), rest.pop("value_opt_state")) if abstract.value else None
    return TrainState(params=items["params"], value=value, **rest)


def abstract_state(
    model: Model, optimizers: Optimizers, mesh: Mesh, *, keep_reference: bool = False, with_head: bool = False
) -> TrainState:
    """Shapes and shardings of the whole state. Optimizer moments lie like the weights they belong to."""
    params = abstract_params(model, mesh, with_head=with_head)
    shapes = jax.eval_shape(lambda params: _first_state(params, optimizers, keep_reference), params)
    return abstract_weights(mesh, shapes, TRAIN_WEIGHTS)


def init_state(abstract: TrainState, optimizers: Optimizers, params: Any) -> TrainState:
    """A state at step 0 around given weights, which also become the reference where one is kept."""
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    keep_reference = abstract.reference is not None
    return jax.jit(_first_state, static_argnums=(1, 2), out_shardings=shardings, donate_argnums=0)(
        params, optimizers, keep_reference
    )


def _first_state(params: Any, optimizers: Optimizers, keep_reference: bool) -> TrainState:
    optimizer, value_optimizer = optimizers
    reference = jax.tree.map(jnp.copy, params) if keep_reference else None
    value = None
    if value_optimizer is not None:
        value_params = init_value_params(params)
        value = ValueState(value_params, value_optimizer.init(value_params))
    zero = jnp.zeros((), jnp.int32)
    return TrainState(params, zero, optimizer.init(params), reference, zero, value)


def summed_gradients(
    loss: Callable[[Any, Any], tuple[jax.Array, Sums]], params: Any, batch: Any, microbatches: int, group_size: int = 1
) -> tuple[Any, Sums]:
    """Σ over micro-batches of the gradient of `loss` and of the sums it returns; of metrics named …/max the maximum.

    `loss(params, rows)` returns a sum that is already divided by counts over the whole batch, so the result does not
    depend on how the batch is split. Each `group_size` rows in turn stay together.
    """
    gradient = jax.grad(loss, has_aux=True)
    if microbatches == 1:
        return gradient(params, batch)
    split = _split(batch, microbatches, group_size)
    first = jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], split))

    def add(total: Any, rows: Any) -> tuple[Any, None]:
        (gradients, sums), (more, also) = total, gradient(params, rows)
        sums = {name: (jnp.maximum if name.endswith("/max") else jnp.add)(sums[name], also[name]) for name in sums}
        return (jax.tree.map(jnp.add, gradients, more), sums), None

    # Maxima are of what is not negative, so that they too begin at 0.
    return jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first), split)[0]


def in_microbatches(function: Callable[[Any], Any], batch: Any, microbatches: int, group_size: int = 1) -> Any:
    """`function` of a pytree of rows, some of them at a time; it returns arrays of as many rows.

    Each `group_size` rows in turn stay together.
    """
    if microbatches == 1:
        return function(batch)
    outputs = jax.lax.map(function, _split(batch, microbatches, group_size))

    def join(x: jax.Array) -> jax.Array:
        x = x.reshape(microbatches, -1, group_size, *x.shape[2:])
        return x.swapaxes(0, 1).reshape(-1, *x.shape[3:])

    return jax.tree.map(join, outputs)


def _split(batch: Any, microbatches: int, group_size: int) -> Any:
    # Group i goes to micro-batch i % microbatches, so that each one is spread over all devices.
    def split(x: jax.Array) -> jax.Array:
        groups = x.reshape(-1, microbatches, group_size, *x.shape[1:]).swapaxes(0, 1)
        return groups.reshape(microbatches, -1, *x.shape[1:])

    return jax.tree.map(split, batch)


def apply_gradients[State: (TrainState, ValueState)](
    state: State, gradients: Any, optimizer: optax.GradientTransformation, *, when: jax.Array | None = None
) -> tuple[State, Sums]:
    """One optimizer update, if `when` is true or None; returns the state and the norms of gradients and new weights."""

    def update(state: State) -> State:
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        return dataclasses.replace(state, params=optax.apply_updates(state.params, updates), opt_state=opt_state)

    state = update(state) if when is None else jax.lax.cond(when, update, lambda state: state, state)
    return state, {"grad_norm": optax.tree.norm(gradients), "param_norm": optax.tree.norm(state.params)}


def sync_reference(state: TrainState) -> TrainState:
    """The state with a copy of its weights as the new reference."""
    return dataclasses.replace(state, reference=jax.tree.map(jnp.copy, state.params))


def microbatches_of(rows: int, microbatch: int | None, mesh: Mesh) -> int:
    """How many micro-batches make a batch of `rows`, at `microbatch` sequences at once per device (None: all)."""
    return 1 if microbatch is None else rows // (microbatch * row_shards(mesh))
