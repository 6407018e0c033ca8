"""Reward models: the loss by a float64 formula, any mesh and micro-batch, the kill test, the reward in a later stage.

Losses and gradients on meshes are computed in float32 on one batch, where the order of sums changes 1 part in 10^6.
"""

import contextlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from killed import train_killed

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.models import abstract_params, forward, init_params, init_value_params
from r1jax.parallel.mesh import to_global
from r1jax.programs.pipeline import train
from r1jax.programs.reward_model import JudgedBatch, judged_loss, padded_batch, pair_weights, update_step
from r1jax.run import checks
from r1jax.run.loading import load_model, reward_model
from r1jax.run.metrics import read_metrics, without_timings
from r1jax.run.run import build_run, open_run
from r1jax.training.checkpoint import Checkpoints
from r1jax.training.state import TrainState

PIPELINE = """
run_dir: {folder}/run
task: {{name: bilingual, domains: [general]}}
model: {{family: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 8,
         num_key_value_heads: 2, head_dim: 8, dtype: float32}}
max_prompt_length: 12
max_completion_length: 36
evaluate: {{problems: 8}}
stages:
  - {{name: cold_start, program: sft, steps: 20, prompts_per_step: 16, optimizer: {{learning_rate: 1e-2}}}}
  - {{name: helpful, program: reward_model, task: {{name: bilingual, domains: [general], pairs: balanced}}, steps: 4,
      prompts_per_step: 16, save_every: 1, evaluate: {{problems: 24}}, optimizer: {{learning_rate: 1e-2}}}}
  - {{name: rl, program: grpo, rewards: {{helpful: {{name: reward_model, stage: helpful, scale: 0.5}}, rule: 0.0}},
      steps: 2, prompts_per_step: 8, group_size: 2, save_every: 1, optimizer: {{learning_rate: 1e-3}}}}
"""


def config_of(folder, *overrides):
    (folder / "pipeline.yaml").write_text(PIPELINE.format(folder=folder))
    return load_config(folder / "pipeline.yaml", overrides)


WORDS = [f" {a} {b}" for a in ("dear", "please", "small", "big") for b in ("cat", "dog", "cow", "fox", "bear")]


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    config = config_of(tmp_path_factory.mktemp("left_alone"))
    train(config)
    return config


def weights_of(config, stage):
    with Checkpoints(Path(config.run_dir) / "checkpoints" / stage) as checkpoints:
        run = build_run(config)
        run.close()
        head = stage == "helpful"
        abstract = {"params": abstract_params(run.stage(stage).model, run.mesh, with_head=head)}
        return checkpoints.restore(checkpoints.latest(), abstract)["params"]


def log_sigmoid(x):
    return -np.logaddexp(0, -np.asarray(x, np.float64))


def test_loss_of_pairs_and_labels_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    score_PK, label_P = rng.normal(size=(9, 2)) * 3, np.arange(9) % 2
    (better, worse), center = score_PK.T, 0.1
    loss_P, right_P, margin_P = judged_loss(jnp.asarray(score_PK), jnp.ones(9), center)
    np.testing.assert_allclose(loss_P, -log_sigmoid(better - worse) + center * (better + worse) ** 2, rtol=1e-6)
    np.testing.assert_allclose(margin_P, better - worse, rtol=1e-6)
    assert right_P.tolist() == (better > worse).tolist()
    one_PK = score_PK[:, :1]
    loss_P, right_P, _ = judged_loss(jnp.asarray(one_PK), jnp.asarray(label_P), center)
    expected = [-log_sigmoid(s if label else -s) for (s,), label in zip(one_PK, label_P, strict=True)]
    np.testing.assert_allclose(loss_P, expected, rtol=1e-6)
    assert right_P.tolist() == [(s > 0) == bool(label) for (s,), label in zip(one_PK, label_P, strict=True)]


