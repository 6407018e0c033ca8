"""A run's stages share data where it is the same, begin where the last one ended, and say where weights come from."""

import contextlib

import jax
import numpy as np
import pytest

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config, parse_config, settings_tree
from r1jax.config.tasks import JsonlTask
from r1jax.run.run import build_run, open_run, role_key


@pytest.fixture
def built(tiny_file):
    with contextlib.ExitStack() as stack:

        def build(*overrides):
            run = build_run(load_config(tiny_file, overrides))
            stack.callback(run.close)
            return run

        yield build


def test_stages_with_the_same_data_share_it(built):
    cold_start, rl = built().stages
    assert rl.batches is cold_start.batches and rl.first_example == cold_start.settings.most_prompts
    cold_start, rl = built("stages.rl.prompt={template: '{question}='}").stages
    assert rl.batches is not cold_start.batches and rl.batches.task is cold_start.batches.task
    assert rl.first_example == cold_start.settings.most_prompts
    defined = "rewards={repeated: {name: repetition}, short: {name: overlong, cache: 4}}"
    cold_start, rl = built(defined, "stages.rl.rewards={accuracy: 1.0, short: 0.5, repeated: 0.5}").stages
    assert rl.batches is cold_start.batches  # in whatever order a stage weighs them
    cold_start, rl = built("stages.rl.task={name: countdown}", "stages.rl.max_prompt_length=12").stages
    assert rl.batches.task is not cold_start.batches.task and rl.first_example == 0


def test_the_alphabet_is_that_of_all_stages(built):
    run = built("stages.rl.task={name: countdown}", "stages.rl.max_prompt_length=12")
    for stage in run.stages:
        text = stage.batches.example("train", 0).demonstration
        assert run.tokenizer.decode(run.tokenizer.encode(text)) == text


def test_a_run_folder_of_other_settings_lends_neither_model_nor_tokenizer(trained, tmp_path):
    """Its copies are for resuming: in memory a changed config gets what it asks for, and training is refused."""
    config, _ = trained
    same = build_run(config)
    same.close()
    (tmp_path / "rows.jsonl").write_text('{"question": "what?", "answer": "1", "completion": "2"}\n' * 16)
    task = JsonlTask(jsonl=str(tmp_path / "rows.jsonl"), test=str(tmp_path / "rows.jsonl"), completion="completion")
    changed = parse_config(settings_tree(config) | {"task": task.model_dump()}, ["model.intermediate_size=64"])
    run = build_run(changed)
    run.close()
    assert run.model.config.intermediate_size == 64 != same.model.config.intermediate_size
    assert run.tokenizer.decode(run.tokenizer.encode("what?")) == "what?"
    with pytest.raises(ConfigError, match=r"was started with .*choose another folder with run_dir"):
        open_run(changed)


def test_where_weights_come_from(built):
    run = built()
    assert [run.config.source(name) for name in ("cold_start", "rl")] == ["base", "cold_start"]
    run = built("stages.rl.init_from=base")
    assert [run.config.source(name) for name in ("cold_start", "rl")] == ["base", "base"]
    with run.devices():
        weights = [run.stage_weights(stage) for stage in run.stages]
    jax.tree.map(np.testing.assert_array_equal, *weights)


def test_keys_differ_by_stage_step_and_role():
    root = jax.random.key(0)
    keys = [role_key(root, *of) for of in ((0, 1, "rollout"), (1, 1, "rollout"), (0, 2, "rollout"), (0, 1, "evaluate"))]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 4
