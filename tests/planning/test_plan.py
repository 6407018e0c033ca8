import math
from types import SimpleNamespace

import jax
import pytest
from omegaconf import OmegaConf
from tiny import TINY

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config, parse_config
from r1jax.huggingface.config import model_config
from r1jax.models import abstract_params, make_model
from r1jax.models.flops import forward_flops
from r1jax.parallel.mesh import make_mesh
from r1jax.planning import plan as module
from r1jax.planning.estimate import Estimate, bytes_on_device, estimate_of
from r1jax.planning.plan import Plan, plan
from r1jax.planning.slices import find_slice
from r1jax.programs import grpo
from r1jax.run.memory import cache_bytes
from r1jax.sampling.loaded_model import LoadedModel

SMALL = ["stages.rl.steps=40", "stages.rl.eval_every=0", "max_completion_length=16", "mesh.data=1", "mesh.fsdp=4"]


def config_of(*overrides):
    return parse_config(OmegaConf.to_container(OmegaConf.create(TINY.format(folder="runs/none"))), [*SMALL, *overrides])


@pytest.fixture(scope="module")
def planned():
    return plan(config_of(), "v5e:2x2")


@pytest.mark.slow
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
    of_cast, of_update = (grpo.calls[name][1] for name in ("cast", "update"))
    assert of_cast.beside == state - own + 8  # all but the weights, and the numbers of steps and of batches
    assert of_update.beside == 0 and of_update.arguments > state  # which TPUs pad, where arrays are as small
    for _, sampler in (grpo.calls["rollout"], grpo.calls["evaluate"]):
        assert sampler.beside == state + 8
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


def test_weights_move_as_often_as_the_layout_requires_and_flops_are_the_models():
    """In an update at most once a pass and micro-batch, and for the log-probs of `prepare` once a micro-batch."""
    sizes = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 32, "num_hidden_layers": 3}
    more = ["model.dtype=bfloat16", "model.remat=full", "stages.rl.microbatch=4", "stages.rl.prompts_per_step=16"]
    config = config_of(*(f"model.{name}={size}" for name, size in sizes.items()), *more)
    stage, (chip, devices) = config.stages[1], find_slice("v5e:2x2")
    mesh, model = make_mesh(config.mesh, devices), make_model(model_config(config.model), 20)
    loaded = LoadedModel(model, SimpleNamespace(stop_ids=(0,), size=20), mesh, None)
    with loaded.devices():
        functions = grpo.functions(loaded, stage, 6)
        prepare, update = (estimate_of(functions[name], mesh, chip) for name in ("prepare", "update"))
    layers = 3 * 256 * ((2 * 8 + 2 * 2) * 32 + 3 * 512)
    once = layers * 2 * 3 / 4  # bytes that a chip sends of the others' weights, in bfloat16

    def sent(estimate, kind):
        return sum(sent for (one, _), (_, sent) in estimate.collectives.items() if kind in one)

    # 64 sequences, or 32 in an update, in parts of 4 on 4 chips. Of few layers XLA keeps what the forward gathered.
    assert 4 <= sent(prepare, "all-gather") / once < 4 * 1.05
    assert 2 <= sent(update, "all-gather") / once < 2 * 2 * 1.05
    assert 2 <= sent(update, "reduce") / once < 2 * 2 * 1.05  # gradients; an all-reduce sends them twice
    again = 4 / 3  # the backward pass computes a layer's forward once more
    model_flops = 3 * 32 * forward_flops(model.config, positions=22, predicted=16)
    assert update.flops * 4 == pytest.approx(again * model_flops, rel=0.15)


@pytest.mark.parametrize("batch", [2, 1])
def test_samples_that_wait_need_the_flops_of_those_that_do_not(batch):
    """And their loops run as often as full-length samples need. Small steps take nearly as long as large ones.

    One at a time, two prompts on a chip are prefilled in turn.
    """
    (chip, devices), estimates = find_slice("v5e:2x2"), []
    for overrides in ([], [f"stages.rl.decode_batch={batch}"]):
        config = config_of(*overrides)
        stage, mesh = config.stages[1], make_mesh(config.mesh, devices)
        model = make_model(model_config(config.model), 20)
        loaded = LoadedModel(model, SimpleNamespace(stop_ids=(0,), size=20), mesh, None)
        with loaded.devices():
            [call] = [call for call in module._calls(stage, loaded, None) if call.name == "rollout"]
            estimates.append(estimate_of(call.program, mesh, chip, open_loops=call.open_loops))
        slots = 8 * 6 + (4 * batch * 22 if overrides else 32 * 16)
        assert cache_bytes(stage, model, mesh) == 2 * 2 * 4 * 4 * slots / 4
    together, waiting = estimates
    assert waiting.flops == together.flops > 1e6
    rounds = 8 // batch
    assert rounds / 2 < waiting.computing / together.computing < 1.2 * rounds


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


