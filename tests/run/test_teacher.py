"""A teacher is found before anything is compiled, or refused with the reason; and it is read onto a mesh of its own."""

import contextlib
import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest
from tiny import TINY

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config
from r1jax.parallel.mesh import TRAIN_WEIGHTS, weight_shardings
from r1jax.run.loading import load_model
from r1jax.run.run import build_run, open_run
from r1jax.run.teacher import _same_checkpoint, find_teacher, load_teacher

STUDENT = """  - name: student
    program: distill
    init_from: base
    teacher: TEACHER
    steps: 1
    prompts_per_step: 8
    optimizer: {learning_rate: 1e-2}
"""


def config_of(folder, teacher, *overrides, stages=True):
    text = TINY.format(folder=folder / "run")
    text = (text if stages else text[: text.index("  - name")]) + STUDENT.replace("TEACHER", str(teacher))
    (folder / "c.yaml").write_text(text)
    return load_config(folder / "c.yaml", overrides)


def refused(folder, teacher, *overrides, stages=False):
    with pytest.raises(ConfigError) as error:
        open_run(config_of(folder, teacher, *overrides, stages=stages))
    assert not (folder / "run").exists()
    return str(error.value)


@pytest.fixture
def folder_of(pretrained, tmp_path):
    """A copy of the pretrained folder, whose tokenizer has other tokens."""

    def make(change):
        folder = tmp_path / "teacher"
        shutil.copytree(pretrained, folder)
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        change(tokenizer["model"]["vocab"])
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        return folder

    return make


def test_a_stage_that_has_begun_keeps_the_checkpoint_of_its_teacher(trained, tmp_path):
    """Also where the teacher's run has trained on."""
    folder = tmp_path / "teacher"
    shutil.copytree(trained[1], folder)
    checkpoints = folder / "checkpoints" / "rl"
    config = config_of(tmp_path, folder)
    for begun, expected in ((False, "rl-3"), (False, "rl-4"), (True, "rl-4"), (True, None)):
        if expected == "rl-4" and not begun:
            shutil.copytree(checkpoints / "3", checkpoints / "4")
        if begun and expected:  # further checkpoints of the teacher
            shutil.copytree(checkpoints / "3", checkpoints / "5")
        if expected is None:
            shutil.rmtree(checkpoints / "4")
        with contextlib.closing(open_run(config)) as run:
            stage = run.stage("student")
            run = dataclasses.replace(run)
            object.__setattr__(run, "finished_steps", lambda _, begun=begun: 1 if begun else None)
            if expected:
                assert _same_checkpoint(run, stage, folder) == expected
            else:
                with pytest.raises(ConfigError, match="has no checkpoint 'rl-4'"):
                    _same_checkpoint(run, stage, folder)


def of_pretrained(pretrained):
    """The run has the tokenizer of the pretrained model, and a small model of its own."""
    return f"tokenizer={pretrained}"


def test_another_number_of_tokens_is_refused(pretrained, folder_of, tmp_path):
    folder = folder_of(lambda vocabulary: vocabulary.update({"ü": len(vocabulary)}))
    size = len(json.loads((pretrained / "tokenizer.json").read_text())["model"]["vocab"])
    message = refused(tmp_path, folder, of_pretrained(pretrained))
    assert message.startswith("stages.student.teacher: the tokenizer of ")
    assert f"has {size + 1} tokens and the run's {size}, and a divergence compares" in message
    assert "program: sft" in message


def test_as_many_other_tokens_are_refused(pretrained, folder_of, tmp_path):
    def change(vocabulary):
        vocabulary["ü"] = vocabulary.pop("~")

    message = refused(tmp_path, folder_of(change), of_pretrained(pretrained))
    number = json.loads((pretrained / "tokenizer.json").read_text())["model"]["vocab"]["~"]
    assert f"is another one: id {number} is 'ü' there and '~' here" in message


def test_a_student_of_other_tokens_is_refused(pretrained, folder_of, tmp_path):
    folder = folder_of(lambda vocabulary: vocabulary.update({"ü": vocabulary.pop("~")}))
    own = f"stages.student.model={{path: {folder}, dtype: float32}}"
    message = refused(tmp_path, "base", of_pretrained(pretrained), own)
    assert message.startswith("stages.student.model: the tokenizer of ") and "'ü' there and '~' here" in message


