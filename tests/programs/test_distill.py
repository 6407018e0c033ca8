"""On-policy distillation into a smaller model: it learns, resumes to the same bytes, and does the same on any mesh."""

import contextlib
import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from killed import train_killed

from r1jax.config.load import load_config
from r1jax.config.training import MeshSettings
from r1jax.export import export_model
from r1jax.parallel.compile_guard import CompileGuard
from r1jax.parallel.mesh import AXES, make_mesh
from r1jax.programs.distill import Trainer
from r1jax.programs.pipeline import train
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings
from r1jax.run.run import build_run
from r1jax.training.state import init_state

PIPELINE = """
run_dir: {folder}/run
task: {{name: arithmetic, min_digits: 1, max_digits: 1, direct_share: 1.0}}
model: {{family: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 8,
         num_key_value_heads: 2, head_dim: 8, dtype: float32}}
max_prompt_length: 6
max_completion_length: 12
evaluate: {{problems: 8}}
completions_every: 8
stages:
  - {{name: teacher, program: sft, steps: 40, prompts_per_step: 32, optimizer: {{learning_rate: 1e-2}}}}
  - name: student
    program: distill
    init_from: base
    teacher: teacher
    model: {{family: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 8,
             num_key_value_heads: 8, head_dim: 2, dtype: float32}}
    steps: 32
    prompts_per_step: 8
    group_size: 2
    optimizer: {{learning_rate: 2e-2}}
    eval_every: 16
    save_every: 8
"""


def config_of(folder, *overrides, text=PIPELINE):
    (folder / "pipeline.yaml").write_text(text.format(folder=folder))
    return load_config(folder / "pipeline.yaml", overrides)


def student_alone(folder, teacher, *settings):
    """Three steps of the student's stage by itself, with the teacher of another run."""
    folder.mkdir()
    text = PIPELINE[: PIPELINE.index("  - {{name: teacher")] + PIPELINE[PIPELINE.index("  - name: student") :]
    overrides = [f"stages.student.{setting}" for setting in (f"teacher={teacher}", "steps=3", *settings)]
    return config_of(folder, *overrides, text=text)


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    config = config_of(tmp_path_factory.mktemp("left_alone"))
    train(config)
    return config


def rows_of(config):
    return [row for row in read_metrics(Path(config.run_dir)) if row["stage"] == "student" and "loss" in row]


@pytest.mark.slow
def test_the_student_moves_towards_its_teacher(left_alone):
    rows = rows_of(left_alone)
    divergences = [row["kl"] for row in rows]
    assert np.mean(divergences[-4:]) < 0.4 * np.mean(divergences[:4])
    assert [row["loss"] for row in rows] == divergences
    assert all(row["compiles"] == 0 for row in rows[1:])
    names = {"entropy", "completions/mean_length", "rewards/accuracy/mean", "rewards/format/mean", "time/teacher"}
    assert names <= rows[0].keys()


def test_what_it_leaves_exports(left_alone, tmp_path):
    export_model(left_alone.run_dir, tmp_path / "out", dtype="float32", checkpoint="student")
    exported, student = load_model(str(tmp_path / "out")).model, load_model(left_alone.run_dir).model
    assert exported.model.config.hidden_size == student.model.config.hidden_size == 16
    rows = student.tokenizer.size
    for ours, theirs in zip(*map(jax.tree.leaves, (student.weights, exported.weights)), strict=True):
        np.testing.assert_array_equal(np.asarray(ours)[:rows], np.asarray(theirs)[:rows])


@pytest.mark.slow
def test_killed_at_any_step_it_resumes_to_the_same_bytes(left_alone, tmp_path):
    config = config_of(tmp_path)
    train_killed(config, *(("student", step) for step in (1, 13, 30)))
    rows = [[without_timings(row) for row in read_metrics(Path(c.run_dir))] for c in (left_alone, config)]
    assert rows[0] == rows[1]
    weights = [load_model(c.run_dir).model.weights for c in (left_alone, config)]
    jax.tree.map(np.testing.assert_array_equal, *weights)
    for file in (Path(left_alone.run_dir) / "completions").iterdir():
        assert (Path(config.run_dir) / "completions" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_packed_rows_micro_batches_and_top_k_of_all_tokens_train_alike(left_alone, tmp_path):
    """With the teacher of another run, which a stage that has finished does without."""
    teacher = tmp_path / "other"
    shutil.copytree(left_alone.run_dir, teacher)
    shutil.rmtree(teacher / "checkpoints" / "student")  # its last checkpoint is then that of the stage teacher
    how = ["pack_length=40", "microbatch=1", "teacher_top_k=99", "teacher_mesh={data: 4, fsdp: 2}"]
    plain, packed = (student_alone(tmp_path / name, teacher, *more) for name, more in (("plain", []), ("packed", how)))
    for config in (plain, packed):
        train(config)
    shutil.rmtree(teacher)
    train(plain)
    ours, theirs = rows_of(packed), rows_of(plain)
    assert [row["num_tokens"] for row in ours] == [row["num_tokens"] for row in theirs]
    np.testing.assert_allclose([row["kl"] for row in ours], [row["kl"] for row in theirs], rtol=1e-4)


MESHES = [
    ({"data": 8}, {"data": 1, "fsdp": 2, "tensor": 4}),
    ({"data": 2, "fsdp": 2, "tensor": 2}, {"data": 4, "context": 2}),
]


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [None, 4])
def test_a_teacher_on_another_mesh_gives_the_numbers_of_one_device(top_k, left_alone):
    """The same samples, metrics and gradients on two different meshes of 8 devices as with both models on one."""
    run = build_run(left_alone)
    one = jax.make_mesh((1,) * len(AXES), AXES, devices=jax.devices()[:1], axis_types=run.mesh.axis_types)
    meshes = [(make_mesh(MeshSettings(**ours)), MeshSettings(**theirs)) for ours, theirs in MESHES]
    with contextlib.closing(run):
        expected, *others = (step_on(run, mesh, theirs, top_k) for mesh, theirs in [(one, None), *meshes])
    for completions, metrics, moments in others:
        np.testing.assert_array_equal(completions, expected[0])
        for name, value in metrics.items():
            np.testing.assert_allclose(value, expected[1][name], rtol=1e-5, atol=1e-6, err_msg=name)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), moments, expected[2])


def step_on(run, mesh, teacher_mesh, top_k):
    """The samples of a first step, its metrics, and Adam's first moments, which are a tenth of the gradients."""
    run, stage = dataclasses.replace(run, mesh=mesh, guard=CompileGuard()), run.stage("student")
    settings = stage.settings.model_copy(update={"teacher_mesh": teacher_mesh, "teacher_top_k": top_k})
    stage = dataclasses.replace(stage, settings=settings)
    with contextlib.closing(run.guard), run.devices():
        trainer = Trainer(run, stage)
        assert teacher_mesh is None or trainer.teacher.mesh != mesh
        state = init_state(trainer.abstract, (trainer.optimizer, None), run.initial_weights(stage))
        rollout = trainer.collect(state, 1).rollout
        state, metrics = trainer.update(state, rollout, trainer.score(rollout))
    return jax.tree.map(np.asarray, (rollout.samples.completion_BT, metrics, optax.tree.get(state.opt_state, "mu")))
