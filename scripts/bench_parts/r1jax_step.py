"""GRPO steps of r1jax on real prompts, timed: the parts of `programs.grpo.train`'s loop, each until it is done.

    python scripts/bench_parts/r1jax_step.py WORK

Every completion has the full length, as the peers' are forced to. Prefill is timed apart, as a rollout of one token
less a decode step. `log` is fetching the metrics and writing their row.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from model import Compilations, device_peak, random_weights, stopping_at
from roofline import needs
from work import read_work, sums, write_result

from r1jax.config.load import parse_config
from r1jax.programs.grpo import Trainer, optimizers, step_metrics
from r1jax.run.run import Run, build_run
from r1jax.text.chat_template import read_chat_template
from r1jax.training.state import init_state

ROWS = 256  # problems in the task; a share of them is held out


def varied(example: Any, completion: str) -> float:
    """A reward that differs within a group, so that no advantage is 0; what the peers are given."""
    return float(len(completion) % 7)


def make_run(work: dict[str, Any], folder: str) -> Run:
    chat = read_chat_template(Path(work["model"])) is not None
    stage = {
        "name": "rl",
        "program": "grpo",
        "steps": 1_000,
        "prompts_per_step": work["prompts"],
        "group_size": work["samples"],
        "microbatch": work["microbatch"],
        "rewards": {"accuracy": 1.0, "varied": 1.0},
        "optimizer": {"learning_rate": 1e-6, "b2": 0.999},
    }
    config = {
        "run_dir": folder,
        "model": {"path": work["model"], "dtype": work["dtype"]},
        "prompt": {"chat": chat},
        "max_prompt_length": 256,
        "max_completion_length": work["tokens"],
        "stages": [stage],
        "task": {"name": "arithmetic"},
    }
    run = build_run(parse_config(config), functions={"varied": varied}, data=sums(ROWS))
    return dataclasses.replace(run, tokenizer=stopping_at(run.tokenizer))


def measure(work: dict[str, Any], run: Run, compilations: Compilations) -> dict[str, Any]:
    (stage,) = run.stages
    trainer = Trainer(run, stage)
    weights = random_weights(stage.model, run.mesh) if work["random_weights"] else run.stage_weights(stage)
    state = init_state(trainer.abstract, optimizers(trainer.settings), weights)
    del weights
    times: list[dict[str, float]] = []
    for step in range(1, work["repeats"] + 2):  # the first compiles
        run.timers.collect()
        clock, worked = [time.perf_counter()], time.process_time()
        collected = trainer.collect(state, step)
        clock.append(time.perf_counter())
        order, layouts = trainer.minibatches(collected, step)
        batch, prepared = trainer.prepare(state, collected, layouts[0])
        clock.append(time.perf_counter())
        updates = []
        for index, (rows_B, layout) in enumerate(zip(order, layouts[1:], strict=True)):
            state, metrics = trainer.update(state, batch, rows_B, layout, index, collected.batches)
            updates.append(metrics)
        jax.block_until_ready(state)
        clock.append(time.perf_counter())
        metrics = step_metrics(prepared, collected.metrics, updates)
        trainer.inspect(step, metrics)
        run.log.log(stage.settings.name, step, metrics)
        clock.append(time.perf_counter())
        rollout, prepare, update, log = np.diff(clock)
        grade = run.timers.collect()["time/grade"]
        times.append({"rollout": rollout, "grade": grade, "prepare": prepare, "update": update, "log": log})
        times[-1] |= {"step": clock[-1] - clock[0], "cpu": time.process_time() - worked}
        lengths = np.asarray(collected.rollout.samples.length_B)
        assert (lengths == work["tokens"]).all(), f"completions of {lengths} tokens; all should have {work['tokens']}"
        prompt = float(np.asarray(collected.rollout.prompt_length_P).mean())
    peaks = {"device_peak_bytes": device_peak(), **compilations.result(), "first_step_s": times[0]["step"]}
    one_token = time_one_token(work, run, state, collected)
    later = times[1:]
    sample = statistics.median(t["rollout"] - t["grade"] for t in later)
    decode_step = (sample - one_token) / max(work["tokens"] - 1, 1)
    return peaks | {
        "step_s": [t["step"] for t in later],
        "cpu_s": [t["cpu"] for t in later],
        "rollout_s": [t["rollout"] for t in later],
        "update_s": [t["prepare"] + t["update"] for t in later],
        "split": {name: statistics.median(t[name] for t in later) for name in ("grade", "prepare", "update", "log")}
        | {"prefill": max(one_token - decode_step, 0.0), "decode": decode_step * work["tokens"]},
        "prompt_tokens": prompt,
        "positions": batch.prompt_BS.shape[1] + batch.completion_BT.shape[1],
        "parameters": run.parameters,
        "devices": run.mesh.devices.size,
        "needs": needs(
            stage.model.config,
            prompts=work["prompts"],
            samples=work["samples"],
            prompt=prompt,
            tokens=work["tokens"],
            bytes_each=jnp.dtype(work["dtype"]).itemsize,
        ),
    }


def time_one_token(work: dict[str, Any], run: Run, state: Any, collected: Any) -> float:
    """Seconds of sampling one token for each sequence: the prefill and a decode step."""
    model = run.loaded(run.stages[0], state.params)
    sampler = model.sampler(run.stages[0].settings, group_size=work["samples"], max_new=1)  # pyright: ignore
    rollout, weights = collected.rollout, model.sampling_weights()
    seconds = []
    for _ in range(work["repeats"] + 1):
        begin = time.perf_counter()
        jax.block_until_ready(
            sampler(weights, rollout.prompt_PS, rollout.prompt_length_P, rollout.prompt_id_P, jax.random.key(0))
        )
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def main() -> None:
    work, compilations = read_work(), Compilations()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(work, folder)
        with contextlib.closing(run), run.devices():
            write_result(measure(work, run, compilations))


if __name__ == "__main__":
    main()
