"""Memory and speed of GRPO's update: logits in chunks against all of them at once; packed rows against padded ones.

    uv run scripts/bench_update.py               # all tables; the largest update plans 15 GB
    uv run scripts/bench_update.py memory        # or some: memory, speed, packing

Memory: an update on 32 × 512 completion tokens with a vocabulary of 151,936, a process each; what materialised logits
would need is float32 [32, 512, 151936] once. Speed: updates in turn in one process, all logits at once ("dense") and as
the product does. The last line of each says whether the requirement holds: a quarter of the logits, and no slower than
dense. Packing: updates on 32 completions of very different lengths, one a row and in rows of `pack_length`.
"""

from __future__ import annotations

import functools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

VOCABULARY = 151_936
PROMPT = 16
RUNS, TOKENS = 3, 128
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
QWEN = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
QWEN |= {"num_attention_heads": 14, "num_key_value_heads": 2, "head_dim": 64, "qkv_bias": True}
MEDIUM = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6}
MEDIUM |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
MODELS = {
    "one layer of width 64": SMALL,
    "Qwen2.5-0.5B": QWEN,
    "its head and one layer": QWEN | {"num_hidden_layers": 1},
    "six layers of width 256": MEDIUM,
}
MEMORY = ("one layer of width 64", 32, 512)  # model, sequences, completion tokens
SPEEDS = [("one layer of width 64", 8), ("its head and one layer", 8), ("Qwen2.5-0.5B", 8)]  # of TOKENS each
PACKING = ("six layers of width 256", 32, 512, 2)  # model, sequences, completion tokens at most, micro-batches
PACKED_VOCABULARY = 8_192
NOISE = 1.05  # a ratio of medians that repeats of one program reach


def make_update(
    name: str, sequences: int, tokens: int, *, vocabulary: int = VOCABULARY, microbatches: int = 1, length_B: Any = None
) -> tuple[Any, Any]:
    """The product's jitted update, `programs.grpo.functions`' own, and a function that makes its state and batch."""
    import types

    import jax
    import jax.numpy as jnp

    from r1jax.config.experiment import GrpoStage
    from r1jax.config.training import MeshSettings, OptimizerSettings
    from r1jax.models import ModelConfig, init_params, make_model
    from r1jax.parallel.mesh import make_mesh
    from r1jax.programs.grpo import functions, optimizers
    from r1jax.rl.types import TrainBatch
    from r1jax.sampling.loaded_model import LoadedModel
    from r1jax.training.state import TrainState, init_state

    stage = GrpoStage(
        name="rl",
        program="grpo",
        steps=100,
        prompts_per_step=sequences // 4,
        group_size=4,
        microbatch=sequences // microbatches,
        max_completion_length=tokens,
        rewards={"accuracy": 1.0},
        optimizer=OptimizerSettings(learning_rate=1e-6),
    )
    model = make_model(ModelConfig(**MODELS[name], dtype="float32"), vocabulary)
    tokenizer: Any = types.SimpleNamespace(stop_ids=(1,))
    update = functions(LoadedModel(model, tokenizer, make_mesh(MeshSettings()), None), stage, PROMPT)["update"]

    def make(key: jax.Array) -> tuple[TrainState, TrainBatch]:
        rows_BT = jax.random.randint(key, (sequences, PROMPT + tokens), 0, vocabulary)
        lengths_B = jnp.full(sequences, tokens, jnp.int32) if length_B is None else jnp.array(length_B)
        logp_BT = jnp.full((sequences, tokens), -12.0)
        batch = TrainBatch(
            prompt_BS=rows_BT[:, :PROMPT],
            prompt_length_B=jnp.full(sequences, PROMPT, jnp.int32),
            completion_BT=rows_BT[:, PROMPT:],
            length_B=lengths_B,
            sampler_logp_BT=logp_BT,
            old_logp_BT=logp_BT,
            advantage_BT=jax.random.normal(key, (sequences, 1)) * jnp.ones((1, tokens)),
            factor_BT=jnp.ones((sequences, tokens)),
            included_B=jnp.ones(sequences, bool),
        )
        return init_state(update.arguments[0], optimizers(stage), init_params(model, key)), batch

    return update, functools.partial(jax.jit(make), jax.random.key(0))


def arguments(sequences: int, layout: Any = None) -> tuple[Any, ...]:
    """What an update is called with after state and batch."""
    import jax.numpy as jnp

    return jnp.arange(sequences), layout, jnp.int32(0), jnp.int32(0)


def compiled_update(name: str, sequences: int, tokens: int, *, dense: bool) -> tuple[Any, Any]:
    """The compiled update, and a function that makes its state and batch."""
    from r1jax.models import logprobs

    own = logprobs.UNCHUNKED_BYTES
    logprobs.UNCHUNKED_BYTES = 2**60 if dense else own
    update, make = make_update(name, sequences, tokens)
    compiled = update.compile()
    logprobs.UNCHUNKED_BYTES = own
    return compiled, make


def with_arguments(update: Callable[..., Any], sequences: int, layout: Any = None) -> Callable[..., Any]:
    """The update as a function of state and batch alone."""
    return lambda state, batch: update(state, batch, *arguments(sequences, layout))


