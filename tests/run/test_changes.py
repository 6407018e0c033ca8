"""A run goes on with what it began with; what has saved nothing yet may change, and then it is as if it had been so."""

import json

import jax
import numpy as np
import pytest
from killed import train_until
from tiny import TINY

from r1jax.config.base import ConfigError
from r1jax.config.load import dump_config, load_config
from r1jax.programs.pipeline import train
from r1jax.run.changes import check_same_settings, find_changes
from r1jax.run.loading import load_model
from r1jax.run.metrics import read_metrics, without_timings
from r1jax.run.run import open_run

STUDENT = """  - name: student
    program: sft
    init_from: base
    model: {hidden_size: SIZE, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 8,
            num_key_value_heads: 8, head_dim: 2, family: llama, dtype: float32}
    steps: 2
    prompts_per_step: 8
    optimizer: {learning_rate: 1e-2}
"""
MORE = (
    "  - {name: more, program: sft, init_from: rl, steps: 1, prompts_per_step: 8, optimizer: {learning_rate: 1e-2}}\n"
)


@pytest.mark.slow
def test_only_what_is_not_computed_may_change(tiny, trained):
    config, folder = trained
    check_same_settings(folder, config.model_copy(update={"keep_checkpoints": 9, "wandb_project": "p"}))
    stages = [config.stages[0].model_copy(update={"steps": 4}), config.stages[1]]
    with pytest.raises(ConfigError, match=r"was started with stages\.cold_start\.steps=3, this config has .*=4"):
        check_same_settings(folder, config.model_copy(update={"stages": stages}))


def test_a_judge_may_move_and_not_change(tiny_file):
    def config(**settings):
        block = {"name": "judge", "url": "http://localhost:1/v1", "model": "m", **settings}
        return load_config(tiny_file, [f"rewards={json.dumps({'judge': block})}"])

    folder = tiny_file.parent / "run"
    (folder / "checkpoints" / "cold_start" / "3").mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(config()))
    check_same_settings(folder, config(url="http://localhost:2/v1", parallel=5, retries=0, api_key_env="KEY"))
    with pytest.raises(
        ConfigError, match=r"was started with stages\.cold_start\.rewards\.judge\.model=m, this config has .*=n"
    ):
        check_same_settings(folder, config(model="n"))


def begun(folder, *overrides, saved=("cold_start",)):
    """A run folder as it is once some stages have saved a checkpoint."""
    (folder / "tiny.yaml").write_text(TINY.format(folder=folder / "run"))
    for stage in saved:
        (folder / "run" / "checkpoints" / stage / "2").mkdir(parents=True)
    (folder / "run" / "checkpoints" / "rl").mkdir(parents=True, exist_ok=True)
    (folder / "run" / "config.yaml").write_text(dump_config(load_config(folder / "tiny.yaml", overrides)))
    return folder / "run", lambda *overrides: load_config(folder / "tiny.yaml", overrides)


