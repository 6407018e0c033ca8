"""One supervised update against a float64 loop over examples: alone, packed in any way, in micro-batches, on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.config.training import MeshSettings
from r1jax.data.packing import first_fit, pack
from r1jax.models import forward, init_params, make_model, unembed
from r1jax.parallel.mesh import make_mesh, row_shards, to_global
from r1jax.programs.pipeline import train
from r1jax.programs.sft import packed_batch, update_step
from r1jax.run.metrics import read_metrics
from r1jax.run.run import open_run
from r1jax.training.state import TrainState

VOCABULARY = 20
# The first two fill a row of 16 to its end.
SIZES = [(4, 6), (2, 4), (1, 1), (5, 3), (3, 9), (1, 7), (6, 1), (2, 2)]
EXAMPLES = [
    tuple(np.random.default_rng((i, part)).integers(0, VOCABULARY, n).tolist() for part, n in enumerate(size))
    for i, size in enumerate(SIZES)
]
ALONE = [[i] for i in range(len(EXAMPLES))]
PACKED = first_fit([sum(size) for size in SIZES], 16)


@pytest.fixture(scope="module")
def setting(model_config):
    model = make_model(model_config, VOCABULARY)
    params = jax.jit(init_params, static_argnums=0)(model, jax.random.key(0))
    return model, TrainState(params, jnp.zeros((), jnp.int32), optax.sgd(1.0).init(params))


def update(setting, batch, microbatches=1):
    """Metrics and gradients (SGD at rate 1 subtracts them)."""
    model, state = setting
    step = jax.jit(
        lambda state, batch: update_step(
            state,
            batch,
            model=model,
            optimizer=optax.sgd(1.0),
            schedule=optax.constant_schedule(1.0),
            microbatches=microbatches,
        )
    )
    after, metrics = step(state, batch)
    gradients = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), state.params, after.params)
    return {name: float(value) for name, value in metrics.items()}, gradients


@pytest.fixture(scope="module")
def alone(setting):
    return update(setting, pack(EXAMPLES, ALONE, width=16, height=8))


def test_loss_equals_a_loop_over_examples(setting, alone):
    model, state = setting
    losses, entropies, hits = [], [], []
    for prompt, completion in EXAMPLES:
        tokens = np.array([prompt + completion], np.int32)
        logits_TV = np.asarray(unembed(model, state.params, forward(model, state.params, tokens)[0])[0], np.float64)
        logits_TV = logits_TV[:, :VOCABULARY]
        logp_TV = logits_TV - np.log(np.exp(logits_TV).sum(-1, keepdims=True))
        for i, token in enumerate(completion):
            row = logp_TV[len(prompt) + i - 1]
            losses.append(-row[token])
            entropies.append(-(np.exp(row) * row).sum())
            hits.append(row.argmax() == token)
    metrics, _ = alone
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], np.mean(entropies), rtol=1e-5)
    assert metrics["token_accuracy"] == pytest.approx(np.mean(hits)) and metrics["num_tokens"] == len(losses) == 33
    assert metrics["packing_fill"] == pytest.approx(sum(map(sum, SIZES)) / 128)


@pytest.mark.parametrize("microbatches", [1, 2, 4])
@pytest.mark.parametrize("rows", [PACKED, [[0, 1], [2, 3, 7], [4], [5, 6]]], ids=["first_fit", "by_hand"])
def test_packing_and_microbatches_change_nothing(rows, microbatches, setting, alone):
    assert len(rows) == 4
    metrics, gradients = update(setting, pack(EXAMPLES, rows, width=16, height=4), microbatches)
    np.testing.assert_allclose(metrics["loss"], alone[0]["loss"], rtol=1e-6)
    assert metrics["num_tokens"] == 33
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradients, alone[1])


def test_rows_without_an_example_count_nothing_on_a_mesh(setting, alone):
    mesh = make_mesh(MeshSettings(data=2, fsdp=2, context=2))
    with jax.set_mesh(mesh):
        batch = to_global(mesh, pack(EXAMPLES, PACKED, width=16, height=8), 8)
        metrics, gradients = update(setting, batch)
    np.testing.assert_allclose(metrics["loss"], alone[0]["loss"], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradients, alone[1])


def packed(file, *overrides):
    return load_config(file, ["stages.cold_start.pack_length=76", *overrides])


def test_a_packed_stage_trains_as_an_unpacked_one(trained, tiny_file):
    """The same examples step by step, and nothing compiled after the first step."""
    run = train(packed(tiny_file, "stages.rl.steps=1"))
    ours, theirs = (
        [r for r in read_metrics(folder) if r["stage"] == "cold_start" and "loss" in r]
        for folder in (run.folder, trained[1])
    )
    assert [r["num_tokens"] for r in ours] == [r["num_tokens"] for r in theirs]
    np.testing.assert_allclose([r["loss"] for r in ours], [r["loss"] for r in theirs], rtol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "heights"),
    [([], {8}), (["stages.cold_start.microbatch=2"], {16}), (["mesh.data=2", "mesh.tensor=4"], {4, 6})],
)
def test_heights_fit_the_mesh(overrides, heights, tiny_file):
    run = open_run(packed(tiny_file, *overrides))
    stage = run.stages[0]
    seen = {len(packed_batch(run.mesh, stage.batches, stage.settings, 16 * step).token_MW) for step in range(4)}
    run.close()
    assert seen == heights and all(h % row_shards(run.mesh) == 0 for h in heights)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stages.cold_start.pack_length=20"], r"cold_start.pack_length: rows of 20 .* 6 \+ 32; need at least 38"),
        (["stages.cold_start.pack_length=75", "mesh.data=4", "mesh.context=2"], r"rows of 75 .* 2 devices"),
        (["stages.rl.pack_length=20"], r"stages.rl.pack_length: rows of 20"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_are_refused(overrides, message, tiny_file):
    with pytest.raises(ConfigError, match=message):
        open_run(load_config(tiny_file, overrides))
    assert not (tiny_file.parent / "run").exists()
