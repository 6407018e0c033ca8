"""JAX's splash attention (a flash attention for TPUs, Dao et al. 2205.14135) for forwards without a cache.

    if splash.fits(q_BTNH, k_BTKH):
        out_BTNH = splash.attend(q_BTNH, k_BTKH, v_BTKH, segments_BT)

Scores never leave a chip's fast memory, so that long rows fit. The kernel runs on each device's own rows and heads.

Letters: B sequences, T positions, N query heads, K key-value heads, H head dim.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from r1jax.parallel.mesh import ROWS, parts

BLOCKS = (512, 256, 128)  # of positions; the kernel's lanes are 128


def fits(q_BTNH: jax.Array, k_BTKH: jax.Array) -> bool:
    """Whether the mesh that is set is of TPUs, and the kernel can be given whole blocks, rows and groups of heads."""
    mesh, (B, T, _, _), K = jax.sharding.get_abstract_mesh(), q_BTNH.shape, k_BTKH.shape[2]
    if mesh.empty or mesh.abstract_device is None or mesh.abstract_device.platform != "tpu":
        return False
    return T % BLOCKS[-1] == 0 and parts("T") == 1 and B % parts("B") == 0 and K % parts("K") == 0


def attend(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array | None = None,
    *,
    interpret: bool = False,
) -> jax.Array:
    """What `attention.attend` computes for a forward without a cache; `interpret` runs the kernel on any platform."""
    from jax.experimental.pallas.ops.tpu import splash_attention as library

    B, T, _, H = q_BTNH.shape
    if segments_BT is None:
        segments_BT = jnp.zeros((B, T), jnp.int32)
    block = next(size for size in BLOCKS if T % size == 0)
    sizes = dict.fromkeys(("block_q", "block_kv", "block_kv_compute"), block)
    sizes |= dict.fromkeys(("block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute"), block)

    def on_device(q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, segments_BT: jax.Array) -> jax.Array:
        mask = library.MultiHeadMask([library.CausalMask((T, T))] * q_BTNH.shape[2])
        kernel: Any = library.make_splash_mha(
            mask,
            block_sizes=library.BlockSizes(**sizes, use_fused_bwd_kernel=True),
            head_shards=1,
            q_seq_shards=1,
            interpret=interpret,
        )
        heads_first = (x.swapaxes(1, 2) for x in (q_BTNH * H**-0.5, k_BTKH, v_BTKH))
        return jax.vmap(kernel)(*heads_first, library.SegmentIds(segments_BT, segments_BT)).swapaxes(1, 2)

    if jax.sharding.get_abstract_mesh().empty:
        return on_device(q_BTNH, k_BTKH, v_BTKH, segments_BT)
    heads = PartitionSpec(ROWS, None, "tensor", None)
    specs = (heads, heads, heads, PartitionSpec(ROWS, None))
    return jax.shard_map(on_device, in_specs=specs, out_specs=heads, check_vma=False)(
        q_BTNH, k_BTKH, v_BTKH, segments_BT
    )
