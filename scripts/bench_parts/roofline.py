"""What this machine can do, measured, and what a GRPO step needs at the least.

    python scripts/bench_parts/roofline.py WORK  # the rates of the work's dtype, on the default device

A product of large square matrices gives the floating-point rate, a matrix times a vector and a sum the rate at which
memory is read; each is the best of several. The needs count each prompt once for its group, no padding, and in a
decode step one reading of the weights and of the filled part of the cache.
"""

from __future__ import annotations

import time
from typing import Any

REPEATS = 7


def measure(dtype: str) -> dict[str, Any]:
    """{"flops": a second, "bytes": a second} of the default device."""
    import jax
    import jax.numpy as jnp

    cpu = jax.default_backend() == "cpu"
    side, read = (2048, 2**28) if cpu else (8192, 2**32)  # 256 MB and 4 GB: more than any cache

    def best(function: Any, *arguments: Any) -> float:
        jitted = jax.jit(function)
        jax.block_until_ready(jitted(*arguments))
        seconds = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            jax.block_until_ready(jitted(*arguments))
            seconds.append(time.perf_counter() - begin)
        return min(seconds)

    with jax.default_matmul_precision("float32" if dtype == "float32" else None):
        square = jax.random.normal(jax.random.key(0), (side, side), dtype)
        product = best(jnp.matmul, square, square)
        large = jnp.ones((read // 4 // side, side), jnp.float32)
        reads = [best(jnp.matmul, large, jnp.ones(side, jnp.float32)), best(jnp.max, large)]
    device = jax.devices()[0]
    return {"flops": 2 * side**3 / product, "bytes": large.nbytes / min(reads), "device": device.device_kind}


def needs(config: Any, *, prompts: int, samples: int, prompt: float, tokens: float, bytes_each: int) -> dict[str, Any]:
    """{part: {"flops", "bytes"}} of a step's parts, for prompts and completions of these mean lengths.

    `bytes_each` is the size of a number in compute type.
    """
    c, B = config, prompts * samples
    heads = c.num_attention_heads * c.head_dim
    kv_heads = c.num_key_value_heads * c.head_dim
    layer = c.hidden_size * (2 * heads + 2 * kv_heads + 3 * c.intermediate_size)
    body, head, L = layer * c.num_hidden_layers, c.vocab_size * c.hidden_size, c.num_hidden_layers
    weights, kv = (body + head) * bytes_each, 2 * L * kv_heads * bytes_each

    prefill = prompts * prompt * (2 * body + 2 * L * heads * prompt)
    completions = B * tokens * (2 * body + 2 * head + 4 * L * heads * (prompt + tokens / 2))
    cache = tokens * kv * (prompts * prompt + B * tokens / 2)
    parameters = (body + head) * (1 if c.tie_word_embeddings else 2)
    return {
        "prefill": {"flops": prefill + 2 * prompts * head, "bytes": weights},
        "decode": {"flops": completions, "bytes": tokens * weights + cache},
        "update": {"flops": 3 * (prefill + completions), "bytes": 0},
        "optimizer": {"flops": 0, "bytes": 8 * 4 * parameters},  # weights, gradients, two moments: read and written
    }


def least_seconds(need: dict[str, float], rates: dict[str, float]) -> float:
    """The time that a part takes at the measured rates: that of its products or of its reads, whichever is more."""
    return max(need["flops"] / rates["flops"], need["bytes"] / rates["bytes"])


def main() -> None:
    from work import read_work, write_result

    write_result(measure(read_work()["dtype"]))


if __name__ == "__main__":
    main()
