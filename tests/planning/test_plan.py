import math
from types import SimpleNamespace

import jax
import pytest
from omegaconf import OmegaConf
from tiny import TINY

from r1jax.config.base import ConfigError
from r1jax.config.load import parse_config
from r1jax.huggingface.config import model_config
from r1jax.models import abstract_params, make_model
from r1jax.parallel.mesh import make_mesh
from r1jax.planning import plan as module
from r1jax.planning.plan import Plan, plan

SMALL = ["stages.rl.steps=40", "stages.rl.eval_every=0", "max_completion_length=16", "mesh.data=1", "mesh.fsdp=4"]


def config_of(*overrides):
    return parse_config(OmegaConf.to_container(OmegaConf.create(TINY.format(folder="runs/none"))), [*SMALL, *overrides])


@pytest.fixture(scope="module")
def planned():
    return plan(config_of(), "v5e:2x2")


def test_every_program_of_every_stage_is_there(planned):
    sft, grpo = planned.stages
    assert {name: times for name, (times, _) in sft.calls.items()} == {"update": 1, "evaluate": 1}
    calls = {"cast": 1, "rollout": 1, "prepare": 1, "update": 2, "evaluate": 1}
    assert {name: times for name, (times, _) in grpo.calls.items()} == calls
    assert all(e.seconds > 0 and e.peak > 0 and e.fits for s in planned.stages for _, e in s.calls.values())
    # 12 problems of 2 samples, before and after, and 32 sequences of the largest stage at once
    assert grpo.evaluations == sft.evaluations == 2


def test_memory_is_that_of_the_state_and_of_the_programs(planned):
    config = config_of()
    sft, grpo = planned.stages
    model = make_model(model_config(config.model), 20)
    weights = jax.tree.leaves(abstract_params(model, planned.mesh))
    own = sum(math.prod(x.sharding.shard_shape(x.shape)) * 4 for x in weights)
    assert sft.state["weights"] == grpo.state["weights"] == grpo.state["reference"] == own
    assert sft.state["optimizer"] == pytest.approx(2 * own, abs=16)  # moments, and a count
    state = sum(grpo.state.values())
    for name, (_, estimate) in grpo.calls.items():
        assert state <= estimate.arguments + estimate.beside < state + 2**20, name
    assert grpo.peak == max(e.peak for _, e in grpo.calls.values()) and planned.fits
    # layers × (keys and values) × 2 heads × 4 numbers of 4 bytes, of 8 prompts and 32 completions on 4 chips
    assert grpo.cache == 1 * 2 * 2 * 4 * 4 * (8 * 6 + 32 * 16) / 4


def test_time_and_hours_are_sums(planned):
    grpo = planned.stages[1]
    seconds = {name: e.seconds for name, (_, e) in grpo.calls.items()}
    step = seconds["cast"] + seconds["rollout"] + seconds["prepare"] + 2 * seconds["update"]
    assert grpo.step_seconds == pytest.approx(step)
    assert grpo.hours == pytest.approx((40 * step + 2 * seconds["evaluate"]) / 3600)
    assert grpo.mfu is not None and 0 < grpo.mfu < 1


def test_a_model_that_is_too_large_does_not_fit():
    sizes = {"hidden_size": 8192, "intermediate_size": 32_768, "num_hidden_layers": 100, "head_dim": 128}
    sizes |= {"num_attention_heads": 64, "num_key_value_heads": 8}
    overrides = [f"model.{name}={size}" for name, size in sizes.items()]
    config = config_of(*overrides)
    config = config.model_copy(update={"stages": config.stages[:1]})
    large = plan(config, "v5e:2x2")
    update = large.stages[0].calls["update"][1]
    assert not large.fits and not update.fits and large.stages[0].mfu is None
    weights = 100 * 8192 * (2 * 64 * 128 + 2 * 8 * 128 + 3 * 32_768) * 4
    assert 3 * weights / 4 < update.arguments < 1.01 * 3 * weights / 4  # with Adam's moments, over 4 chips


def test_numbers_that_the_mesh_does_not_divide_are_refused_before_anything_is_compiled():
    with pytest.raises(ConfigError, match=r"stages.cold_start.prompts_per_step: 6 .* multiple of 4"):
        plan(config_of("stages.cold_start.prompts_per_step=6"), "v5e:2x2")
    with pytest.raises(ConfigError, match="needs 8 devices and there are 4"):
        plan(config_of("mesh.tensor=2"), "v5e:2x2")


def test_a_sweep_ranks_what_fits_and_says_what_is_refused(monkeypatch):
    """The plans themselves are those of `plan`, which here takes no time."""
    planned = []

    def quick(config, topology, progress):
        progress("update")
        if config.mesh.tensor == 8:
            raise ConfigError("mesh: tensor=8 does not divide it")
        stages = [SimpleNamespace(fits=config.mesh.tensor != 1, hours=config.mesh.fsdp)]
        planned.append(config.mesh)
        return Plan(topology, None, make_mesh(config.mesh), 1, stages, 1.0)

    monkeypatch.setattr(module, "plan", quick)
    said = []
    plans, refused = module.sweep(config_of(), "v5e:2x4", progress=said.append)
    assert [one.axes for one in plans] == ["fsdp=2 tensor=4", "fsdp=4 tensor=2", "fsdp=8"]
    assert refused == ["fsdp=1 tensor=8: mesh: tensor=8 does not divide it"]
    assert said[0] == "fsdp=8 tensor=1, update"
