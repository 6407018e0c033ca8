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

from r1jax.checkpoint import Checkpoints
from r1jax.mesh import TRAIN_WEIGHTS, row_shards, sharding, weight_shardings
from r1jax.models.dense import Transformer

Sums = dict[str, Any]


@flax.struct.dataclass
class TrainState:
    """`step` counts finished steps of the stage; `reference` are the weights KL is taken to, None where it is off."""

    params: Any
    step: Any
    opt_state: Any
    reference: Any

    def items(self) -> dict[str, Any]:
        """What a checkpoint keeps: the weights apart, because evaluation and the next stage want nothing else."""
        training = {"step": self.step, "opt_state": self.opt_state}
        return {"params": self.params, "training": training | ({"reference": self.reference} if self.reference else {})}


def restore_or_init(
    abstract: TrainState,
    optimizer: optax.GradientTransformation,
    checkpoints: Checkpoints,
    weights: Callable[[], Any],
) -> TrainState:
    """The state of the last checkpoint; where there is none, a state at step 0 around `weights()`."""
    latest = checkpoints.latest()
    if latest is None:
        return init_state(abstract, optimizer, weights())
    items = checkpoints.restore(latest, abstract.items())
    return TrainState(params=items["params"], **({"reference": None} | items["training"]))


def init_params(model: Transformer, key: jax.Array) -> Any:
    """Random weights, float32; run under jit with out_shardings so that none is ever whole on one device."""
    return model.init(key, jnp.zeros((1, 1), jnp.int32))["params"]


def abstract_params(model: Transformer, mesh: Mesh) -> Any:
    """Shapes and training shardings of the weights; raises ConfigError where the mesh does not fit them."""
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    return _placed(shapes, weight_shardings(mesh, shapes, TRAIN_WEIGHTS))


def abstract_state(
    model: Transformer, optimizer: optax.GradientTransformation, mesh: Mesh, *, keep_reference: bool
) -> TrainState:
    """Shapes and shardings of the whole state. Optimizer moments lie like the weights they belong to."""
    params = abstract_params(model, mesh)
    everywhere = sharding(mesh, "")
    opt_state = optax.tree.map_params(
        optimizer,
        lambda shape, weight: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=weight.sharding),
        jax.eval_shape(optimizer.init, params),
        params,
        transform_non_params=lambda shape: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=everywhere),
    )
    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    return TrainState(params, step, opt_state, params if keep_reference else None)


def init_state(abstract: TrainState, optimizer: optax.GradientTransformation, params: Any) -> TrainState:
    """A state at step 0 around given weights, which also become the reference where one is kept."""

    def make(params: Any) -> TrainState:
        reference = None if abstract.reference is None else jax.tree.map(jnp.copy, params)
        return TrainState(params, jnp.zeros((), jnp.int32), optimizer.init(params), reference)

    return jax.jit(make, out_shardings=jax.tree.map(lambda x: x.sharding, abstract), donate_argnums=0)(params)


def summed_gradients(
    loss: Callable[[Any, Any], tuple[jax.Array, Sums]], params: Any, batch: Any, microbatches: int
) -> tuple[Any, Sums]:
    """Σ over micro-batches of the gradient of `loss` and of the sums it returns.

    `loss(params, rows)` returns a sum that is already divided by counts over the whole batch, so the result does not
    depend on how the batch is split.
    """
    gradient = jax.grad(loss, has_aux=True)
    if microbatches == 1:
        return gradient(params, batch)
    # Row r goes to micro-batch r % microbatches, so that each one is spread over all devices.
    split = jax.tree.map(lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1), batch)
    first = jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], split))

    def add(total: Any, rows: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, gradient(params, rows)), None

    return jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first), split)[0]


def apply_gradients(
    state: TrainState, gradients: Any, optimizer: optax.GradientTransformation
) -> tuple[TrainState, Sums]:
    """One optimizer update; returns the state (its step unchanged) and the norms of gradients and new weights."""
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    norms = {"grad_norm": optax.tree.norm(gradients), "param_norm": optax.tree.norm(params)}
    return dataclasses.replace(state, params=params, opt_state=opt_state), norms


def microbatches_of(rows: int, microbatch: int | None, mesh: Mesh) -> int:
    """How many micro-batches make a batch of `rows`, at `microbatch` sequences at once per device (None: all)."""
    return 1 if microbatch is None else rows // (microbatch * row_shards(mesh))


def _placed(shapes: Any, shardings: Any) -> Any:
    return jax.tree.map(lambda s, where: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes, shardings)