ACCEPTED = {
    "a stage that saved nothing": (["stages.rl.steps=5", "stages.rl.group_size=8"], "steps 3 -> 5"),
    "its own length": (["stages.rl.max_completion_length=16"], "max_completion_length 32 -> 16"),
    "a top-level setting that only it has": (
        ["max_completion_length=16", "stages.cold_start.max_completion_length=32"],
        "max_completion_length 32 -> 16",
    ),
}
REFUSED = {
    "a stage that has saved something": (["stages.cold_start.prompts_per_step=8"], r".*prompts_per_step=16"),
    "what it takes from the top level": (["max_completion_length=16"], r"stages\.cold_start\.max_completion_length=32"),
    "the seed": (["seed=1"], "seed=0"),
    "the model": (["model.hidden_size=32"], r"model\.hidden_size=16"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_stages_that_saved_nothing_may_change(case, tmp_path):
    folder, config = begun(tmp_path)
    overrides, line = ACCEPTED[case]
    changes = check_same_settings(folder, config(*overrides))
    (said,) = changes.lines()
    assert said.startswith("settings of stage rl, which has saved nothing yet, changed: ") and line in said
    assert changes.begun == ("cold_start",)


@pytest.mark.parametrize("case", REFUSED)
def test_what_saved_stages_depend_on_may_not(case, tmp_path):
    folder, config = begun(tmp_path)
    overrides, message = REFUSED[case]
    with pytest.raises(ConfigError, match=f"was started with {message}"):
        check_same_settings(folder, config(*overrides))


@pytest.mark.parametrize(
    ("override", "accepted"),
    [
        ("stages.rl.steps=5", True),
        ("stages.rl.steps=2", True),
        ("stages.rl.steps=1", False),  # it has saved step 2
        ("stages.cold_start.steps=4", False),  # what rl began with
        ("stages.rl.optimizer.learning_rate=1e-4", False),
    ],
)
def test_the_last_stage_that_has_begun_may_have_other_steps(override, accepted, tmp_path):
    folder, config = begun(tmp_path, saved=("cold_start", "rl"))
    changes = find_changes(folder, config(override))
    assert (not changes.refused) == accepted
    if accepted:
        (line,) = changes.lines()
        assert line == f"settings of stage rl changed: steps 3 -> {override[-1]}"
    else:
        with pytest.raises(ConfigError, match="was started with " + override.partition("=")[0]):
            check_same_settings(folder, config(override))


def test_steps_that_the_learning_rate_depends_on_may_not_change(tmp_path):
    falling = "stages.rl.optimizer.schedule=linear"
    folder, config = begun(tmp_path, falling, saved=("cold_start", "rl"))
    with pytest.raises(ConfigError, match=r"steps may change only in the last stage .* its learning rate is constant"):
        check_same_settings(folder, config(falling, "stages.rl.steps=5"))


@pytest.mark.parametrize(("save_every", "accepted"), [(1, True), (2, False)])
def test_with_the_best_checkpoint_kept_the_last_step_is_one_that_is_saved_anyway(save_every, accepted, tmp_path):
    """A run that had begun with more steps would not have compared it."""
    best = ["stages.rl.keep=best", f"stages.rl.save_every={save_every}"]
    folder, config = begun(tmp_path, *best, saved=("cold_start", "rl"))
    (folder / "checkpoints" / "rl" / "3").mkdir()
    assert (not find_changes(folder, config(*best, "stages.rl.steps=5")).refused) == accepted


def test_steps_that_are_done_are_the_reason_for_no_fewer(tmp_path):
    folder, config = begun(tmp_path, saved=("cold_start", "rl"))
    with pytest.raises(
        ConfigError, match=r"stages\.rl\.steps=1, and 2 steps are done and saved; choose another folder"
    ):
        check_same_settings(folder, config("stages.rl.steps=1"))


def test_how_a_run_is_computed_evaluated_and_saved_may_change(tmp_path):
    folder, config = begun(tmp_path, saved=("cold_start", "rl"))
    overrides = ("microbatch=8", "eval_every=1", "save_every=1", "save_minutes=1", "evaluate.problems=3")
    changes = find_changes(folder, config("model.remat=full", *(f"stages.rl.{override}" for override in overrides)))
    assert not changes.refused
    best = "stages.rl.keep=best"
    (folder / "config.yaml").write_text(dump_config(config(best)))
    assert [*find_changes(folder, config(best, "stages.rl.evaluate.problems=3")).refused] == [
        "stages.rl.evaluate.problems"  # which says what is best
    ]


def test_stages_may_be_added_and_removed_after_those_that_saved_something(tmp_path):
    folder, config = begun(tmp_path)
    now = config()
    rl = now.stages[1]
    more = now.model_copy(update={"stages": [*now.stages, rl.model_copy(update={"name": "more"})]})
    assert [*find_changes(folder, more).lines()] == ["stage more, which has saved nothing yet, was added"]
    fewer = now.model_copy(update={"stages": now.stages[:1]})
    assert [*find_changes(folder, fewer).lines()] == ["stage rl, which has saved nothing yet, was removed"]
    first = now.model_copy(update={"stages": now.stages[::-1]})
    assert find_changes(folder, first).refused["stages"] == (["cold_start"], ["rl"])
    assert not find_changes(folder, now).refused and not find_changes(folder, now).accepted


def test_the_order_of_stages_that_saved_nothing_may_change(tmp_path):
    """The run's config.yaml has to say so too, or what the moved stage saves would not be known to be saved."""
    folder, config = begun(tmp_path)
    first, rl = config().stages
    more = first.model_copy(update={"name": "more"})
    ordered, moved = (config().model_copy(update={"stages": [first, *s]}) for s in ([rl, more], [more, rl]))
    (folder / "config.yaml").write_text(dump_config(ordered))
    changes = check_same_settings(folder, moved)
    assert [*changes.lines()] == ["the order of the stages changed: cold_start, rl, more -> cold_start, more, rl"]
    assert changes.accepted["stages"] == (["cold_start", "rl", "more"], ["cold_start", "more", "rl"])


PART = "{weight: 1, NAME task: {name: arithmetic, max_digits: DIGITS}}"


@pytest.mark.parametrize("names", [("", ""), ("name: a,", "name: b,")])
def test_every_part_of_a_saved_mixture_is_compared_and_so_is_their_order(names, tmp_path):
    parts = [PART.replace("NAME", name).replace("DIGITS", digits) for name, digits in zip(names, "12", strict=True)]
    other = [parts[0].replace("max_digits: 1", "max_digits: 2"), parts[1]]
    before, now, turned = (f"stages.cold_start.task={{mixture: [{', '.join(p)}]}}" for p in (parts, other, parts[::-1]))
    folder, config = begun(tmp_path, before)
    assert [*find_changes(folder, config(now)).refused] == ["stages.cold_start.task.mixture.0.task.max_digits"]
    assert "stages.cold_start.task.mixture.0.task.max_digits" in find_changes(folder, config(turned)).refused
    assert not find_changes(folder, config(before)).refused


def test_a_later_stage_may_not_change_the_data_of_a_saved_one(tmp_path):
    """Examples without a demonstration are left out where a stage of program sft has the same data."""
    folder, config = begun(tmp_path, saved=("cold_start", "rl"))
    last = config().stages[0].model_copy(update={"name": "last"})
    other = last.model_copy(update={"max_completion_length": 40})
    alone = config("stages.cold_start.max_completion_length=33").stages  # rl has data of its own
    for before, now, refused in (
        ([*alone, last], [*alone, other], ["stages.rl.task shared with sft"]),
        ([*alone, other], [*alone, other.model_copy(update={"steps": 9})], []),
    ):
        (folder / "config.yaml").write_text(dump_config(config().model_copy(update={"stages": before})))
        changes = find_changes(folder, config().model_copy(update={"stages": now}))
        assert [*changes.refused] == refused and changes.accepted


def test_test_problems_that_are_kept_out_of_all_data_may_not_change(tmp_path):
    task = "{jsonl: a.jsonl, test: b.jsonl}"
    for decontaminate, refused in (("[test]", ["stages.rl.task.question"]), ("[b.jsonl]", [])):
        folder = tmp_path / decontaminate
        folder.mkdir()
        settings = [f"decontaminate={decontaminate}", f"stages.rl.task={task}"]
        folder, config = begun(folder, *settings)
        assert [*find_changes(folder, config(*settings, "stages.rl.task.question=q")).refused] == refused


def test_what_stages_were_compared_by_may_not_change(tmp_path):
    folder, config = begun(tmp_path, saved=("cold_start", "rl"))
    override = "evaluate={problems: 5, samples: 2}"
    own = [f"stages.{stage}.evaluate={{problems: 12}}" for stage in ("cold_start", "rl")]
    assert not find_changes(folder, config(override, *own)).refused
    (folder / "comparison.json").write_text("{}")
    assert [*find_changes(folder, config(override, *own)).refused] == ["evaluate.problems"]


@pytest.mark.slow
def test_a_run_whose_later_stages_change_ends_as_if_it_had_begun_so(tmp_path, capsys):
    other = ["stages.rl.prompts_per_step=16", "stages.student.max_completion_length=40"]
    configs = {}
    for name in ("changed", "whole"):
        text = TINY.format(folder=tmp_path / name)
        (tmp_path / "first.yaml").write_text(text + STUDENT.replace("SIZE", "16"))
        (tmp_path / "now.yaml").write_text(text + STUDENT.replace("SIZE", "8") + MORE)
        configs[name] = load_config(tmp_path / "now.yaml", other)
    first = load_config(tmp_path / "first.yaml", [f"run_dir={tmp_path / 'changed'}"])
    now, whole = configs["changed"], configs["whole"]
    train_until(first, "rl", 1)
    capsys.readouterr()
    train(now)
    said = capsys.readouterr().out
    assert "settings of stage rl, which has saved nothing yet, changed: prompts_per_step 8 -> 16\n" in said
    assert (
        "settings of stage student, which has saved nothing yet, changed: max_completion_length 32 -> 40, mod" in said
    )
    assert "stage more, which has saved nothing yet, was added\n" in said
    assert load_config(tmp_path / "changed" / "config.yaml") == now
    train(whole)
    for stage in ("cold_start", "rl", "student", "more"):
        models = [load_model(config.run_dir, checkpoint=stage).model for config in (now, whole)]
        jax.tree.map(np.testing.assert_array_equal, *(model.weights for model in models))
    rows = [[without_timings(row) for row in read_metrics(tmp_path / name)] for name in ("changed", "whole")]
    assert rows[0] == rows[1]
    for folder in ("model", "model-student"):
        files = [sorted((tmp_path / name / folder).iterdir()) for name in ("changed", "whole")]
        assert [file.name for file in files[0]] == [file.name for file in files[1]]
        assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
    with pytest.raises(ConfigError, match=r"was started with stages\.rl\.prompts_per_step=16, this config has .*=8"):
        train(load_config(tmp_path / "changed" / "config.yaml", ["stages.rl.prompts_per_step=8"]))
    assert not [*(tmp_path / "changed").glob("*.tmp")]


def test_the_manifest_says_what_data_a_changed_stage_has(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY.format(folder=tmp_path / "run"))
    said = []
    for override in ("seed=0", "stages.rl.task={name: arithmetic, max_digits: 1}"):
        open_run(load_config(tmp_path / "tiny.yaml", [override])).close()
        said.append(json.loads((tmp_path / "run" / "manifest.json").read_text())["data_fingerprints"])
    assert said[0]["cold_start"] == said[1]["cold_start"] and said[0]["rl"] != said[1]["rl"]


def test_other_characters_than_those_of_the_saved_tokenizer_are_refused(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY.format(folder=tmp_path / "run"))
    train_until(load_config(tmp_path / "tiny.yaml"), "cold_start", 1)
    with pytest.raises(ConfigError, match=r"run_dir: the tokenizer in .* the characters of the tasks that the run was"):
        train(load_config(tmp_path / "tiny.yaml", ["stages.rl.task={name: countdown}", "max_prompt_length=20"]))