def test_balanced_weights():
    lengths = jnp.array([[5, 3], [4, 1], [9, 8], [2, 6], [7, 7]])
    assert pair_weights(lengths, balance_lengths=False).tolist() == pytest.approx([0.2] * 5)
    weight_P = np.asarray(pair_weights(lengths, balance_lengths=True)) * 5
    np.testing.assert_allclose(weight_P, [2 / 3, 2 / 3, 2 / 3, 2, 1], rtol=1e-6)
    assert pair_weights(lengths[:3], balance_lengths=True).tolist() == pytest.approx([1 / 3] * 3)  # of one kind alone
    assert pair_weights(lengths[:, :1], balance_lengths=True).tolist() == pytest.approx([0.2] * 5)  # labels


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "microbatch"),
    [({"data": 8}, None), ({"fsdp": 2, "data": 4}, 1), ({"tensor": 2, "data": 2, "context": 2}, 2)],
)
def test_any_mesh_and_microbatch_gives_the_same_update(tmp_path, mesh, microbatch):
    def updated(overrides):
        run = build_run(config_of(tmp_path, *overrides))
        with contextlib.closing(run), run.devices():
            stage = run.stage("helpful")
            params = init_value_params(init_params(run.model, jax.random.key(0)))
            # A head of zeros would pass no gradient to the rest.
            params["head_D"] = jax.random.normal(jax.random.key(1), params["head_D"].shape)
            optimizer = optax.sgd(1.0)
            state = TrainState(params, jnp.int32(0), optimizer.init(params))
            batch = padded_batch(stage.batches.judged("train", 0, np.arange(16)), stage.settings, 2)
            state, metrics = jax.jit(
                lambda state, batch: update_step(
                    state,
                    batch,
                    model=run.model,
                    optimizer=optimizer,
                    schedule=lambda step: 0.0,
                    stage=stage.settings,
                    microbatches=1 if microbatch is None else 16 // (microbatch * run.mesh.devices.size // 2),
                )
            )(state, to_global(run.mesh, batch, 16))
            return jax.device_get((state.params, metrics))

    one = updated(["mesh.data=1"]) if jax.device_count() == 1 else updated(["mesh.context=8", "mesh.data=1"])
    many = updated([f"mesh.{axis}={size}" for axis, size in ({"data": 1} | mesh).items()])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), many, one)
    assert 0 < one[1]["loss"] < 20


@pytest.mark.slow
def test_rewards_are_sigmoids_of_the_scores_at_the_last_token(left_alone):
    """Each text alone, by a forward and numpy; what it reads is the question and the completion as it is."""
    run = build_run(left_alone)
    with contextlib.closing(run), run.devices():
        stage, batches = run.stage("helpful"), run.stage("rl").batches
        reward = batches.task.rewards["helpful"]
        examples = [batches.example("test", i) for i in range(5)]
        texts = [
            "<think> sage</think><answer> Hund</answer>",
            " cat",
            "",
            "<think> cow",
            "<answer> dear</answer>",
        ]
        rewards = reward.batch(examples, texts)
        params = weights_of(left_alone, "helpful")
        assert float(jnp.abs(params["head_D"]).max()) > 0
        for example, text, found in zip(examples, texts, rewards, strict=True):
            if not text:
                assert found == (0.0, "no_summary")
                continue
            encode = run.tokenizer.encode
            ids = [*encode(example.prompt), *encode(text), run.tokenizer.stop_ids[0]]
            hidden_BTD, _ = forward(stage.model, params["model"], jnp.array([ids]))
            score = np.asarray(hidden_BTD, np.float64)[0, -1] @ np.asarray(params["head_D"], np.float64)
            assert found == pytest.approx(1 / (1 + np.exp(-score / 0.5)), rel=1e-4)
        assert reward.batch([], []) == []
        (long,) = reward.batch(examples[:1], [" cat" * 40])
        assert long == (None, "too_long_to_read")


