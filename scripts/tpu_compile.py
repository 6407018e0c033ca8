"""Compiles r1jax's own programs for TPU slices, without a TPU, and prints what the compiler makes of them.

    uv run --with "jax[tpu]" scripts/tpu_compile.py                          # every case, tens of minutes on two cores
    uv run --with "jax[tpu]" scripts/tpu_compile.py --case 0.5b --program update

The functions are those that training runs (`programs.grpo.functions`), compiled by libtpu for their abstract arguments.
Memory is the compiler's. Time is the sum of its estimated cycles, a loop's body times its trips, without collectives:
it compares programs and predicts nothing. Collectives are counted in the optimised HLO, also times trips; `hlo_cost`
says which bytes. The bound is arithmetic: of an update and of `prepare` the model's FLOPs, recomputation not counted,
at the chip's peak; of a rollout the bytes of the weights and of the whole cache, read once a step.
"""

from __future__ import annotations

import argparse
import os
import time
import types
from dataclasses import dataclass
from typing import Any, NamedTuple

from hlo_cost import program_cost

os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_STDERR_LOG_LEVEL": "3", "TPU_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
os.environ |= {"TPU_ACCELERATOR_TYPE": "v5litepod-8", "TPU_WORKER_HOSTNAMES": "localhost"}  # or libtpu complains
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # two compilations at once disturb nothing


class Chip(NamedTuple):
    """Figures of one chip, per second: bfloat16 FLOPs, bytes of its memory, bytes to other chips, cycles."""

    flops: float
    bytes: float
    sent: float
    cycles: float


CHIPS = {"v5e": Chip(197e12, 819e9, 200e9, 1.5e9), "v5p": Chip(459e12, 2765e9, 600e9, 1.75e9)}  # as published
PROMPT, PROMPTS, GROUP, MINIBATCHES = 512, 128, 8, 4  # as in configs/r1_zero_qwen2.5-*.yaml
QWEN = {"vocab_size": 152_064, "qkv_bias": True, "rope_theta": 1e6, "dtype": "bfloat16", "remat": "full"}
MODELS: dict[str, dict[str, Any]] = {
    "Qwen2.5-0.5B": QWEN
    | {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
    | {"num_attention_heads": 14, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 151_936},
    "Qwen2.5-7B": QWEN
    | {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "tie_word_embeddings": False}
    | {"num_attention_heads": 28, "num_key_value_heads": 4, "head_dim": 128},
}


@dataclass(frozen=True)
class Case:
    """A model on a slice of chips, with the axes of its mesh and the longest completion."""

    model: str
    slice: str
    fsdp: int
    tensor: int = 1
    completion: int = 2048

    def __str__(self) -> str:
        tensor = f" tensor={self.tensor}" if self.tensor > 1 else ""
        return f"{self.model} {self.slice} fsdp={self.fsdp}{tensor}"


CASES = {
    "0.5b": Case("Qwen2.5-0.5B", "v5e:2x4", fsdp=8, completion=1024),
    "7b-v5p": Case("Qwen2.5-7B", "v5p:2x2x1", fsdp=4),
    "7b-v5e": Case("Qwen2.5-7B", "v5e:8x8", fsdp=16, tensor=4),
}
COLUMNS = "program", "peak GiB", "TFLOPs", "collectives", "GB sent", "sending", "time", "bound", "of bound", "compiled"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--program", nargs="*", choices=BOUNDS, default=list(BOUNDS))
    parser.add_argument("--hlo", help="a folder for the optimised HLO")
    options = parser.parse_args()

    from rich.console import Console
    from rich.table import Table

    table = Table("case", *COLUMNS, title="a chip's share", caption="time: the compiler's cycles, without collectives")
    for name in options.case:
        for program in options.program:
            table.add_row(str(CASES[name]), program, *row(CASES[name], program, options.hlo))
            Console(width=150).print(table)


def row(case: Case, program: str, folder: str | None) -> list[str]:
    """One line of the table."""
    from jax.errors import JaxRuntimeError

    chip = CHIPS[case.slice.partition(":")[0]]
    flops, bound = BOUNDS[program](case, chip)
    begin = time.perf_counter()
    try:
        compiled = jitted(case, program)
    except JaxRuntimeError as error:  # the compiler's own: that it does not fit
        first = str(error).splitlines()[0]
        return [first[:60], f"{flops / 1e12:.1f}", *[""] * 4, f"{bound:.2f} s", "", ""]
    seconds, text, memory = time.perf_counter() - begin, compiled.as_text(), compiled.memory_analysis()
    if folder:
        with open(os.path.join(folder, f"{case.model}-{case.slice}-{program}.hlo"), "w") as file:
            file.write(text)
    # A rollout's loop ends when all rows have stopped; here, after the longest completion.
    cost = program_cost(text, unknown_trips=case.completion)
    count, sent = sum(cost.collectives.values()), cost.bytes_sent()
    peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    peak -= memory.alias_size_in_bytes
    estimate = cost.cycles / chip.cycles
    times = [f"{estimate:.2f} s", f"{bound:.2f} s", f"{bound / estimate:.0%}", f"{seconds:.0f} s"]
    collectives = f"{count:,}", f"{sent / 1e9:,.1f}", f"{sent / chip.sent:.2f} s"
    return [f"{peak / 2**30:.1f}", f"{flops / 1e12:.1f}", *collectives, *times]


def jitted(case: Case, program: str) -> Any:
    """One of a GRPO stage's functions, compiled for the slice."""
    import jax
    from jax.experimental import topologies
    from jax.sharding import AxisType

    from r1jax.config.experiment import GrpoStage
    from r1jax.models import ModelConfig, make_model
    from r1jax.parallel.mesh import AXES
    from r1jax.programs.grpo import functions
    from r1jax.sampling.loaded_model import LoadedModel

    devices = topologies.get_topology_desc(platform="tpu", topology_name=case.slice).devices
    sizes = {"fsdp": case.fsdp, "tensor": case.tensor}
    shape = tuple(sizes.get(axis, 1) for axis in AXES)
    mesh = jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)
    settings = {"prompts_per_step": PROMPTS, "group_size": GROUP, "minibatches": MINIBATCHES, "microbatch": 2}
    settings |= {"steps": 100, "max_completion_length": case.completion, "rewards": {"accuracy": 1.0}}
    settings |= {"kl": {"coef": 1e-4}, "optimizer": {"learning_rate": 1e-6}}
    stage = GrpoStage.model_validate({"name": "rl", "program": "grpo"} | settings)
    tokenizer: Any = types.SimpleNamespace(stop_ids=(151_643,))
    loaded = LoadedModel(make_model(ModelConfig(**MODELS[case.model]), 151_665), tokenizer, mesh, None)
    with loaded.devices():
        return functions(loaded, stage, PROMPT)[program].compile()


