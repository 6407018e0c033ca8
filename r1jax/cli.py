"""The command line: `r1jax train CONFIG`, and `eval`, `sample`, `chat`, `export` of a run or a pretrained model.

A mistake in what the user gave ends with one line and exit code 2, a run that had to stop with one line and 1.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from r1jax.config.base import MAX_SEED, ConfigError, RunStopped
from r1jax.config.load import load_config
from r1jax.config.paths import check_folder, expand
from r1jax.run.interrupt import Interrupted, ending_at_once

UsageError: Any = typer.BadParameter.__base__  # the place of its module depends on the version of typer


class Verbs(TyperGroup):
    """The verbs, whose errors are one line each."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            sys.exit(super().main(*args, **kwargs | {"standalone_mode": False}))
        except UsageError as error:
            verb = error.ctx.command_path if error.ctx else "r1jax"
            print(f"error: {' '.join(error.format_message().split())}; see {verb} -h", file=sys.stderr)
            sys.exit(2)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            line, code = f"error: {error}", 2
        except (RunStopped, FloatingPointError) as error:
            line, code = f"stopped: {error}", 1
        except Interrupted as error:
            line, code = f"interrupted: {error}", error.exit_code
        except OSError as error:
            if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            line, code = f"stopped: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", 1
        except KeyboardInterrupt:
            line, code = "interrupted; the same command resumes a run from its last checkpoint, if it has one", 130
        print(line, file=sys.stderr)
        raise typer.Exit(code)


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Model = Annotated[str, typer.Argument(help="a run folder, a Hugging Face folder or a hub id")]
Overrides = Annotated[
    list[str],
    typer.Argument(
        metavar="[KEY=VALUE]...", help="settings to change, e.g. seed=1", default_factory=list, show_default=False
    ),
]
Step = Annotated[
    str | None, typer.Option(metavar="STEP", help="a checkpoint of a run: STEP, STAGE or STAGE-STEP; else the last")
]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="of a completion; else max_completion_length")]


@app.callback(invoke_without_command=True)  # --version needs no command
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Train reasoning models the way DeepSeek-R1 was trained, in JAX."""
    if version:
        from importlib.metadata import version as installed

        print(f"r1jax {installed('r1jax')}")
        raise typer.Exit()


def command(text: str) -> str:
    """A command line of r1jax as the user would type it: with `uv run` where this one was started so."""
    return f"uv run r1jax {text}" if "UV_RUN_RECURSION_DEPTH" in os.environ else f"r1jax {text}"


@app.command()
def train(config: Annotated[Path, typer.Argument(help="a file of configs/")], overrides: Overrides) -> None:
    """Run a config's stages in order; the same command resumes from the last checkpoint."""
    settings = load_config(config, overrides)  # before what takes seconds to import
    check_folder("run_dir", settings.run_dir)

    with ending_at_once():
        from rich.console import Console

        from r1jax.programs.pipeline import train as train_stages
        from r1jax.run.comparison import comparison_table, draw_comparison
        from r1jax.run.report import draw_curves, summary_table

        run = train_stages(settings, handle_signals=True)
    if not run.is_writer:
        return
    if table := summary_table(run.folder):
        Console().print(table)
    print(f"curves: {draw_curves(run.folder)}")
    if settings.table:
        Console().print(comparison_table(run.folder))
        print(f"the stages side by side: {draw_comparison(run.folder)}")
    if writers := [stage for stage in run.stages if stage.settings.makes_policy]:
        question = writers[-1].batches.example("test", 0).question
        asked = shlex.quote(question if isinstance(question, str) else "...")
        print(f"sample from it: {command(f'sample {run.folder} {asked}')}")


@app.command("eval")
def evaluate(
    model: Model,
    overrides: Overrides,
    task: Annotated[
        str | None,
        typer.Option(help="gsm8k, math, or a task block such as '{jsonl: FILE, test: FILE}', whose `test` is answered"),
    ] = None,
    step: Step = None,
) -> None:
    """Answer held-out problems with a run's checkpoint or a pretrained model; print scores, save transcripts."""
    import jax
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from r1jax.evaluate import evaluate_model

    with Progress(transient=True) as bar:
        number = bar.add_task("problems", total=None)
        scores, file = evaluate_model(
            model,
            overrides,
            task,
            checkpoint=step,
            progress=lambda done, total: bar.update(number, completed=done, total=total),
        )
    if jax.process_index() > 0:
        return
    table = Table("metric", "value")
    for name, value in scores.items():
        table.add_row(name.removeprefix("eval/"), f"{value:.4g}")
    Console().print(table)
    print(f"problems: {bar.tasks[0].total:.0f}")
    if file is not None:
        print(f"transcripts: {file}")