def test_evaluation_counts_pairs_in_the_right_order(left_alone):
    rows = [row for row in read_metrics(Path(left_alone.run_dir)) if row["stage"] == "helpful"]
    (scores,) = [row for row in rows if "eval/accuracy" in row]
    run = build_run(left_alone)
    with contextlib.closing(run), run.devices():
        settings = run.stage("rl").settings.reward_definitions["helpful"]
        scorer = reward_model(run.folder, run.mesh, settings)._load()
        judged = run.stage("helpful").batches.judged("test", 0, np.arange(24))
        pairs = [[scorer([[*j.prompt, *response]])[0] for response in j.responses] for j in judged]
        assert scores["eval/accuracy"] == pytest.approx(np.mean([better > worse for better, worse in pairs]))
        own = [b > w for (b, w), j in zip(pairs, judged, strict=True) if len(j.responses[0]) > len(j.responses[1])]
        assert scores["eval/accuracy_where_better_is_longer"] == pytest.approx(np.mean(own))


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_in_the_same_bytes(left_alone, tmp_path):
    config = config_of(tmp_path)
    train_killed(config, ("helpful", 2), ("helpful", 4), ("rl", 1))
    for stage in ("helpful", "rl"):
        jax.tree.map(np.testing.assert_array_equal, weights_of(left_alone, stage), weights_of(config, stage))
    ours, theirs = (
        [row for row in map(without_timings, read_metrics(Path(c.run_dir))) if row["step"]]
        for c in (left_alone, config)
    )
    assert ours == theirs


def test_no_text_comes_from_a_reward_model(left_alone):
    with pytest.raises(ConfigError, match="stage helpful ends with no model that writes text"):
        load_model(left_alone.run_dir, checkpoint="helpful-4")
    assert load_model(left_alone.run_dir).name == "rl-2"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["stages.rl.init_from=helpful"],
            "of program reward_model and ends with no model",
        ),
        (
            ["stages.rl.rewards={helpful: {name: reward_model, stage: cold_start}}"],
            "'cold_start' is no earlier",
        ),
        (
            ["rewards={h: {name: reward_model, stage: helpful}}"],
            r"cold_start.rewards.h: 'helpful' is no earlier",
        ),
        (
            ["stages.rl.max_completion_length=37"],
            "the model of stage helpful reads 36 tokens",
        ),
        (["stages.rl.max_prompt_length=13"], "the model of stage helpful reads 12 tokens, and max_prompt_length is 13"),
        (["stages.helpful.pack_length=64"], "pack_length: the responses of a pair are not packed"),
        (["stages.helpful.task={name: bilingual, domains: [general]}"], "the task has no responses to"),
        (["stages.helpful.task={name: bilingual, pairs: balanced}"], "pairs: balanced are of general requests"),
        (["stages.helpful.max_prompt_length=4", "stages.rl.max_prompt_length=4"], "max_prompt_length allows 1 to 4"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        train(config_of(tmp_path, *overrides))
    assert not (tmp_path / "run").exists()


def test_questions_that_the_model_cannot_read_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    def refused(*_):
        raise ValueError("the task's questions are chat messages")

    monkeypatch.setattr(checks, "make_prompt", refused)
    with pytest.raises(ConfigError, match=r"rewards.helpful: the model of stage helpful cannot read a question"):
        train(config_of(tmp_path))
    assert not (tmp_path / "run").exists()


def test_labels_of_one_kind_are_refused_and_few_held_out_examples_are_named(tmp_path):
    def labels(kinds):
        rows = [
            {"question": " greet cat", "response": word, "label": kinds[i % len(kinds)]} for i, word in enumerate(WORDS)
        ]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = f"{{jsonl: {tmp_path}/rows.jsonl, test: {tmp_path}/rows.jsonl, response: response, label: label}}"
        return config_of(tmp_path, f"stages.helpful.task={task}", "stages.helpful.evaluate.problems=null")

    with pytest.raises(ConfigError, match=r"helpful.task: all labels of its first 64 examples are 1"):
        train(labels([1]))
    with pytest.warns(UserWarning, match="stages.helpful: only 20 examples are held out"):
        open_run(labels([1, 0])).close()


def test_padded_batch():
    class Stage:
        max_prompt_length, max_completion_length = 2, 3

    from r1jax.data.batches import Judged

    batch = padded_batch([Judged([1, 2], [[3, 4], [5]], 1), Judged([6], [[7], [8, 9, 10]], 1)], Stage, 2)
    assert isinstance(batch, JudgedBatch)
    assert batch.token_PKW.tolist() == [[[1, 2, 3, 4, 0], [1, 2, 5, 0, 0]], [[6, 7, 0, 0, 0], [6, 8, 9, 10, 0]]]
    assert batch.length_PK.tolist() == [[4, 3], [2, 4]] and batch.response_length_PK.tolist() == [[2, 1], [1, 3]]
