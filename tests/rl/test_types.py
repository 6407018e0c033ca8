"""Rollouts and training batches are pytrees whose leaves are all rows, so that any of them can be chosen."""

import dataclasses

import jax
import jax.numpy as jnp

from r1jax.rl.types import TrainBatch


def test_rows_are_chosen_from_every_leaf():
    batch = TrainBatch(jnp.zeros((4, 3)), jnp.arange(4), jnp.ones((4, 5)), jnp.full(4, 5), advantage_BT=jnp.eye(4, 5))
    chosen = jax.tree.map(lambda x: x[jnp.array([2, 0])], batch)
    assert chosen.prompt_length_B.tolist() == [2, 0] and chosen.advantage_BT.shape == (2, 5)
    assert chosen.support_BTI is None and chosen.old_logp_BT is None
    filled = dataclasses.replace(chosen, old_logp_BT=jnp.zeros((2, 5)))
    assert len(jax.tree.leaves(filled)) == len(jax.tree.leaves(chosen)) + 1