@app.command()
def sample(
    model: Model,
    prompt: Annotated[str, typer.Argument(help="a question, which is put into the model's prompt format")],
    overrides: Overrides,
    samples: Annotated[int, typer.Option("-n", "--samples", min=1, help="how many completions")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="0 is greedy; 1 where several samples are asked for, else 0")
    ] = None,
    max_tokens: MaxTokens = None,
    step: Step = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="other seeds give other samples")] = 0,
) -> None:
    """Print completions of a prompt by a run's checkpoint or a pretrained model."""
    from r1jax.generate import Generator
    from r1jax.run.loading import load_model

    generator = Generator(load_model(model, overrides, checkpoint=step))
    for text in generator.generate(prompt, samples=samples, temperature=temperature, max_tokens=max_tokens, seed=seed):
        print(text)


@app.command()
def chat(
    model: Model,
    overrides: Overrides,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy")] = 0.7,
    max_tokens: MaxTokens = None,
    step: Step = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="other seeds give other replies")] = 0,
) -> None:
    """Talk with a model through its chat template; /new begins again, an empty line or Ctrl-D ends."""
    from r1jax.generate import Generator
    from r1jax.run.loading import load_model

    loaded = load_model(model, overrides, checkpoint=step)
    if loaded.model.tokenizer.chat_template is None:
        asked = command(f"sample {shlex.quote(model)} QUESTION")
        raise ConfigError(f"{model}: its tokenizer has no chat template, so it cannot chat; use {asked}")
    generator = Generator(loaded)
    messages: list[dict[str, str]] = []
    while line := _read_line():
        if line == "/new":
            messages = []
            continue
        messages.append({"role": "user", "content": line})
        reply = generator.chat(messages, temperature=temperature, max_tokens=max_tokens, seed=seed)
        messages.append({"role": "assistant", "content": reply})
        print(reply, flush=True)


def _read_line() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="a file of configs/")],
    overrides: Overrides,
    topology: Annotated[str, typer.Option(help="a TPU slice, such as v5e:2x4 or v5p:4x4x8")],
    sweep: Annotated[bool, typer.Option("--sweep", help="compare layouts of mesh.fsdp and mesh.tensor")] = False,
) -> None:
    """Compile a config's programs for a TPU slice, without one; print memory, time, and what the run would cost."""
    settings = load_config(config, overrides)
    os.environ["JAX_PLATFORMS"] = "cpu"
    from rich.console import Console

    from r1jax.planning.plan import plan as make_plan
    from r1jax.planning.plan import sweep as make_sweep
    from r1jax.planning.tables import show, show_sweep

    console = Console()
    with console.status("compiling") as status:

        def progress(what: str) -> None:
            status.update(f"compiling {what}")

        if sweep:
            plans, refused = make_sweep(settings, topology, progress=progress)
        else:
            plans, refused = [make_plan(settings, topology, progress=progress)], []
    if sweep:
        show_sweep(plans, refused, console)
    else:
        show(plans[0], console)
    if not any(planned.fits for planned in plans):
        raise typer.Exit(1)


@app.command()
def reward(
    completions: Annotated[
        Path, typer.Argument(help="JSON lines with a completion each, such as a run's completions/")
    ],
    overrides: Overrides,
    config: Annotated[
        Path | None, typer.Option(help="the config whose task and rewards are used; a run's own for its completions")
    ] = None,
) -> None:
    """Score saved completions without a model: each reward's statistics, best and worst samples, disagreements."""
    from rich.console import Console

    from r1jax.score import config_of, score_file, show

    file = config or config_of(completions)
    if file is None:
        raise ConfigError(f"--config is needed: {completions} is not in a run folder, whose own config could be used")
    show(score_file(completions, load_config(file, overrides)), Console())


@app.command()
def export(
    model: Model,
    out: Annotated[Path, typer.Argument(help="a new folder")],
    overrides: Overrides,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "bfloat16",
    step: Step = None,
) -> None:
    """Write a run's checkpoint as a Hugging Face folder: config, tokenizer, chat template, safetensors."""
    out = Path(expand("OUT", str(out)))
    check_folder("OUT", str(out))
    from r1jax.export import export_model

    export_model(model, out, dtype=dtype, overrides=overrides, checkpoint=step)
    print(f"written: {out} ({dtype})")


def main() -> None:
    """The console script."""
    if not sys.warnoptions:
        warnings.showwarning = _show_warning
        quieten()
    try:
        app()
    except SystemExit as error:
        if error.code == 1 and threading.active_count() > 1:  # Orbax's wait for minutes for a save that has failed
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)
        raise
    except Exception:
        # JAX would wait for the other processes for five minutes, and they for this one in what they compute together.
        if (jax := sys.modules.get("jax")) is None or not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        sys.stdout.flush()
        os._exit(1)


def quieten() -> None:
    """Leaves out what Orbax and its threads remark on the side: what goes wrong is raised as well."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = show_unraisable


def show_unraisable(unraisable: Any) -> None:
    """Leaves out what threads of TensorStore say of reads that nobody waits for, once another one has failed."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _show_warning(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
    """A warning of r1jax in one line; those of other packages are for developers (python -W shows them)."""
    if Path(filename).is_relative_to(Path(__file__).parent):
        sys.stderr.write(f"warning: {message}\n")


if __name__ == "__main__":
    main()
