"""Sampling in groups, as one jitted function: each prompt is prefilled once, and its G samples share that cache.

    sample = make_sampler(model, mesh, stop_ids=tokenizer.stop_ids, group_size=8, max_new=64, temperature=1.0)
    with jax.set_mesh(mesh):
        samples = sample(params, prompt_PS, prompt_length_P, prompt_id_P, key)

Decoding begins with all sequences at once, or with `decode_batch` of them on each device: then the next ones take the
places of those that end. When none waits and at most half run on each device, it goes on with these alone.

Letters: P prompts, G samples per prompt, B sequences (P·G, or those that are being decoded), S prompt positions, T
completion positions, D model width, V vocabulary, I ids a token is drawn from.
"""

from __future__ import annotations

import dataclasses
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
REFILLED = 16  # one in so many of a device's places is free before they are filled again, which stores all samples


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
    """The sequences that are being decoded; `row_B` counts each among all of its device.

    Their `samples` have the token that was drawn as the n-th of the loop at position n % T: `in_order` undoes it.
    """

    row_B: jax.Array
    key_B: jax.Array
    hidden_BD: jax.Array
    done_B: jax.Array
    samples: Samples


@flax.struct.dataclass
class Decode:
    """The state of a decoding loop: the sequences, and the caches of their completions and of their prompts.

    How many tokens the loop has drawn is the cache's `filled`, and a sequence began at its `began_B`.
    """

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
    decode_batch: int | None = None,
) -> Callable[[Any, jax.Array, jax.Array, jax.Array, jax.Array], Samples]:
    """A jitted function (params, prompt_PS, prompt_length_P, prompt_id_P, key) → Samples.

    A sample's random numbers depend on (key, its prompt's id, its number in the group, position) alone, so neither the
    batch nor sharding changes them. Where these add in another order, a number at the very border between two ids may
    fall on the other side: of 2,000 draws from 49,000 ids in float32, two did. `params` are sharded by
    mesh.SAMPLE_WEIGHTS. Decoding ends when every sequence has its stop token or T tokens. Each device decodes at most
    `decode_batch` sequences at once (None: all). The same arguments return the same function, which compiles once,
    whatever the lengths.
    """
    G, T, vocabulary = group_size, max_new, model.vocabulary
    limited = temperature > 0 and (top_k is not None or top_p < 1 or min_p > 0)
    keeps_support = limited and top_k is not None
    ids = min(top_k or vocabulary, vocabulary)

    def no_samples(B: int) -> Samples:
        return Samples(
            completion_BT=jnp.zeros((B, T), jnp.int32),
            length_B=jnp.zeros(B, jnp.int32),
            logp_BT=jnp.zeros((B, T), jnp.float32),
            truncated_B=jnp.ones(B, bool),
            support_BTI=jnp.full((B, T, ids), -1, jnp.int32) if keeps_support else None,
        )

    def begin(row_B: jax.Array, hidden_PD: jax.Array, key_P: jax.Array) -> Rows:
        return Rows(
            row_B=row_B,
            key_B=jax.vmap(jax.random.fold_in)(own_rows_of(key_P, row_B // G), row_B % G),
            hidden_BD=constrain(own_rows_of(hidden_PD, row_B // G), "BD"),
            done_B=jnp.zeros(len(row_B), bool),
            samples=no_samples(len(row_B)),
        )

    def step(params: Any, s: Decode) -> Decode:
        done_B, so_far = s.rows.done_B, s.rows.samples
        column, position_B = s.cache.filled % T, s.cache.filled - s.cache.began_B
        logits_B1V = unembed(model, params, s.rows.hidden_BD[:, None])
        logits_BV = scaled_logits(logits_B1V[:, 0], temperature=temperature or 1.0, vocabulary=vocabulary)
        id_BI = None
        if limited:
            logits_BV, id_BI = most_probable(logits_BV, top_k=ids, top_p=top_p, min_p=min_p)
        key_B = jax.vmap(jax.random.fold_in)(s.rows.key_B, position_B)
        token_B, logp_B = draw(logits_BV, key_B, greedy=temperature == 0)
        if id_BI is not None:
            token_B = jnp.take_along_axis(id_BI, token_B[:, None], axis=1)[:, 0]
        stopped_B = jnp.isin(token_B, jnp.array(stop_ids)) & ~done_B

        def put(x: jax.Array, new: jax.Array) -> jax.Array:
            return x.at[:, column].set(jnp.where(_like(done_B, new), x[:, column], new))

        samples = Samples(
            completion_BT=put(so_far.completion_BT, token_B),
            length_B=so_far.length_B + ~done_B,
            logp_BT=put(so_far.logp_BT, logp_B),
            truncated_B=so_far.truncated_B & ~stopped_B,
            support_BTI=None if so_far.support_BTI is None or id_BI is None else put(so_far.support_BTI, id_BI),
        )
        prompt_length_B = jnp.repeat(s.prefix.length_P, len(done_B) // len(s.prefix.length_P))
        position_B1 = (prompt_length_B + position_B)[:, None]
        hidden_B1D, cache = forward(model, params, token_B[:, None], position_B1, None, s.cache, s.prefix)
        done_B |= stopped_B | (position_B == T - 1)
        return Decode(Rows(s.rows.row_B, s.rows.key_B, hidden_B1D[:, 0], done_B, samples), cache, s.prefix)

    def sample(
        params: Any, prompt_PS: jax.Array, prompt_length_P: jax.Array, prompt_id_P: jax.Array, key: jax.Array
    ) -> Samples:
        P, S = prompt_PS.shape
        shards = parts("B")
        rows = P * G // shards
        batch = min(decode_batch or rows, rows)
        hidden_PD, prefix = prefill_in_parts(model, params, prompt_PS, prompt_length_P, batch)
        key_P = jax.vmap(jax.random.fold_in, (None, 0))(key, prompt_id_P)
        row_B = jnp.tile(jnp.arange(batch), shards)
        state = Decode(begin(row_B, hidden_PD, key_P), model.empty_cache(batch * shards, T), prefix)
        samples = no_samples(P * G)

        def waiting(s: Decode) -> jax.Array:
            return rows - 1 - s.rows.row_B.reshape(shards, batch).max(axis=1)

        def wait(s: Decode) -> jax.Array:
            finished = s.rows.done_B.reshape(shards, batch).sum(axis=1)
            return ~((finished >= -(-batch // REFILLED)) & (waiting(s) > 0)).any()

        def decode_and_refill(loop: tuple[Decode, Samples]) -> tuple[Decode, Samples]:
            s = jax.lax.while_loop(wait, functools.partial(step, params), loop[0])
            samples = with_rows(loop[1], s)
            row_B = by_rows(functools.partial(next_rows, rows=rows), s.rows.done_B, s.rows.row_B)
            new_B = row_B != s.rows.row_B

            def put(new: jax.Array, old: jax.Array) -> jax.Array:
                return jnp.where(_like(new_B, new), new, old)

            return Decode(
                jax.tree.map(put, begin(row_B, hidden_PD, key_P), s.rows),
                dataclasses.replace(s.cache, began_B=jnp.where(new_B, s.cache.filled, s.cache.began_B)),
                s.prefix.with_rows(prefix, row_B // G, new_B),
            ), samples

        if batch < rows:  # each sequence has a copy of its prompt's cache
            state = dataclasses.replace(state, prefix=prefix.rows(row_B // G))
            loop = jax.lax.while_loop(lambda loop: (waiting(loop[0]) > 0).any(), decode_and_refill, (state, samples))
            state, samples = loop
        for smaller in (*batch_sizes(batch, prompt_slots=S if batch == rows else 0, slots=T), 0):

            def unfinished(s: Decode, smaller: int = smaller) -> jax.Array:
                return (~s.rows.done_B).reshape(shards, -1).sum(axis=1).max() > smaller

            state = jax.lax.while_loop(unfinished, functools.partial(step, params), state)
            samples = with_rows(samples, state)
            if smaller:
                state = without_finished(state, smaller)
        return samples

    rows = sharding(mesh, "B")
    return jax.jit(sample, in_shardings=(None, rows, rows, rows, sharding(mesh, "")), out_shardings=rows)


def prefill_in_parts(
    model: Model, params: Any, prompt_PS: jax.Array, length_P: jax.Array, most: int
) -> tuple[jax.Array, Prefix]:
    """`prefill`, on each device of at most so many prompts at once."""
    shards = parts("P")
    own = len(prompt_PS) // shards
    if own <= most:
        return prefill(model, params, prompt_PS, length_P)
    number = -(-own // most)
    part = -(-own // number)

    def fill(i: jax.Array, found: tuple[jax.Array, Prefix]) -> tuple[jax.Array, Prefix]:
        first = jnp.full(shards, jnp.minimum(i * part, own - part))  # the last parts may overlap
        row_P = (first[:, None] + jnp.arange(part)[None]).reshape(-1)
        new = prefill(model, params, own_rows_of(prompt_PS, row_P), own_rows_of(length_P, row_P))

        def put(x: jax.Array, new: jax.Array, axis: int) -> jax.Array:
            def place(x: jax.Array, new: jax.Array, first: jax.Array) -> jax.Array:
                return jax.lax.dynamic_update_slice_in_dim(x, new, first[0], axis)

            return by_rows(place, x, new, first, axes=(axis, axis, 0))

        (hidden_PD, prefix), (new_hidden, new_prefix) = found, new
        k_LPKSH, v_LPKSH = (put(x, part, 1) for x, part in zip(prefix[:2], new_prefix[:2], strict=True))
        return put(hidden_PD, new_hidden, 0), Prefix(k_LPKSH, v_LPKSH, length_P)

    hidden, prefix = jax.eval_shape(functools.partial(prefill, model), params, prompt_PS, length_P)
    k_LPKSH, v_LPKSH = (constrain(jnp.zeros(x.shape, x.dtype), "LPKSH") for x in prefix[:2])
    empty = constrain(jnp.zeros(hidden.shape, hidden.dtype), "PD"), Prefix(k_LPKSH, v_LPKSH, length_P)
    return jax.lax.fori_loop(0, number, fill, empty)


def loop_trips(rows: int, decode_batch: int | None, max_new: int) -> tuple[int, ...]:
    """How often the sampler's loops run that data may end, if all of a device's samples have full length.

    In their order: refilling, decoding until a refill, copying prompts (keys, values, lengths), and decoding the rest.
    """
    if decode_batch is None or rows <= decode_batch:
        return (max_new,)
    return -(-rows // decode_batch) - 1, max_new, decode_batch, decode_batch, decode_batch, max_new


def batch_sizes(rows: int, *, prompt_slots: int, slots: int) -> list[int]:
    """To how many sequences a device's batch of `rows` shrinks in turn, each time when no more of them are unfinished.

    In a shrunken batch each sequence has a copy of its prompt's cache. A size whose caches would be larger than those
    of all completions is left out, and so are small ones, where a step takes as long with fewer sequences.
    """
    sizes = [rows // part for part in (2, 4, 8) if rows // part >= LEAST_ROWS]
    return [size for size in sizes if size * (prompt_slots + slots) <= rows * slots]


def without_finished(s: Decode, size: int) -> Decode:
    """The state with `size` of each device's sequences, all unfinished ones among them."""
    group_size = len(s.rows.row_B) // len(s.prefix.length_P)
    keep_B = by_rows(lambda done_B: jnp.argsort(done_B, stable=True)[:size], s.rows.done_B)
    rows = jax.tree.map(lambda x: own_rows_of(x, keep_B), s.rows)
    return Decode(rows, s.cache.rows(keep_B), s.prefix.rows(keep_B // group_size))


def next_rows(done_B: jax.Array, row_B: jax.Array, *, rows: int) -> jax.Array:
    """A device's sequences, those that are done replaced by the next ones of its `rows` as long as there are any."""
    next_B = row_B.max() + jnp.cumsum(done_B)
    return jnp.where(done_B & (next_B < rows), next_B, row_B)


def in_order(x_BT: jax.Array, began_B: jax.Array) -> jax.Array:
    """[B, T] or [B, T, I], from the position that a row began at."""
    T = x_BT.shape[1]
    place_BT = (began_B[:, None] + jnp.arange(T)[None]) % T
    return jnp.take_along_axis(x_BT, _like(place_BT, x_BT), axis=1)


def with_rows(samples: Samples, s: Decode) -> Samples:
    """All samples, with those that are being decoded as they are now."""

    def put(x: jax.Array, new: jax.Array) -> jax.Array:
        if new.ndim > 1:
            new = in_order(new, s.cache.began_B)
        return by_rows(lambda x, new, row_B: x.at[row_B].set(new), x, new, s.rows.row_B)

    return jax.tree.map(put, samples, s.rows.samples)


def _like(x: jax.Array, other: jax.Array) -> jax.Array:
    """`x` with as many dimensions as `other`."""
    return x.reshape(*x.shape, *[1] * (other.ndim - x.ndim))
