"""Sampling in groups, as one jitted function: each prompt is prefilled once, and its G samples share that cache.

    sample = make_sampler(model, mesh, stop_ids=tokenizer.stop_ids, group_size=8, max_new=64, temperature=1.0)
    with jax.set_mesh(mesh):
        samples = sample(params, prompt_PS, prompt_length_P, prompt_id_P, key)

Decoding begins with all sequences at once; when half of a device's are finished, it goes on with the others alone.

Letters: P prompts, G samples per prompt, B = P·G sequences, S prompt positions, T completion positions, D model width,
V vocabulary, I ids a token is drawn from.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from r1jax.models import Model, forward, prefill, unembed
from r1jax.models.kv_cache import Cache, Prefix
from r1jax.models.logprobs import scaled_logits
from r1jax.parallel.mesh import by_rows, constrain, own_rows_of, parts, sharding
from r1jax.sampling.draw import draw, most_probable

LEAST_ROWS = 8  # sequences on a device below which a smaller batch saves no time


@flax.struct.dataclass
class Samples:
    """Row b is sample b % G of prompt b // G. Past `length_B` tokens and log-probs are 0 and the support is -1.

    `length_B` includes the stop token; `truncated_B` marks a sample that reached the length limit without one.
    Log-probs are those of `models.logprobs` at the sampling temperature (greedy ones at temperature 1), over the ids
    that top-k, top-p and min-p left. With top-k `support_BTI` are these ids, and -1 where there are fewer.
    """

    completion_BT: jax.Array
    length_B: jax.Array
    logp_BT: jax.Array
    truncated_B: jax.Array
    support_BTI: jax.Array | None = None


@flax.struct.dataclass
class Rows:
    """The sequences that are being decoded; `row_B` counts each among those that its device began with."""

    row_B: jax.Array
    key_B: jax.Array
    hidden_BD: jax.Array
    done_B: jax.Array
    samples: Samples


@flax.struct.dataclass
class Decode:
    """The state of a decoding loop: the next position, the sequences, and the caches of completions and of prompts."""

    position: jax.Array
    rows: Rows
    cache: Cache
    prefix: Prefix


@functools.cache
def make_sampler(
    model: Model,
    mesh: Mesh,
    *,
    stop_ids: tuple[int, ...],
    group_size: int,
    max_new: int,
    temperature: float,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> Callable[[Any, jax.Array, jax.Array, jax.Array, jax.Array], Samples]:
    """A jitted function (params, prompt_PS, prompt_length_P, prompt_id_P, key) → Samples.

    A sample's random numbers depend on (key, its prompt's id, its number in the group, position) alone, so neither the
    batch nor sharding changes them. Where these add in another order, a number at the very border between two ids may
    fall on the other side: of 2,000 draws from 49,000 ids in float32, two did. `params` are sharded by
    mesh.SAMPLE_WEIGHTS. Decoding ends when every sequence has its stop token. The same arguments return the same
    function, which compiles once, whatever the lengths.
    """
    G, T, vocabulary = group_size, max_new, model.vocabulary
    limited = temperature > 0 and (top_k is not None or top_p < 1 or min_p > 0)
    keeps_support = limited and top_k is not None
    ids = min(top_k or vocabulary, vocabulary)

    def start(params: Any, prompt_PS: jax.Array, prompt_length_P: jax.Array, key_P: jax.Array) -> Decode:
        B = len(prompt_PS) * G
        hidden_PD, prefix = prefill(model, params, prompt_PS, prompt_length_P)
        rows = Rows(
            row_B=jnp.tile(jnp.arange(B // parts("B")), parts("B")),
            key_B=jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(key_P, jnp.arange(G)).reshape(B),
            hidden_BD=constrain(jnp.repeat(hidden_PD, G, axis=0), "BD"),
            done_B=jnp.zeros(B, bool),
            samples=Samples(
                completion_BT=jnp.zeros((B, T), jnp.int32),
                length_B=jnp.zeros(B, jnp.int32),
                logp_BT=jnp.zeros((B, T), jnp.float32),
                truncated_B=jnp.ones(B, bool),
                support_BTI=jnp.full((B, T, ids), -1, jnp.int32) if keeps_support else None,
            ),
        )
        return Decode(jnp.zeros((), jnp.int32), rows, model.empty_cache(B, T), prefix)

    def step(params: Any, s: Decode) -> Decode:
        position, done_B, so_far = s.position, s.rows.done_B, s.rows.samples
        logits_B1V = unembed(model, params, s.rows.hidden_BD[:, None])
        logits_BV = scaled_logits(logits_B1V[:, 0], temperature=temperature or 1.0, vocabulary=vocabulary)
        id_BI = None
        if limited:
            logits_BV, id_BI = most_probable(logits_BV, top_k=ids, top_p=top_p, min_p=min_p)
        key_B = jax.vmap(jax.random.fold_in, (0, None))(s.rows.key_B, position)
        token_B, logp_B = draw(logits_BV, key_B, greedy=temperature == 0)
        if id_BI is not None:
            token_B = jnp.take_along_axis(id_BI, token_B[:, None], axis=1)[:, 0]
        token_B, logp_B = jnp.where(done_B, 0, token_B), jnp.where(done_B, 0.0, logp_B)
        stopped_B = jnp.isin(token_B, jnp.array(stop_ids)) & ~done_B
        support_BTI = so_far.support_BTI
        if support_BTI is not None and id_BI is not None:
            support_BTI = support_BTI.at[:, position].set(jnp.where(done_B[:, None], -1, id_BI))
        samples = Samples(
            completion_BT=so_far.completion_BT.at[:, position].set(token_B),
            length_B=so_far.length_B + ~done_B,
            logp_BT=so_far.logp_BT.at[:, position].set(logp_B),
            truncated_B=so_far.truncated_B & ~stopped_B,
            support_BTI=support_BTI,
        )
        prompt_length_B = jnp.repeat(s.prefix.length_P, len(done_B) // len(s.prefix.length_P))
        position_B1 = (prompt_length_B + position)[:, None]
        hidden_B1D, cache = forward(model, params, token_B[:, None], position_B1, None, s.cache, s.prefix)
        rows = Rows(s.rows.row_B, s.rows.key_B, hidden_B1D[:, 0], done_B | stopped_B, samples)
        return Decode(position + 1, rows, cache, s.prefix)

    def sample(
        params: Any, prompt_PS: jax.Array, prompt_length_P: jax.Array, prompt_id_P: jax.Array, key: jax.Array
    ) -> Samples:
        P, S = prompt_PS.shape
        shards = parts("B")
        state = start(params, prompt_PS, prompt_length_P, jax.vmap(jax.random.fold_in, (None, 0))(key, prompt_id_P))
        samples = state.rows.samples
        for smaller in (*batch_sizes(P * G // shards, prompt_slots=S, slots=T), 0):

            def unfinished(s: Decode, smaller: int = smaller) -> jax.Array:
                running = (~s.rows.done_B).reshape(shards, -1).sum(axis=1).max()
                return (s.position < T) & (running > smaller)

            state = jax.lax.while_loop(unfinished, functools.partial(step, params), state)
            samples = with_rows(samples, state.rows)
            if smaller:
                state = without_finished(state, smaller)
        return samples

    rows = sharding(mesh, "B")
    return jax.jit(sample, in_shardings=(None, rows, rows, rows, sharding(mesh, "")), out_shardings=rows)


def batch_sizes(rows: int, *, prompt_slots: int, slots: int) -> list[int]:
    """To how many sequences a device's batch of `rows` shrinks in turn, each time when no more of them are unfinished.

    In a shrunken batch each sequence has a copy of its prompt's cache. A size whose caches would be larger than those
    of all completions is left out, and so are small ones, where a step takes as long with fewer sequences.
    """
    sizes = [rows // part for part in (2, 4, 8) if rows % part == 0 and rows // part >= LEAST_ROWS]
    return [size for size in sizes if size * (prompt_slots + slots) <= rows * slots]


def without_finished(s: Decode, size: int) -> Decode:
    """The state with `size` of each device's sequences, all unfinished ones among them."""
    group_size = len(s.rows.row_B) // len(s.prefix.length_P)
    keep_B = by_rows(lambda done_B: jnp.argsort(done_B, stable=True)[:size], s.rows.done_B)
    rows = jax.tree.map(lambda x: own_rows_of(x, keep_B), s.rows)
    return Decode(s.position, rows, s.cache.rows(keep_B), s.prefix.rows(keep_B // group_size))


def with_rows(samples: Samples, rows: Rows) -> Samples:
    """All samples, with those of `rows` as they are now."""

    def put(x: jax.Array, new: jax.Array) -> jax.Array:
        return by_rows(lambda x, new, row_B: x.at[row_B].set(new), x, new, rows.row_B)

    return jax.tree.map(put, samples, rows.samples)