DISTILLED = {"name": "learnt", "program": "distill", "steps": 2, "prompts_per_step": 8, "group_size": 2}
JUDGED = {"jsonl": "pairs.jsonl", "chosen": "better", "rejected": "worse"}


@pytest.mark.parametrize("top_k", [None, 4])
def test_a_teacher_is_in_memory_beside_what_its_student_does(top_k):
    """By the sizes of abstract arrays alone; nothing is compiled."""
    tree = OmegaConf.to_container(OmegaConf.create(TINY.format(folder="runs/none")))
    optimizer = {"learning_rate": 1e-3}
    tree["stages"] = [DISTILLED | {"teacher": "base", "teacher_top_k": top_k, "optimizer": optimizer}]
    config = parse_config(tree, ["mesh.data=1", "mesh.fsdp=4"])
    [stage], mesh = config.stages, make_mesh(config.mesh, find_slice("v5e:2x2")[1])
    model = make_model(model_config(config.model), 20)
    student = LoadedModel(model, SimpleNamespace(stop_ids=(0,), size=20), mesh, None)
    weights = bytes_on_device(abstract_params(model, mesh))
    with student.devices():
        calls = {call.name: call for call in module._calls(stage, student, module._teacher(config, stage, student))}
    assert [*calls] == ["load teacher", "cast", "rollout", "teacher", "update"]
    head = 64 * 16 * 4 / 4 if top_k is None else 0  # of a tied embedding
    beside = {name: bytes_on_device(call.beside) for name, call in calls.items()}
    assert beside["load teacher"] == 3 * weights + 16  # the student's state, with four counts
    assert beside["rollout"] == 4 * weights + 16 + head == beside["cast"] + weights
    assert beside["teacher"] == 3 * weights + 16 + head and beside["update"] == weights


def test_reward_models_stay_beside_every_program_of_a_stage(monkeypatch):
    """And a reject stage casts its weights once."""
    tree = OmegaConf.to_container(OmegaConf.create(TINY.format(folder="runs/none")))
    grpo = tree["stages"][1]
    optimizer = {"learning_rate": 1e-3}
    judge = {"name": "judge", "program": "reward_model", "steps": 2, "prompts_per_step": 8, "task": JUDGED}
    kept = {"name": "kept", "program": "reject", "steps": 2, "prompts_per_step": 8, "group_size": 2}
    judged = {"accuracy": 1.0, "liked": {"name": "reward_model", "stage": "judge"}}
    tree["stages"] = [judge | {"optimizer": optimizer}, grpo | {"rewards": judged}, kept]
    seen = {}

    def estimate(program, mesh, chip, *, beside, open_loops):
        seen.setdefault(id(program), bytes_on_device(beside))
        return Estimate(bytes_on_device(program.arguments), bytes_on_device(beside), 0.0, computing=1.0)

    monkeypatch.setattr(module, "estimate_of", estimate)
    config = parse_config(tree, ["mesh.data=1", "mesh.fsdp=4", "tokenizer=characters"])
    monkeypatch.setattr(module, "_new_vocabulary", lambda config: 20)
    judge, rl, kept = plan(config, "v5e:2x2").stages
    scorer = judge.state["weights"]
    plain = {"cast": rl.calls["cast"][1], "update": rl.calls["update"][1]}
    assert plain["update"].beside == scorer and scorer > rl.state["weights"]  # a head more
    assert rl.calls["rollout"][1].beside == scorer + sum(rl.state.values()) + 8
    assert {name: times for name, (times, _) in kept.calls.items()} == {"cast": 0, "rollout": 1}
    assert kept.step_seconds == 1.0 and kept.calls["rollout"][1].beside == kept.state["weights"]


@pytest.mark.parametrize("file", ["quickstart", "r1_tiny", "reward_hacking", "distill_on_policy"])
def test_the_alphabet_of_a_new_model_needs_no_weights(file):
    assert 10 < module._new_vocabulary(load_config(f"configs/{file}.yaml")) < 200
