"""The command line: `r1jax train CONFIG`, `r1jax eval RUN`, `r1jax sample RUN PROMPT`, each with key=value overrides.

A mistake in what the user gave ends with one line and exit code 2, a run that had to stop with one line and 1.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from r1jax.config import ConfigError, load_config

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
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
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

    from r1jax.report import draw_curves, summary_table

    Console().print(summary_table(run.folder))
    print(f"curves: {draw_curves(run.folder)}")
    print(f'talk to it: r1jax sample {run.folder} "{run.task.example("test", 0).prompt}"')


@app.command("eval")
def evaluate(run: Annotated[Path, typer.Argument(help="a run folder")], overrides: Overrides = None) -> None:
    """Answer held-out problems with a run's last checkpoint; print the scores, save the transcripts."""
    with _one_line_errors():
        from r1jax.evaluate import evaluate_folder

        scores, file = evaluate_folder(run, overrides or ())
    if file is None:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "value")
    for name, value in scores.items():
        table.add_row(name.removeprefix("eval/"), f"{value:.4g}")
    Console().print(table)
    print(f"transcripts: {file}")


@app.command()
def sample(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    prompt: Annotated[str, typer.Argument(help="text to continue")],
    samples: Annotated[int, typer.Option("-n", "--samples", min=1, help="how many completions")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy")] = 0.0,
    seed: Annotated[int, typer.Option(help="other seeds give other samples")] = 0,
) -> None:
    """Print completions of a prompt by a run's last checkpoint."""
    with _one_line_errors():
        from r1jax.evaluate import complete

        for text in complete(run, prompt, samples=samples, temperature=temperature, seed=seed):
            print(text)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