def measure_memory(dense: bool) -> None:
    """One JSON line: what the compiler plans, and unless dense what the process then takes."""
    import jax

    compiled, make = compiled_update(*MEMORY, dense=dense)
    plan = compiled.memory_analysis()
    result = {"planned": plan.temp_size_in_bytes, "arguments": plan.argument_size_in_bytes}
    if not dense:
        state, batch = jax.block_until_ready(make())
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        jax.block_until_ready(compiled(state, batch, *arguments(MEMORY[1])))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        result |= {"grown": peak - before, "peak": peak}
    print(json.dumps(result))


def memory(console: Any) -> None:
    from rich.table import Table

    model, sequences, tokens = MEMORY
    logits = sequences * tokens * VOCABULARY * 4
    table = Table(
        "update",
        "planned temporaries",
        "state and batch",
        "grown by",
        "peak of process",
        "of the logits",
        title=f"{sequences} × {tokens} tokens, {model}: logits would need {logits / 1e9:.2f} GB",
    )
    for name in ("chunked", "dense"):
        command = [sys.executable, __file__, "--memory", name]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        most = result.get("peak", result["planned"] + result["arguments"])
        sizes = [
            f"{result[key] / 1e9:.2f} GB" if key in result else "not run"
            for key in ("planned", "arguments", "grown", "peak")
        ]
        table.add_row(name, *sizes, f"{most / logits:.2f}")
        if name == "chunked":
            holds = most < logits / 4
    console.print(table)
    console.print(f"peak under a quarter of the logits: {'yes' if holds else 'NO'}")


def turn_about(updates: Mapping[Any, Callable[..., Any]], state: Any, batch: Any) -> list[tuple[float, float]]:
    """Median wall and CPU seconds of each update, run in turn."""
    import jax

    seconds: dict[Any, list[tuple[float, float]]] = {name: [] for name in updates}
    for run in range(RUNS + 1):
        for name in sorted(updates, reverse=run % 2 == 0):
            begin, worked = time.perf_counter(), time.process_time()
            state, _ = jax.block_until_ready(updates[name](state, batch))
            if run:  # the first is to warm up
                seconds[name].append((time.perf_counter() - begin, time.process_time() - worked))
    return [tuple(statistics.median(x) for x in zip(*seconds[name], strict=True)) for name in updates]  # type: ignore


def speed(console: Any) -> None:
    from rich.table import Table

    from r1jax.models import logprobs

    table = Table(
        *("model", "tokens", "all logits", "chunks", "dense", "chunked", "chunked / dense", "of CPU seconds"),
        title="an update, medians",
    )
    worst = 0.0
    for model, sequences in SPEEDS:
        updates = {}
        for dense in (True, False):
            compiled, make = compiled_update(model, sequences, TOKENS, dense=dense)
            updates[dense] = with_arguments(compiled, sequences)
        (dense_wall, dense_cpu), (wall, cpu) = turn_about(updates, *make())
        worst, size = max(worst, wall / dense_wall), sequences * TOKENS * VOCABULARY * 4
        table.add_row(
            *(
                model,
                f"{sequences} × {TOKENS}",
                f"{size / 1e9:.2f} GB",
                str(1 if size <= logprobs.UNCHUNKED_BYTES else -(-size // logprobs.CHUNK_BYTES)),
            ),
            *(f"{dense_wall:.2f} s", f"{wall:.2f} s", f"{wall / dense_wall:.2f}", f"{cpu / dense_cpu:.2f}"),
        )
        print(f"{model}, {sequences} × {TOKENS}: dense {dense_wall:.2f} s, chunked {wall:.2f} s", file=sys.stderr)
    console.print(table)
    console.print(f"no slower than dense, to {NOISE - 1:.0%}: {'yes' if worst <= NOISE else 'NO'}")


def packing(console: Any) -> None:
    import numpy as np
    from rich.table import Table

    from r1jax.data.packing import lay_out

    model, sequences, tokens, microbatches = PACKING
    length_B = np.random.default_rng(0).lognormal(np.log(96), 0.8, sequences).clip(8, tokens).astype(np.int32)
    update, make = make_update(
        model, sequences, tokens, vocabulary=PACKED_VOCABULARY, microbatches=microbatches, length_B=length_B
    )
    joined = PROMPT + tokens
    updates, rows = {0: with_arguments(update, sequences)}, {0: (sequences, joined)}
    for width in (joined, 2 * joined):
        layout = lay_out(PROMPT + length_B, shards=1, microbatches=microbatches, joined=joined, width=width)
        updates[width], rows[width] = with_arguments(update, sequences, layout), layout.source_MW.shape
    times = turn_about(updates, *make())
    table = Table(
        *("pack_length", "rows", "filled", "an update", "to unpacked"),
        title=f"{model}: {sequences} completions of {length_B.min()} to {length_B.max()} tokens, "
        f"mean {length_B.mean():.0f}",
    )
    for (width, (height, length)), (wall, _) in zip(rows.items(), times, strict=True):
        share = (PROMPT + length_B).sum() / (height * length)
        table.add_row(
            str(width or "none"), f"{height} × {length}", f"{share:.0%}", f"{wall:.2f} s", f"{wall / times[0][0]:.2f}"
        )
    console.print(table)


def main() -> None:
    if sys.argv[1:2] == ["--memory"]:
        measure_memory(sys.argv[2] == "dense")
        return
    from rich.console import Console

    for measure in (memory, speed, packing):
        if measure.__name__ in (sys.argv[1:] or ["memory", "speed", "packing"]):
            measure(Console())


if __name__ == "__main__":
    main()
