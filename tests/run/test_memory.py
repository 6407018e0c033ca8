"""What certainly does not fit a device is refused with the figures, which are those of a formula."""

import jax
import pytest

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.run import memory
from r1jax.run.memory import device_memory, memory_problem
from r1jax.run.run import build_run


def test_the_memory_of_a_cpu_device_is_its_share_of_the_machine(tiny_file):
    run = build_run(load_config(tiny_file))
    run.close()
    assert 1e8 < device_memory(run.mesh) * 8 < 1e14


def test_weights_and_cache_are_counted(tiny_file, monkeypatch):
    run = build_run(load_config(tiny_file, ["mesh={data: 2, tensor: 4}"]))
    run.close()
    cold_start, rl = run.stages
    # Keys and values, heads, head_dim, bytes; tokens of prompts and of samples; parts of sequences. Two heads are
    # repeated over four devices.
    cache = 2 * 2 * 4 * 4 * (8 * 6 + 8 * 4 * 32) // 2
    parts = [x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(run.initial_weights())]
    for stage, needed in ((cold_start, 4 * sum(parts)), (rl, 5 * sum(parts) + cache)):  # rl has a reference
        for limit, fits in ((needed, True), (needed - 1, False)):
            monkeypatch.setattr(memory, "device_memory", lambda mesh, limit=limit: limit)
            assert (memory_problem(stage, run.mesh) is None) == fits
    monkeypatch.setattr(memory, "device_memory", lambda mesh: 5 * sum(parts))
    assert memory_problem(rl, run.mesh).startswith("decode_batch: 0.0 GB of weights with gradients and")


def test_it_is_refused_before_anything_is_compiled(tiny_file, tmp_path):
    sizes = ["model.hidden_size=65536", "model.intermediate_size=262144", "model.num_hidden_layers=100"]
    with pytest.raises(
        ConfigError, match=r"stages\.cold_start\.model: .* GB of weights .* and a device has .* GB; give"
    ):
        build_run(load_config(tiny_file, sizes))
    assert not (tmp_path / "run").exists()