def update_bound(case: Case, chip: Chip) -> tuple[float, float]:
    """FLOPs of a chip for forward and backward of an update, and their seconds at the chip's peak."""
    flops = 3 * forward_flops(case) * GROUP * PROMPTS / MINIBATCHES
    return flops, flops / chip.flops


def prepare_bound(case: Case, chip: Chip) -> tuple[float, float]:
    """The same for the reference's log-probs of a whole rollout, a forward alone."""
    flops = forward_flops(case) * GROUP * PROMPTS
    return flops, flops / chip.flops


def rollout_bound(case: Case, chip: Chip) -> tuple[float, float]:
    """FLOPs of a chip to prefill and decode, and the seconds to read weights and cache once for each new token."""
    c = types.SimpleNamespace(**MODELS[case.model])
    slots = PROMPTS * (PROMPT + GROUP * case.completion) / case.fsdp
    slot = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim  # numbers of a token's keys and values
    weights = (c.num_hidden_layers * layer_weights(c) + c.hidden_size * c.vocab_size) / case.tensor
    step = 2 * (weights + slots * slot / case.tensor) / chip.bytes
    return 2 * weights * slots, step * case.completion


def forward_flops(case: Case) -> float:
    """FLOPs of a chip for a forward of one prompt with its completion, whose positions alone reach the head."""
    c, J = types.SimpleNamespace(**MODELS[case.model]), PROMPT + case.completion
    attention = J * c.num_attention_heads * c.head_dim  # scores and values, of half the positions since it is causal
    layers = c.num_hidden_layers * J * (layer_weights(c) + attention)
    return 2 * (layers + case.completion * c.hidden_size * c.vocab_size) / (case.fsdp * case.tensor)


def layer_weights(c: Any) -> int:
    """How many numbers the matrices of a layer have."""
    heads = 2 * c.num_attention_heads + 2 * c.num_key_value_heads
    return c.hidden_size * (heads * c.head_dim + 3 * c.intermediate_size)


BOUNDS = {"rollout": rollout_bound, "prepare": prepare_bound, "update": update_bound}

if __name__ == "__main__":
    main()
