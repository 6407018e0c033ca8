"""One supervised update against a float64 loop over examples: alone, packed in any way, in micro-batches, on a mesh."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from byte_tokenizer import CHATML, byte_tokenizer

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.config.training import MeshSettings
from r1jax.data.packing import Demonstration, first_fit, pack
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
    Demonstration(
        *(np.random.default_rng((i, part)).integers(0, VOCABULARY, n).tolist() for part, n in enumerate(size))
    )
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
    for prompt, completion, _ in EXAMPLES:
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


@pytest.mark.slow
def test_a_conversation_trains_as_its_turns_do(setting):
    """Three turns of one sequence, and each of them as a completion of all that comes before."""
    tokens = np.random.default_rng(7).integers(0, VOCABULARY, 14).tolist()
    turns = [(2, 5), (7, 8), (11, 14)]
    conversation = Demonstration(tokens[:11], tokens[11:], turns[:2])
    alone = [Demonstration(tokens[:begin], tokens[begin:end]) for begin, end in turns]
    whole, gradients = update(setting, pack([conversation], [[0]], width=16, height=1))
    parts, expected = update(setting, pack(alone, [[0], [1], [2]], width=16, height=3))
    assert whole["num_tokens"] == parts["num_tokens"] == 7
    np.testing.assert_allclose(whole["loss"], parts["loss"], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradients, expected)


@pytest.mark.slow
@pytest.mark.parametrize("microbatches", [1, 2])
def test_packed_conversations_train_as_they_do_alone(microbatches, setting):
    """Conversations of one, two and three turns that share rows, against a row for each."""
    draw = np.random.default_rng(11)
    sizes = [(11, 3, [(2, 5), (7, 8)]), (6, 2, [(1, 3)]), (3, 4, []), (8, 5, [(2, 6)])]
    talks = [
        Demonstration(draw.integers(0, VOCABULARY, p).tolist(), draw.integers(0, VOCABULARY, c).tolist(), earlier)
        for p, c, earlier in sizes
    ]
    alone, expected = update(setting, pack(talks, [[0], [1], [2], [3]], width=24, height=4), microbatches)
    packed, gradients = update(setting, pack(talks, [[0, 1], [2, 3]], width=24, height=2), microbatches)
    assert packed["num_tokens"] == alone["num_tokens"] == 3 + 2 + 4 + 5 + (3 + 1) + 2 + 4
    np.testing.assert_allclose(packed["loss"], alone["loss"], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradients, expected)


@pytest.mark.slow
@pytest.mark.parametrize("pack_length", [None, 200])
def test_conversations_without_golds_are_trained_and_evaluated(pack_length, tiny_file, tmp_path):
    byte_tokenizer(tmp_path / "tokenizer", CHATML)
    rows = []
    for i in range(80):
        said = [("user", f"{i}?"), ("assistant", "yes"), ("user", f"{i}!"), ("assistant", "no" * (1 + i % 3))]
        rows.append({"messages": [{"role": role, "content": content} for role, content in said]})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        f"task={{jsonl: {tmp_path}/rows.jsonl, messages: messages}}",
        f"tokenizer={tmp_path}/tokenizer",
        "prompt.chat=true",
        "max_prompt_length=160",
    ]
    config = load_config(tiny_file, [*settings, "stages.rl.rewards={format: 1}", "stages.rl.steps=1"])
    stages = [config.stages[0].model_copy(update={"pack_length": pack_length})]
    run = train(config.model_copy(update={"stages": stages}))
    rows = read_metrics(run.folder)
    losses, scores = [r for r in rows if "loss" in r], [r for r in rows if "eval/format" in r]
    # "yes" and "no", "nono" or "nonono", each with its stop token, of 16 conversations
    assert [r["num_tokens"] for r in losses] == [pytest.approx(16 * (4 + 5), abs=16)] * 3
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert scores and all(r["eval/frac_reward_none"] == 1 and "eval/accuracy" not in r for r in scores)


def packed(file, *overrides):
    return load_config(file, ["stages.cold_start.pack_length=76", *overrides])


@pytest.mark.slow
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
