"""Shardings of the state, micro-batches on each device, learning rates."""

import jax
from tiny import DIVISIBLE

from r1jax.config.training import MeshSettings, OptimizerSettings
from r1jax.models import make_model
from r1jax.parallel.mesh import make_mesh
from r1jax.training.optimizer import make_optimizer
from r1jax.training.state import abstract_state, microbatches_of


def test_microbatch_counts_sequences_on_each_device(mesh):
    assert microbatches_of(32, None, mesh) == 1
    assert microbatches_of(32, 2, mesh) == 2


def test_optimizer_moments_are_sharded_like_their_weights():
    mesh = make_mesh(MeshSettings(data=1, fsdp=4, tensor=2))
    optimizer = make_optimizer(OptimizerSettings(learning_rate=1e-3), 10)
    abstract = abstract_state(make_model(DIVISIBLE, 20), (optimizer, None), mesh)
    moments = [x for path, x in jax.tree.leaves_with_path(abstract.opt_state) if "embed_VD" in str(path)]
    assert len(moments) == 2
    assert all(m.sharding == abstract.params["embed_VD"].sharding for m in moments)
