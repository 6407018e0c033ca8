"""JAX's splash attention (a flash attention for TPUs, Dao et al. 2205.14135) for forwards without a cache.

    if splash.fits(q_BTNH, k_BKTH):
        out_BTNH = splash.attend(q_BTNH, k_BKTH, v_BKTH, segments_BT=segments_BT)

Scores never leave a chip's fast memory, so that long rows fit. The kernel runs on each device's own rows and heads.

Letters: B sequences, P prompts, T query positions, S key positions, N query heads, K key-value heads, H head dim.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from r1jax.models.attention import Shared
from r1jax.parallel.mesh import ROWS, parts

BLOCKS = (512, 256, 128)  # of positions; the kernel's lanes are 128


def fits(q_BTNH: jax.Array, k_BKTH: jax.Array, shared: Shared | None = None) -> bool:
    """Whether the mesh that is set is of TPUs, and the kernel can be given whole blocks, rows and groups of heads."""
    mesh, (B, T, _, _), K = jax.sharding.get_abstract_mesh(), q_BTNH.shape, k_BKTH.shape[1]
    if mesh.empty or mesh.abstract_device is None or mesh.abstract_device.platform != "tpu":
        return False
    rows = [B] if shared is None else [B, len(shared.length_P)]
    whole = all(number % parts("B") == 0 for number in rows)
    return T % BLOCKS[-1] == 0 and parts("T") == 1 and whole and K % parts("K") == 0


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

    The kernel knows one kind of keys, so that each sequence has a copy of its prompt's before its own.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as library

    B, T, _, H = q_BTNH.shape
    if segments_BT is None:
        segments_BT = jnp.zeros((B, T), jnp.int32)
    block = next(size for size in BLOCKS if T % size == 0)
    sizes = dict.fromkeys(("block_q", "block_kv", "block_kv_compute"), block)
    sizes |= dict.fromkeys(("block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute"), block)

    def on_device(
        q_BTNH: jax.Array, k_BKTH: jax.Array, v_BKTH: jax.Array, segments_BT: jax.Array, shared: Shared | None
    ) -> jax.Array:
        k_BKSH, v_BKSH, segments_BS = k_BKTH, v_BKTH, segments_BT
        if shared is not None:
            k_BKSH, v_BKSH, segments_BS = after_prompts(k_BKTH, v_BKTH, segments_BT, shared, block)
        S = k_BKSH.shape[2]
        mask = library.MultiHeadMask([library.CausalMask((T, S), offset=S - T)] * q_BTNH.shape[2])
        kernel: Any = library.make_splash_mha(
            mask,
            block_sizes=library.BlockSizes(**sizes, use_fused_bwd_kernel=True),
            head_shards=1,
            q_seq_shards=1,
            interpret=interpret,
        )
        q_BNTH = (q_BTNH * H**-0.5).swapaxes(1, 2)
        out_BNTH = jax.vmap(kernel)(q_BNTH, k_BKSH, v_BKSH, library.SegmentIds(segments_BT, segments_BS))
        return out_BNTH.swapaxes(1, 2)

    if jax.sharding.get_abstract_mesh().empty:
        return on_device(q_BTNH, k_BKTH, v_BKTH, segments_BT, shared)
    queries, keys, rows = (PartitionSpec(ROWS, *axes) for axes in ((None, "tensor"), ("tensor",), ()))
    prompts = None if shared is None else Shared(keys, keys, rows)  # pyright: ignore[reportArgumentType]
    specs = (queries, keys, keys, rows, prompts)
    return jax.shard_map(on_device, in_specs=specs, out_specs=queries, check_vma=False)(
        q_BTNH, k_BKTH, v_BKTH, segments_BT, shared
    )


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
