"""JAX's splash attention (a flash attention for TPUs, Dao et al. 2205.14135) for forwards without a cache.

    if splash.fits(q_BTNH, k_BKTH):
        out_BTNH = splash.attend(q_BTNH, k_BKTH, v_BKTH, segments_BT=segments_BT)

Scores never leave a chip's fast memory, so that long rows fit. The kernel runs on each device's own rows and heads.

Letters: B sequences, P prompts, T query positions, S key positions, N query heads, K key-value heads, H head dim.
"""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from r1jax.models.attention import Shared
from r1jax.parallel.mesh import ROWS, parts

BLOCKS = (1024, 512, 256, 128)  # of positions, the largest for long rows alone; the kernel's lanes are 128
# Positions above which another kernel computes the queries' gradients. The one that computes all writes them once for
# each block of keys, so that its memory grows with their product: at 32k positions it is 64 times that of the queries.
LONG = 8192
TABLE = 900 * 2**10  # bytes of a chip's scalar memory, for 3 bytes about each pair of blocks
WARN = 1024  # positions; shorter rows have few scores


def block_of(queries: int, positions: int) -> int | None:
    """The positions of a block, for a device's queries and for all positions of a row; None where none divides them."""
    sizes = BLOCKS if positions > LONG else [size for size in BLOCKS if size < 1024]
    return next((size for size in sizes if queries % size == 0), None)


def kernel_of(config: Any, mesh: jax.sharding.Mesh) -> str:
    """How forwards without a cache attend on a mesh, for people to read."""
    on_tpus = config.attention == "auto" and mesh.devices.flat[0].platform == "tpu"
    return "splash where rows fit it, else plain" if on_tpus else "plain"


def fits(q_BTNH: jax.Array, k_BKTH: jax.Array, shared: Shared | None = None) -> bool:
    """Whether the mesh that is set is of TPUs, and the kernel can be given whole blocks, rows and groups of heads.

    Warns of long rows for which it cannot, since their scores are in memory then.
    """
    mesh, (B, T, _, _), K = jax.sharding.get_abstract_mesh(), q_BTNH.shape, k_BKTH.shape[1]
    if mesh.empty or mesh.abstract_device is None or mesh.abstract_device.platform != "tpu":
        return False
    positions = T + (0 if shared is None else shared.k_PKSH.shape[2])
    block, lacking = block_of(T // parts("T"), positions), None
    if T % parts("T") or block is None:
        lacking = f"rows of a multiple of {BLOCKS[-1] * parts('T')} positions, not of {T}"
    elif 3 * (T // parts("T") // block) * (positions // block + 1) > TABLE:
        lacking = f"rows of a multiple of {BLOCKS[0] * parts('T')} positions where they are as long, not of {T}"
    elif any(number % parts("B") for number in ([B] if shared is None else [B, len(shared.length_P)])):
        lacking = f"a multiple of {parts('B')} rows, and of prompts, on the mesh"
    elif K % parts("K"):
        lacking = f"a multiple of {parts('K')} key-value heads, not {K}"
    if lacking and positions >= WARN:
        what = f"attention to {positions} positions keeps all scores in memory"
        warnings.warn(f"{what}: the fused kernel needs {lacking}", stacklevel=2)
    return not lacking


def attend(
    q_BTNH: jax.Array,
    k_BKTH: jax.Array,
    v_BKTH: jax.Array,
    *,
    segments_BT: jax.Array | None = None,
    shared: Shared | None = None,
    interpret: bool = False,
) -> jax.Array:
    """What `attention.attend` computes for a forward without a cache; `interpret` runs the kernel on any platform.

    Where positions are split along `context`, each device has its own queries and gathers all keys and values. The
    kernel knows one kind of keys, so that each sequence has a copy of its prompt's before its own.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as library

    (B, T, N, H), mesh = q_BTNH.shape, jax.sharding.get_abstract_mesh()
    if segments_BT is None:
        segments_BT = jnp.zeros((B, T), jnp.int32)
    prompt = 0 if shared is None else shared.k_PKSH.shape[2]
    block, fused = block_of(T // parts("T"), prompt + T), prompt + T <= LONG
    assert block is not None
    S = prompt + -prompt % block + T
    names = ["block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute"]
    sizes: Any = dict.fromkeys(names if fused else [*names, "block_q_dq", "block_kv_dq"], block)
    kernel: Any = library.make_splash_mha(
        library.MultiHeadMask([library.CausalMask((T, S), offset=S - T)] * (N // parts("N"))),
        block_sizes=library.BlockSizes(**sizes, use_fused_bwd_kernel=fused),
        head_shards=1,
        q_seq_shards=parts("T"),
        interpret=interpret,
    )

    def on_device(
        kernel: Any,
        q_BTNH: jax.Array,
        k_BKSH: jax.Array,
        v_BKSH: jax.Array,
        segments_BT: jax.Array,
        segments_BS: jax.Array,
        shared: Shared | None,
    ) -> jax.Array:
        if shared is not None:
            k_BKSH, v_BKSH, segments_BS = after_prompts(k_BKSH, v_BKSH, segments_BS, shared, block)
        q_BNTH = (q_BTNH * H**-0.5).swapaxes(1, 2)
        out_BNTH = jax.vmap(kernel)(q_BNTH, k_BKSH, v_BKSH, library.SegmentIds(segments_BT, segments_BS))
        return out_BNTH.swapaxes(1, 2)

    arguments = kernel, q_BTNH, k_BKTH, v_BKTH, segments_BT, segments_BT, shared
    if mesh.empty:
        return on_device(*arguments)
    of_kernel = kernel.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, "context")))
    queries, keys = PartitionSpec(ROWS, "context", "tensor"), PartitionSpec(ROWS, "tensor")
    prompts = None if shared is None else Shared(keys, keys, PartitionSpec(ROWS))  # pyright: ignore[reportArgumentType]
    specs = (of_kernel, queries, keys, keys, PartitionSpec(ROWS, "context"), PartitionSpec(ROWS), prompts)
    return jax.shard_map(on_device, in_specs=specs, out_specs=queries, check_vma=False)(*arguments)


def after_prompts(
    k_BKTH: jax.Array, v_BKTH: jax.Array, segments_BT: jax.Array, shared: Shared, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Keys, values and segments with those of the prompts before them, padded to whole blocks.

    What is no prompt's is a segment of its own; queries must be of segment 0.
    """
    P, _, prompt, _ = shared.k_PKSH.shape
    group_size, padding = len(k_BKTH) // P, -prompt % block

    def joined(prompts: jax.Array, own: jax.Array) -> jax.Array:
        padded = jnp.pad(prompts, ((0, 0), (0, 0), (0, padding), (0, 0)))
        return jnp.concatenate([jnp.repeat(padded, group_size, axis=0), own], axis=2)

    hidden_PS = (jnp.arange(prompt + padding)[None] >= shared.length_P[:, None]).astype(jnp.int32)
    segments = jnp.concatenate([jnp.repeat(hidden_PS, group_size, axis=0), segments_BT], axis=1)
    return joined(shared.k_PKSH, k_BKTH), joined(shared.v_PKSH, v_BKTH), segments
