"""README and docs/ are right: examples run, links and files exist, commands and options exist, config blocks load."""

import re
import tomllib
from pathlib import Path

import pytest
import typer.main
import yaml
from omegaconf import OmegaConf

from r1jax.cli import app
from r1jax.config.experiment import Config, GrpoStage, SftStage
from r1jax.config.load import parse_config

ROOT = Path(__file__).parent.parent
PAGES = {
    str(file.relative_to(ROOT)): file.read_text()
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
OURS = ("configs", "docs", "scripts", "tests", "notebooks", "assets", "r1jax")  # folders whose files have to exist
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STAGE = {
    "name": "rl",
    "program": "grpo",
    "steps": 10,
    "prompts_per_step": 16,
    "group_size": 4,
    "rewards": {"accuracy": 1.0},
    "optimizer": {"learning_rate": 1e-6},
}
CONFIG = {
    "run_dir": "runs/docs",
    "task": {"name": "arithmetic"},
    "model": {"path": "somewhere"},
    "max_prompt_length": 512,
    "max_completion_length": 1024,
}


def blocks(text, language):
    return [body for kind, body in FENCE.findall(text) if kind == language]


def anchors(text):
    """The ids that Markdown gives to headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.slow
def test_examples_of_the_python_api_run(tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    text, names = PAGES["docs/api.md"], {}
    examples = blocks(text, "python")
    assert len(examples) > 8
    for example in examples:
        line = text[: text.index(example)].count("\n")
        exec(compile("\n" * line + example, ROOT / "docs" / "api.md", "exec"), names)


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    import r1jax

    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    train = r1jax.train
    smaller = [  # as small as in docs/api.md, whose compiled functions are in the cache
        "model.hidden_size=32",
        "model.num_hidden_layers=1",
        "evaluate.problems=8",
        "stages.cold_start.steps=1",
        "stages.cold_start.optimizer.warmup_updates=0",
        "stages.rl.steps=1",
        "stages.rl.prompts_per_step=8",
        "stages.rl.optimizer.warmup_updates=0",
    ]

    def train_less(config, *, overrides, **arguments):
        return train(config, overrides=[*overrides, *smaller], **arguments)

    monkeypatch.setattr(r1jax, "train", train_less, raising=False)
    (example,) = (body for body in blocks(PAGES["README.md"], "python") if "import r1jax" in body)
    names = {}
    exec(example, names)
    assert "rewards/brief/mean" in names["run"].metrics.columns and Path("curves.png").is_file()


def test_reward_functions_of_the_page_work():
    from r1jax.rewards.example import Completion, Example
    from r1jax.rewards.function import in_process_function

    names = {}
    for example in blocks(PAGES["docs/rewards.md"], "python"):
        exec(example, names)
    brief, trl = (in_process_function(names[name], columns=[]) for name in ("brief", "brief_trl"))
    completion = Completion("It is 4.", length=60, truncated=False)
    assert brief(Example("2+2?", "4"), completion) == 0.5
    assert trl(Example("2+2?", "4"), completion) == 1.0 and trl(Example("2+2?", "5"), completion) == 0.0


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", PAGES[page])):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    for path in re.findall(rf"(?<![\w/.$-])(?:{'|'.join(OURS)})/[\w./*-]*[\w*/]", PAGES[page]):
        assert list(ROOT.glob(path.rstrip("/"))), path


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_are_named_exist(page):
    for name in re.findall(r"`(r1jax(?:\.\w+)+)(?:\([^`]*\))?`", PAGES[page]):
        module, found = __import__("r1jax"), True
        for depth, part in enumerate(name.split(".")[1:], 2):
            if not hasattr(module, part):
                __import__(".".join(name.split(".")[:depth]))
            module = getattr(module, part)
        assert found and module is not None


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_exist(page):
    commands = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    lines = [line for body in (*blocks(PAGES[page], ""), *blocks(PAGES[page], "bash")) for line in body.splitlines()]
    lines += re.findall(r"`(?:uv run |\w+=\S+ )*(r1jax [^`]+)`", FENCE.sub("", PAGES[page]))
    for line in lines:
        found = re.match(r"(?:pip install uv && |uv run (?:--\S+ \w+ )*|\w+=\S+ )*r1jax (\S+)(.*)", line)
        if not found or found[1].isupper():
            continue
        if found[1] == "--version":
            continue
        command = commands[found[1]]
        options = {option for parameter in command.params for option in parameter.opts}
        for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", found[2].partition("#")[0]):
            assert option in options, line


@pytest.mark.parametrize("page", PAGES)
def test_extras_and_groups_exist(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for name in re.findall(r"--extra (\w+)|r1jax\[(\w+)\]|-e \"\.\[(\w+)\]", PAGES[page]):
        assert max(name) in extras
    for name in re.findall(r"--group (\w+)", PAGES[page]):
        assert name in project["dependency-groups"]


def test_metrics_that_are_explained_exist():
    text = PAGES["docs/objectives.md"]
    table = text[text.index("| metric |") : text.index("With `dynamic_sampling`")]
    source = "".join(file.read_text() for file in (ROOT / "r1jax").rglob("*.py"))
    names = [name for row in table.strip().splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(names) > 40
    for name in names:
        for part in re.split(r"NAME|K$", name):
            stem = part.removeprefix("eval/").removeprefix("time/").strip("/")
            assert f'{stem}"' in source or f"{stem}/{{" in source or f"/{stem}" in source or f"{stem}@" in source, name


def fragments(text):
    """The parts of a block in which a key that comes again begins an alternative."""
    if "…" in text:
        return
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode), text
    lines, seen, start = text.splitlines(keepends=True), set(), 0
    for key, _ in root.value:
        if key.value in seen:
            yield "".join(lines[start : key.start_mark.line])
            seen, start = set(), key.start_mark.line
        seen.add(key.value)
    yield "".join(lines[start:])


def as_config(fragment):
    """A whole config around some of its settings, or around some of a stage's."""
    tree = OmegaConf.to_container(OmegaConf.create(fragment))
    assert isinstance(tree, dict)
    if set(tree) - {"stages"} <= Config.model_fields.keys():
        stages = tree.get("stages", [STAGE])
        if "stages" not in tree and any(not isinstance(entry, dict) for entry in tree.get("rewards", {}).values()):
            stages = [{**STAGE, "rewards": tree["rewards"]}]
        return {**CONFIG, **tree, "stages": stages}
    assert tree.keys() <= {*GrpoStage.model_fields, *SftStage.model_fields, "preset"}, tree
    return CONFIG | {"stages": [STAGE | tree]}


CASES = [(page, part) for page, text in PAGES.items() for body in blocks(text, "yaml") for part in fragments(body)]


@pytest.mark.parametrize(("page", "part"), CASES, ids=[f"{page}-{i}" for i, (page, _) in enumerate(CASES)])
def test_config_blocks_load(page, part, monkeypatch):
    monkeypatch.chdir(ROOT)
    parse_config(as_config(part))


@pytest.mark.parametrize(
    "wrong",
    [
        "loss: {kind: grop}\n",
        "task: {josnl: train.jsonl}\n",
        "rewards: {mine: {function: 3}}\n",
        "stages: [{name: a}]\n",
    ],
)
def test_a_wrong_block_would_be_seen(wrong):
    with pytest.raises(ValueError):
        parse_config(as_config(next(fragments(wrong))))
