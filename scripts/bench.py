"""How fast r1jax's GRPO steps are on this machine: alone, beside peers on the same work, and as the work grows.

    uv run scripts/bench.py models/smollm2-135m-instruct
    uv run scripts/bench.py models/smollm2-135m-instruct --against trl,tunix --rounds 2
    uv run scripts/bench.py models/smollm2-135m-instruct --sweep group     # or tokens, prompts, ragged, devices, …

A step samples `--prompts` × `--samples` completions of `--tokens` tokens each on real prompts, grades them, and makes
one update; every completion has the full length, here and in the peers. Each measurement is a process of its own, with
one step to compile and `--repeats` to time; the programs take turns, `--rounds` times, and medians are shown. Peers are
installed by uv into environments of their own. The share of the roofline is the time that the needed products and
reads take at the rates measured first, divided by the time taken. glibc's malloc is kept from returning memory to the
system, for every program alike, unless `--plain-malloc` is given. --random-weights needs only the config.json and
the tokenizer of the folder. Writes a JSON file and a picture.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PARTS = ROOT / "scripts" / "bench_parts"
sys.path.insert(0, str(PARTS))

from roofline import least_seconds  # noqa: E402

PEERS = {
    "trl": ("trl==1.16.0", "torch==2.13.0", "transformers==5.24.0"),
    "tunix": ("google-tunix==0.1.7", "jax==0.12.0.1", "transformers==5.12.1"),
}
MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
PARTS_TIMED = ("step", "rollout", "update", "cpu")  # of a step; cpu are the seconds of all the process's threads
LONG_PROMPT = 1024
WIDTH = 160  # of tables that go into a file
SWEEPS: dict[str, dict[str, dict[str, Any]]] = {
    "group": {
        **{
            f"1 prompt × {G}": {"prompts": 1, "samples": G, "prompt_tokens": LONG_PROMPT, "tokens": 64}
            for G in (1, 4, 16)
        },
        "16 prompts × 1": {"prompts": 16, "samples": 1, "prompt_tokens": LONG_PROMPT, "tokens": 64},
    },
    "tokens": {f"{T} tokens": {"tokens": T} for T in (64, 256)},
    "prompts": {f"{P} prompts": {"prompts": P} for P in (1, 2, 4, 8)},
    "ragged": {
        **{f"{T} at most": {"tokens": T, "ragged": True} for T in (64, 256)},
        "64 at most, 256 of which 32 at once": {"prompts": 32, "samples": 8, "decode_batch": 32, "ragged": True},
    },
    "devices": {f"{n} devices": {"prompts": 8, "samples": 4, "devices": n} for n in (1, 2, 4, 8)},
    "prompt-length": {f"prompt of {S}": {"prompt_tokens": S} for S in (128, 512, 1024)},
}


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a Hugging Face folder")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    for name, value in (("prompts", 4), ("samples", 8), ("tokens", 64), ("repeats", 3), ("rounds", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--microbatch", type=int, default=8, help="sequences at once in r1jax's update")
    parser.add_argument("--peer-microbatch", type=int, help="and in the peers', if it is another number")
    parser.add_argument("--against", default="", help=f"peers, of {','.join(PEERS)}")
    parser.add_argument("--sweep", choices=SWEEPS, help="time rollouts of growing work in place of steps")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--plain-malloc", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="path of the JSON file, without .json")
    args = parser.parse_args(given)
    args.peers = [name for name in args.against.split(",") if name]
    if unknown := set(args.peers) - PEERS.keys():
        parser.error(f"--against has {', '.join(unknown)}; there are {', '.join(PEERS)}")
    if args.random_weights and args.peers:
        parser.error("--random-weights is for r1jax alone; leave out --against")
    if not (args.model / "config.json").is_file():
        parser.error(f"{args.model} has no config.json; give a Hugging Face folder")
    if (args.prompts * args.samples) % args.microbatch:
        parser.error(f"--microbatch {args.microbatch} does not divide {args.prompts} × {args.samples} sequences")
    return args


def measure(part: str, work: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Runs a script of bench_parts/ on some work, in a process and a folder of its own."""
    program = part.removesuffix("_step")
    command = [sys.executable]
    if program in PEERS:
        packages = [word for package in PEERS[program] for word in ("--with", package)]
        command = [os.environ.get("UV", "uv"), "run", "--quiet", "--no-project", "--python", "3.12", *packages]
        command.append("python")
    # Compiling is timed, so that it finds nothing in a cache, unless the environment says otherwise.
    environment = {"JAX_ENABLE_COMPILATION_CACHE": "false"} | os.environ | ({} if args.plain_malloc else MALLOC)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "work.json"
        file.write_text(json.dumps(work))
        done = subprocess.run(
            [*command, PARTS / f"{part}.py", file], env=environment, cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{part} failed:\n{(done.stdout + done.stderr)[-3000:]}")
        return json.loads(file.with_name("result.json").read_text())


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    names = ("dtype", "prompts", "samples", "tokens", "repeats", "microbatch", "random_weights")
    work = {name: getattr(args, name) for name in names} | {"model": str(args.model.resolve())}
    return work | {"prompt_tokens": None, "ragged": False, "decode_batch": None, "devices": None}


def steps(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Steps of r1jax and of the peers, in turn, by program: medians over all rounds."""
    results: dict[str, list[dict[str, Any]]] = {}
    for turn in range(args.rounds):
        for program in ("r1jax", *args.peers):
            work = settings_of(args)
            if program != "r1jax":
                work["microbatch"] = args.peer_microbatch or args.microbatch
            result = measure(f"{program}_step", work, args)
            results.setdefault(program, []).append(result)
            print(f"round {turn + 1}, {program}: steps of {seconds(result['step_s'])} s", file=sys.stderr)
    return {program: combined(several) for program, several in results.items()}


def combined(several: list[dict[str, Any]]) -> dict[str, Any]:
    """The results of several rounds as one: all timings, their medians, the highest peaks."""
    timings = {name: [x for one in several for x in one[name]] for name in (f"{part}_s" for part in PARTS_TIMED)}
    medians = {name.removesuffix("_s"): statistics.median(values) for name, values in timings.items()}
    split = {name: statistics.median(one["split"][name] for one in several) for name in several[0].get("split", {})}
    peaks = {name: max(one[name] or 0 for one in several) for name in ("peak_bytes", "device_peak_bytes")}
    return several[0] | timings | peaks | {"median": medians, "split": split}


def add_shares(result: dict[str, Any], rates: dict[str, float]) -> None:
    """Adds the least time of each part at the measured rates, and its share of the time taken."""
    least = {part: least_seconds(need, rates) for part, need in result["needs"].items()}
    split, taken = result["split"], result["median"]
    result["least_s"] = least
    result["roofline"] = {
        "prefill": least["prefill"] / split["prefill"] if split["prefill"] else None,
        "decode": least["decode"] / split["decode"],
        "update": (least["update"] + least["optimizer"]) / taken["update"],
        "step": sum(least.values()) / taken["step"],
    }


def seconds(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def peak(result: dict[str, Any]) -> int:
    """The most memory of the device, or of the process where they share it."""
    return result["device_peak_bytes"] or result["peak_bytes"]


def step_tables(results: dict[str, dict[str, Any]], args: argparse.Namespace) -> Iterator[Any]:
    from rich.table import Table

    tokens, ours = args.prompts * args.samples * args.tokens, results["r1jax"]
    title = f"{args.prompts} prompts × {args.samples} samples × {args.tokens} tokens, {args.dtype}"
    heads = (*("", "step", "rollout", "update", "CPU seconds"), "rollout tokens/s", "update tokens/s")
    table = Table(*heads, "peak memory", "first step", title=f"{title}; medians")
    for program, result in results.items():
        step, rollout, update, cpu = (result["median"][part] for part in PARTS_TIMED)
        rates = (f"{tokens / rollout:.0f}", f"{tokens / update:.0f}")
        times = (f"{step:.2f} s", f"{rollout:.2f} s", f"{update:.2f} s", f"{cpu:.1f}")
        table.add_row(program, *times, *rates, f"{peak(result) / 1e9:.2f} GB", f"{result['first_step_s']:.1f} s")
    for program in args.peers:
        ratios = [results[program]["median"][part] / ours["median"][part] for part in PARTS_TIMED]
        memory = f"{peak(results[program]) / peak(ours):.2f}"
        table.add_row(f"{program} / r1jax", *(f"{ratio:.2f}" for ratio in ratios), "", "", memory, "")
    yield table
    split = Table("r1jax", *ours["split"], "compilations", "compiling", title="one step of r1jax")
    compiling = (str(ours["compiles"]), f"{ours['compile_s']:.1f} s")
    split.add_row("time", *(f"{value:.3f} s" for value in ours["split"].values()), *compiling)
    shares = [ours["roofline"].get(name) for name in ours["split"]]
    split.add_row("of the roofline", *("" if share is None else f"{share:.0%}" for share in shares), "", "")
    yield split
    yield f"the whole step is at {ours['roofline']['step']:.0%} of the roofline"


def sweep(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Rollouts of growing work by label; in turn, of each point the round with the median time."""
    points: dict[str, list[dict[str, Any]]] = {}
    for _ in range(args.rounds):
        for label, changes in SWEEPS[args.sweep].items():
            work = settings_of(args) | changes
            result = {"work": changes, **measure("r1jax_rollout", work, args)}
            points.setdefault(label, []).append(result)
            print(f"{label}: {result['rollout_s']:.2f} s", file=sys.stderr)
    return {
        label: sorted(several, key=lambda one: one["rollout_s"])[(len(several) - 1) // 2]
        for label, several in points.items()
    }


def sweep_table(points: dict[str, dict[str, Any]], args: argparse.Namespace) -> Any:
    from rich.table import Table

    ragged = args.sweep == "ragged"
    more = ("mean length", "ragged", "useful tokens/s", "times its useful tokens' time") if ragged else ()
    heads = ("rollout", "tokens/s", "prefill", "a decode step", "prompt", "compiling", "peak memory", *more)
    table = Table("", *heads, title=f"rollouts, {args.dtype}, by {args.sweep}")
    for label, point in points.items():
        row = [
            f"{point['rollout_s']:.2f} s",
            f"{point['tokens_per_s']:.0f}",
            f"{point['prefill_s']:.2f} s",
            f"{point['decode_step_s'] * 1e3:.1f} ms",
            f"{point['prompt_tokens']:.0f}",
            f"{point['compile_s']:.1f} s",
            f"{peak(point) / 1e9:.2f} GB",
        ]
        if ragged:
            row += [
                f"{point['mean_length']:.1f}",
                f"{point['ragged_s']:.2f} s",
                f"{point['useful_tokens_per_s']:.0f}",
                f"{point['times_useful']:.2f}",
            ]
        table.add_row(label, *row)
    return table


def draw(results: dict[str, dict[str, Any]], args: argparse.Namespace, file: Path) -> None:
    """Stacked bars of a step's parts, or a sweep's tokens a second."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 1.5 + 0.5 * len(results)), layout="constrained")
    names = [*results]
    if args.sweep:
        axes.barh(names, [point["tokens_per_s"] for point in results.values()], label="full length")
        if args.sweep == "ragged":
            useful = [point["useful_tokens_per_s"] for point in results.values()]
            axes.barh(names, useful, height=0.4, label="ragged, useful tokens")
            axes.legend()
        axes.set_xlabel("rollout tokens a second")
    else:
        left = [0.0] * len(names)
        for part in ("rollout", "update"):
            widths = [result["median"][part] for result in results.values()]
            axes.barh(names, widths, left=left, label=part)
            left = [x + width for x, width in zip(left, widths, strict=True)]
        axes.set_xlabel(f"seconds a step ({args.prompts} × {args.samples} × {args.tokens}, {args.dtype})")
        axes.legend()
    axes.invert_yaxis()
    figure.savefig(file, dpi=150)


def surroundings(args: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on beside the work."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    cpus = Path("/proc/cpuinfo")
    models = [line.partition(": ")[2] for line in cpus.read_text().splitlines() if "model name" in line]
    return {
        "commit": git.stdout.strip() or "unknown",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "cpu": f"{os.cpu_count()} × {models[0] if models else 'unknown'}",
        "load": round(os.getloadavg()[0], 2),
        "malloc": "as it is" if args.plain_malloc else "keeps freed memory (" + ", ".join(MALLOC) + ")",
        "command": " ".join(["scripts/bench.py", *sys.argv[1:]]),
    }


def main(given: Sequence[str] | None = None) -> None:
    from rich.console import Console

    args, console = arguments(given), Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    about = surroundings(args)
    rates = measure("roofline", settings_of(args), args)
    console.print(f"commit {about['commit']}, {about['cpu']}, load {about['load']}; malloc {about['malloc']}")
    products, reads = rates["flops"] / 1e9, rates["bytes"] / 1e9
    console.print(f"{rates['device']}: {products:,.0f} GFLOP/s in {args.dtype}, reads {reads:,.1f} GB/s")
    if args.sweep:
        results = sweep(args)
        console.print(sweep_table(results, args))
    else:
        results = steps(args)
        add_shares(results["r1jax"], rates)
        for part in step_tables(results, args):
            console.print(part)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    written = {"about": about, "work": settings_of(args), "rates": rates, "results": results}
    args.out.with_suffix(".json").write_text(json.dumps(written, indent=1))
    draw(results, args, args.out.with_suffix(".png"))
    console.print(f"{args.out.with_suffix('.json')} and {args.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