def test_a_run_with_another_alphabet_is_refused(trained, tmp_path):
    message = refused(tmp_path, trained[1], "task={name: countdown}", "max_prompt_length=20")
    assert message.startswith("stages.student.teacher: the tokenizer of ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{data: 3}", "teacher_mesh: mesh: data=3, .* needs 3 devices and there are 8"),
        ("{data: 1, tensor: 8}", "teacher: mesh: tensor=8 does not divide N=4"),
        ("{context: 4, data: 2}", "teacher_mesh: max_completion_length: 6 prompt positions .* over the 4 devices"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(settings, message, pretrained, tmp_path):
    got = refused(tmp_path, pretrained, of_pretrained(pretrained), f"stages.student.teacher_mesh={settings}")
    assert re.search(f"stages.student.{message}", got), got


def test_rows_that_the_teachers_mesh_does_not_divide_are_refused(tmp_path):
    wider = ["stages.student.prompts_per_step=4", "mesh={data: 4, tensor: 2}", "stages.student.teacher_mesh={data: 8}"]
    message = refused(tmp_path, "base", *wider)
    assert "stages.student.teacher_mesh: prompts_per_step: 4 prompts cannot be split over 8 devices" in message


def test_a_folder_without_a_model_is_refused(tmp_path):
    assert "stages.student.teacher: /nowhere is neither a folder" in refused(tmp_path, "/nowhere")


def test_a_teacher_with_more_rows_of_padding_is_taken(pretrained, tmp_path):
    """Embeddings of one family differ in their rows, as those of Qwen2.5 3B and 72B do; the tokenizer counts."""
    run = build_run(config_of(tmp_path, pretrained, of_pretrained(pretrained), stages=False))
    run.close()
    teacher = find_teacher(run, run.stage("student"))
    assert teacher.model.rows > run.model.rows - 64 and teacher.model.vocabulary == run.tokenizer.size
    assert teacher.model.config.vocab_size == run.tokenizer.size + 10
    assert teacher.model.config.dtype == run.model.config.dtype == "float32"


@pytest.mark.slow
def test_weights_are_those_of_where_they_come_from(trained, pretrained, tmp_path):
    """An earlier stage, the model before training, another run, a Hugging Face folder; on a mesh of its own."""
    _, folder = trained
    mesh = "stages.student.teacher_mesh={data: 2, fsdp: 2, tensor: 2}"
    shutil.copytree(folder, tmp_path / "run")
    expected = {"cold_start": load_model(str(folder), checkpoint="cold_start"), str(folder): load_model(str(folder))}
    for name in ("cold_start", "base", str(folder)):
        run = build_run(config_of(tmp_path, name, mesh))
        with contextlib.closing(run), run.devices():
            teacher = load_teacher(run, run.stage("student"))
            theirs = expected[name].model.weights if name in expected else run.initial_weights()
        jax.tree.map(np.testing.assert_array_equal, teacher.weights, jax.tree.map(np.asarray, theirs))
        shardings = weight_shardings(teacher.mesh, teacher.weights, TRAIN_WEIGHTS)
        assert teacher.mesh.shape["tensor"] == 2 and jax.tree.map(lambda w: w.sharding, teacher.weights) == shardings
    run = build_run(config_of(tmp_path, pretrained, of_pretrained(pretrained), stages=False))
    with contextlib.closing(run), run.devices():
        teacher = load_teacher(run, run.stage("student"))
    theirs = load_model(str(pretrained)).model.weights
    jax.tree.map(np.testing.assert_array_equal, teacher.weights, jax.tree.map(np.asarray, theirs))


def test_it_computes_in_the_students_type(tmp_path):
    run = build_run(config_of(tmp_path, "base", "model.dtype=bfloat16"))
    with contextlib.closing(run), run.devices():
        weights = load_teacher(run, run.stage("student")).weights
    assert weights["embed_VD"].dtype == "bfloat16" and weights["norm"]["scale_D"].dtype == "float32"


def test_earlier_stages_are_named_where_a_name_is_misspelt(tmp_path):
    message = refused(tmp_path, "cold_strat", stages=True)
    assert message.startswith("stages.student.teacher: cold_strat is neither a folder nor a hub id")
    assert message.endswith("; the earlier stages with a policy are cold_start, rl")
