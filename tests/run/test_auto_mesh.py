"""`mesh: auto` on 8 emulated devices whose memory is given, and on slices of several hosts that are not there."""

import jax
import pytest

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.config.training import MeshSettings
from r1jax.models import make_model
from r1jax.parallel.mesh import make_mesh
from r1jax.planning.plan import architecture
from r1jax.planning.slices import find_slice
from r1jax.run.auto_mesh import auto_mesh
from r1jax.run.run import build_run


def sizes(mesh):
    return tuple(mesh.shape[axis] for axis in ("data", "fsdp", "tensor"))


@pytest.fixture(scope="module")
def slices():
    pytest.importorskip("libtpu")
    return {name: find_slice(name) for name in ("v5e:2x4", "v5e:4x4", "v5e:8x8", "v5p:2x2x4", "v5p:4x4x8")}


def chosen(config, slices, topology, *overrides):
    config = load_config(f"configs/{config}.yaml", ["mesh=auto", *overrides])
    chip, devices = slices[topology]
    described = architecture(config.model)
    return auto_mesh(config, [make_model(described, described.vocab_size)], devices, chip.memory)


def test_memory_decides(tiny_file):
    """A device holds weights and state whole, in parts of fsdp, only in parts of tensor too, or never."""
    config = load_config(tiny_file, ["mesh=auto"])
    run = build_run(config)
    state, sampling = 20 * run.parameters, 4 * run.parameters  # the stage of RL has a reference
    keys = run.model.empty_cache(1, 1).k_LBKSH
    stage = config.stages[1]
    slots = stage.prompts_per_step * (stage.max_prompt_length + stage.group_size * stage.max_completion_length)
    cache = slots * 2 * keys.size * 4
    meshes = {}
    for name, memory in {
        "whole": max(4 * (state + sampling), (state + sampling + cache / 8) / 0.8),
        "fsdp": max((state / 8 + sampling) / 0.6, (state / 8 + sampling + cache / 8) / 0.8),
        "tensor": max((state / 8 + sampling / 2) / 0.6, (state / 8 + sampling / 2 + cache / 8) / 0.8),
    }.items():
        mesh, reason = auto_mesh(config, [run.model], jax.devices(), 1.001 * memory)
        meshes[name] = sizes(mesh)
        assert "training state and sampling weights take" in reason
    assert meshes == {"whole": (8, 1, 1), "fsdp": (1, 8, 1), "tensor": (1, 4, 2)}
    with pytest.raises(ConfigError, match=r"mesh: auto found no layout of 8 devices: the roomiest fills \d+% of a dev"):
        auto_mesh(config, [run.model], jax.devices(), state / 8)


def test_small_models_are_on_every_device_and_the_memory_is_this_machines(tiny_file, capsys):
    run = build_run(load_config(tiny_file, ["mesh=auto", "mesh.distributed=false"]))
    assert sizes(run.mesh) == (8, 1, 1)
    assert capsys.readouterr().out.startswith("mesh: auto is data=8; training state and sampling weights take 0% of")


def test_auto_is_for_training():
    with pytest.raises(ConfigError, match="mesh: auto is for training, whose batches and memory it looks at"):
        make_mesh(MeshSettings(auto=True))


def test_batches_that_the_devices_do_not_divide_are_split_over_fewer(tiny_file):
    few = ["stages.rl.prompts_per_step=4", "stages.rl.minibatches=1", "stages.cold_start.prompts_per_step=4"]
    assert sizes(build_run(load_config(tiny_file, ["mesh=auto", *few])).mesh) == (1, 4, 2)
    odd = ["mesh=auto", "stages.cold_start.prompts_per_step=3"]
    assert sizes(build_run(load_config(tiny_file, odd)).mesh) == (1, 1, 8)
    with pytest.raises(ConfigError, match="none divides the weights and the batches of every stage; give a prompts_"):
        build_run(load_config(tiny_file, [*odd, "model.num_attention_heads=3", "model.num_key_value_heads=3"]))


def test_hosts(slices):
    """`tensor` never leaves a host; `fsdp` spans hosts only where one's memory is too little."""
    assert sizes(chosen("r1_zero_qwen2.5-0.5b_gsm8k", slices, "v5e:2x4")[0]) == (2, 4, 1)  # hosts of 4 chips
    assert sizes(chosen("r1_zero_qwen2.5-1.5b_gsm8k", slices, "v5e:2x4")[0]) == (1, 8, 1)
    assert sizes(chosen("r1_zero_qwen2.5-7b_math", slices, "v5p:2x2x4")[0]) == (4, 4, 1)
    assert sizes(chosen("r1_zero_qwen2.5-7b_math", slices, "v5e:8x8")[0]) == (1, 32, 2)
    assert sizes(chosen("distill_llama3.3-70b", slices, "v5p:4x4x8")[0]) == (2, 16, 4)
    with pytest.raises(ConfigError, match=r"the roomiest fills 108% of a device's 15\.8 GiB"):
        chosen("r1_zero_qwen2.5-7b_math", slices, "v5e:4x4")


def test_axes_beside_auto_are_refused(tiny_file):
    with pytest.raises(ConfigError, match="mesh: auto: chooses all axes, and some are given"):
        load_config(tiny_file, ["mesh={auto: true, fsdp: 2}"])
