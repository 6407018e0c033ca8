"""The command line: `r1jax train CONFIG`, and `eval`, `sample`, `chat`, `export` of a run or a pretrained model.

A mistake in what the user gave ends with one line and exit code 2, a run that had to stop with one line and 1.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from r1jax.config.base import ConfigError
from r1jax.config.load import load_config

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train reasoning models the way DeepSeek-R1 was trained, in JAX.",
)
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings to change, e.g. seed=1")
]


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except FloatingPointError as error:
        print(f"stopped: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("interrupted; a run goes on from its last checkpoint, if it has one yet", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def train(config: Annotated[Path, typer.Argument(help="a file of configs/")], overrides: Overrides = None) -> None:
    """Run a config's stages in order; the same command goes on where it stopped."""
    with _one_line_errors():
        settings = load_config(config, overrides or ())
        from r1jax.programs.pipeline import train as train_stages

        run = train_stages(settings)
    if not run.is_writer:
        return
    from rich.console import Console

    from r1jax.run.report import draw_curves, summary_table

    Console().print(summary_table(run.folder))
    print(f"curves: {draw_curves(run.folder)}")
    question = run.batches.example("test", 0).question
    print(f"talk to it: r1jax sample {run.folder} {shlex.quote(question if isinstance(question, str) else '...')}")


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="a run folder, a Hugging Face folder or a hub id")],
    overrides: Overrides = None,
    task: Annotated[
        str | None, typer.Option(help="gsm8k, or a task block such as '{jsonl: test.jsonl, test: test.jsonl}'")
    ] = None,
) -> None:
    """Answer held-out problems with a run's last checkpoint or a pretrained model; print scores, save transcripts."""
    with _one_line_errors():
        from rich.console import Console
        from rich.progress import Progress
        from rich.table import Table

        from r1jax.config.load import parse_task
        from r1jax.evaluate import evaluate_model

        if task is None and not (Path(model) / "config.yaml").is_file():
            raise ConfigError("--task is needed for a model that is no run: --task gsm8k, or --task '{jsonl: FILE}'")
        with Progress() as bar:
            number = bar.add_task("problems", total=None)
            scores, file = evaluate_model(
                model,
                overrides or (),
                parse_task(task) if task else None,
                lambda done, total: bar.update(number, completed=done, total=total),
            )
    if file is None:
        return
    table = Table("metric", "value")
    for name, value in scores.items():
        table.add_row(name.removeprefix("eval/"), f"{value:.4g}")
    Console().print(table)
    print(f"transcripts: {file}")


@app.command()
def sample(
    model: Annotated[str, typer.Argument(help="a run folder, a Hugging Face folder or a hub id")],
    prompt: Annotated[str, typer.Argument(help="a question, put into the model's prompt form")],
    overrides: Overrides = None,
    samples: Annotated[int, typer.Option("-n", "--samples", min=1, help="how many completions")] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="0 is greedy; 1 where several samples are asked for, else 0")
    ] = None,
    seed: Annotated[int, typer.Option(help="other seeds give other samples")] = 0,
) -> None:
    """Print completions of a prompt by a run's last checkpoint or a pretrained model."""
    with _one_line_errors():
        from r1jax.evaluate import Speaker

        if temperature is None:
            temperature = float(samples > 1)
        speaker = Speaker(model, overrides or ())
        for text in speaker.complete(speaker.prompt(prompt), samples=samples, temperature=temperature, seed=seed):
            print(text)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="a run folder, a Hugging Face folder or a hub id")],
    overrides: Overrides = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy")] = 0.7,
    seed: Annotated[int, typer.Option(help="other seeds give other replies")] = 0,
) -> None:
    """Talk with a model through its chat template; /new begins again, an empty line or Ctrl-D ends."""
    with _one_line_errors():
        from r1jax.evaluate import Speaker

        speaker = Speaker(model, overrides or ())
        messages: list[dict[str, str]] = []
        speaker.prompt([{"role": "user", "content": "?"}], chat=True)  # no template: say so before anything is typed
        while line := _read_line():
            if line == "/new":
                messages = []
                continue
            messages.append({"role": "user", "content": line})
            text = speaker.prompt(messages, chat=True)
            (reply,) = speaker.complete(text, temperature=temperature, seed=seed + len(messages))
            messages.append({"role": "assistant", "content": reply})
            print(reply, flush=True)


def _read_line() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


@app.command()
def reward(
    completions: Annotated[
        Path, typer.Argument(help="JSON lines with a completion each, such as a run's completions/")
    ],
    overrides: Overrides = None,
    config: Annotated[Path, typer.Option(help="the config whose task and rewards are used")] = Path(),
) -> None:
    """Score saved completions without a model: each reward's figures, best and worst samples, disagreements."""
    with _one_line_errors():
        from rich.console import Console

        from r1jax.score import score_file, show

        if config == Path():
            raise ConfigError("--config is needed: the config whose task and rewards are used")
        show(score_file(completions, load_config(config, overrides or ())), Console())


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="a run folder, a Hugging Face folder or a hub id")],
    out: Annotated[Path, typer.Argument(help="a new folder")],
    overrides: Overrides = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "bfloat16",
) -> None:
    """Write a run's last checkpoint as a Hugging Face folder: config, tokenizer, chat template, safetensors."""
    with _one_line_errors():
        from r1jax.export import export_model

        export_model(model, out, dtype=dtype, overrides=overrides or ())
    print(f"written: {out} ({dtype})")


def main() -> None:
    """The console script."""
    warnings.showwarning = _show_warning
    app()


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **_: Any) -> None:
    """A warning to the user in one line; others say where they come from."""
    said = f"warning: {message}\n" if category is UserWarning else warnings.formatwarning(message, category, *where[:2])
    sys.stderr.write(said)


if __name__ == "__main__":
    main()
