"""A run's numbers: flat rows to metrics.jsonl, TensorBoard, W&B and the console; sampled completions; timers.

    log = RunLog(Path("runs/quickstart"))
    log.log("rl", step=1, metrics={"reward": 0.25, "step_time": 1.9})

`step` is the number of steps that the stage had finished when the row was written, so that a checkpoint of stage X at
step N makes all rows of X with step <= N valid. The same run gives the same bytes, except for what depends on the
clock: `step_time`, `tokens_per_second`, `compiles`, and everything below `time/` (see `without_timings`).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"
TIMINGS = ("step_time", "tokens_per_second", "compiles", "time/")  # how the names of metrics that are timings begin


class RunLog:
    """Writes metrics.jsonl, completions/ and tensorboard/ of a run folder. Of several processes one is the writer."""

    def __init__(self, folder: Path, *, is_writer: bool = True, wandb_project: str | None = None) -> None:
        """Creates nothing yet. Raises ValueError, in every process, where W&B is asked for and not installed."""
        self.folder = folder
        self.is_writer = is_writer
        self.on_log: Callable[[dict[str, Any]], None] | None = None  # called with each row that is written
        self._wandb_project = wandb_project
        self._file: Any = None
        self._kept: Mapping[str, int] = {}
        self._boards: dict[str, Any] = {}
        self._wandb_run: Any = None
        if wandb_project is not None:
            _import_wandb()

    def rewind(self, kept: Mapping[str, int]) -> None:
        """Removes what was written after the checkpoints that a run resumes from: `kept` is {stage: its last step}.

        Other rows keep their bytes; all rows of stages that are not in `kept` are removed. Call it before any `log`.
        """
        if not self.is_writer:
            return
        self._kept = dict(kept)
        file, logged = self.folder / METRICS_FILE, dict[str, int]()
        if file.exists():
            rows = [(line, row) for line, row in _rows(file) if row["step"] <= kept.get(row["stage"], -1)]
            write_atomically(file, b"".join(line for line, _ in rows))
            logged = {row["stage"]: row["step"] for _, row in rows}
        if missing := [f"step {step} of {stage}" for stage, step in kept.items() if logged.get(stage, 0) < step]:
            warnings.warn(
                f"{file} has no rows up to {missing[0]}, which is saved; they are not made again", stacklevel=2
            )
        for file in self.folder.glob("completions/*.jsonl"):
            stage, _, step = file.stem.rpartition("-")
            if step.isdigit() and int(step) > kept.get(stage, -1):
                file.unlink()

    def log(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Appends one row. A metric that is not finite is left out, since JSON has no NaN."""
        if not self.is_writer:
            return
        values = {name: value for name, value in sorted(json_ready(metrics).items()) if value is not None}
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = (self.folder / METRICS_FILE).open("ab")
        row = {"stage": stage, "step": step, **values}
        self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        self._file.flush()
        if self.on_log is not None:
            self.on_log(row)
        for name, value in values.items():
            self._board(stage).add_scalar(name, value, step)
        if self._wandb_project is not None:
            if self._wandb_run is None:  # an interrupted one is resumed; steps that are run again are in it twice
                self._wandb_run = _import_wandb().init(
                    project=self._wandb_project, name=self.folder.name, dir=self.folder, resume="auto"
                )
            self._wandb_run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._wandb_run.log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in values.items()}})

    def completions(self, stage: str, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes completions/STAGE-STEP.jsonl, one line a completion, atomically."""
        if not self.is_writer:
            return
        lines = [json.dumps(json_ready(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        file = self.folder / "completions" / f"{stage}-{step:06d}.jsonl"
        # A lone surrogate becomes \udXXX, which JSON reads back as what it was.
        write_atomically(file, "".join(lines).encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Puts all rows on disk. It is called before a checkpoint is saved, which makes them valid."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        for board in self._boards.values():
            board.flush()

    def close(self) -> None:
        """Flushes and closes everything; `log` would open it again."""
        self.flush()
        if self._file is not None:
            self._file.close()
        for board in self._boards.values():
            board.close()
        if self._wandb_run is not None:
            self._wandb_run.finish()
        self._file, self._boards, self._wandb_run = None, {}, None

    def _board(self, stage: str) -> Any:
        """The stage's TensorBoard writer. Its first event hides the steps that will now be run again."""
        if stage not in self._boards:
            from tensorboardX import SummaryWriter

            purge_step = self._kept.get(stage, -1) + 1
            folder = str(self.folder / "tensorboard" / stage)
            # File names have whole seconds: without a suffix, a run that starts again at once overwrites its own.
            suffix = f".{time.time_ns()}"
            self._boards[stage] = SummaryWriter(folder, purge_step=purge_step, flush_secs=10, filename_suffix=suffix)
        return self._boards[stage]


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run folder's metrics.jsonl; a last line that was not written completely is left out.

    Raises ValueError where there is no such file, or a line in it is not a row of metrics.
    """
    file = folder / METRICS_FILE
    if not file.is_file():
        raise ValueError(
            f"{folder} has no {METRICS_FILE}; need the folder of a run that has begun: give the run_dir of its config, "
            f"or start it with `r1jax train CONFIG`"
        )
    return [row for _, row in _rows(file)]


def without_timings(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what depends on the clock: what two runs of the same config must agree on."""
    return {name: value for name, value in row.items() if not name.startswith(TIMINGS)}


class Timers:
    """Adds up seconds by name: `with timers("rollout"): ...`, then `timers.collect()` gives {"time/rollout": 1.23}."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - begin

    def collect(self) -> dict[str, float]:
        """The seconds since the last call of this; counting starts again from zero."""
        seconds = {f"time/{name}": value for name, value in self._seconds.items()}
        self._seconds.clear()
        return seconds


def _rows(file: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Each row, as bytes and parsed. What follows the last newline was not written completely and is left out."""
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            _ = row["stage"], row["step"]
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{file}, line {number} is not a row of metrics: it begins {line[:80]!r}; delete that line"
            ) from None
        yield line + b"\n", row


def write_atomically(file: Path, data: bytes) -> None:
    """Writes a file atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".tmp")
    with temporary.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, file)


def json_ready(value: Any) -> Any:
    """The same in JSON's own types: lists for arrays, None for floats that it does not have."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _import_wandb() -> Any:
    """W&B's module. A folder `wandb` that W&B left in the working directory imports too, but cannot `init`."""
    try:
        import wandb  # pyright: ignore[reportMissingImports]

        wandb.init  # noqa: B018
    except (ImportError, AttributeError):
        raise ValueError(
            'wandb_project is set and wandb is not installed; install it with: pip install "r1jax[wandb]", '
            "or leave wandb_project out"
        ) from None
    return wandb
