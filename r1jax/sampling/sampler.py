"""Sampling in groups, as one jitted function: each prompt is prefilled once, and its G samples share that cache.

    sample = make_sampler(model, mesh, stop_ids=tokenizer.stop_ids, group_size=8, max_new=64, temperature=1.0)
    samples = sample(params, prompt_PS, prompt_length_P, prompt_id_P, key)

Letters: P prompts, G samples a prompt, B = P·G sequences, S prompt positions, T completion positions, D model width,
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

from r1jax.models import Model, forward, unembed
from r1jax.models.kv_cache import Cache
from r1jax.models.logprobs import scaled_logits
from r1jax.parallel.mesh import constrain, sharding
from r1jax.sampling.draw import draw, top_k_top_p


@flax.struct.dataclass
class Samples:
    """Row b is sample b % G of prompt b // G. Tokens past `length_B` are 0 and their log-probs 0.

    `length_B` includes the stop token; `truncated_B` marks a sample that reached the length limit without one.
    Log-probs are those of `models.logprobs` at the sampling temperature (greedy ones at temperature 1), over the ids
    that top-k and top-p left. With top-k `support_BTI` are these ids, -1 where there are fewer.
    """

    completion_BT: jax.Array
    length_B: jax.Array
    logp_BT: jax.Array
    truncated_B: jax.Array
    support_BTI: jax.Array | None = None


@flax.struct.dataclass
class Decode:
    """The state of the decoding loop: the next position, the hidden state that predicts it, and the samples so far."""

    position: jax.Array
    hidden_BD: jax.Array
    cache: Cache
    done_B: jax.Array
    samples: Samples


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
) -> Callable[[Any, jax.Array, jax.Array, jax.Array, jax.Array], Samples]:
    """A jitted function (params, prompt_PS, prompt_length_P, prompt_id_P, key) → Samples.

    A sample's draws depend on (key, its prompt's id, its number in the group, position) alone, so neither batch layout
    nor sharding changes them. `params` are sharded by mesh.SAMPLE_WEIGHTS. Decoding ends when every row has its stop
    token. The same arguments return the same function, which compiles once.
    """
    G, T, vocabulary = group_size, max_new, model.vocabulary
    limited, keeps_support = temperature > 0 and (top_k is not None or top_p < 1), temperature > 0 and top_k is not None
    ids = min(top_k or vocabulary, vocabulary)

    def sample(
        params: Any, prompt_PS: jax.Array, prompt_length_P: jax.Array, prompt_id_P: jax.Array, key: jax.Array
    ) -> Samples:
        P, S = prompt_PS.shape
        B = P * G
        hidden_PSD, prompts = forward(model, params, prompt_PS, cache=model.empty_cache(P, S))
        last_P11 = (prompt_length_P - 1)[:, None, None]
        hidden_PD = jnp.take_along_axis(hidden_PSD, last_P11, axis=1)[:, 0]
        prefix = prompts, prompt_length_P
        prompt_length_B = jnp.repeat(prompt_length_P, G)
        group_PG = jnp.broadcast_to(jnp.arange(G)[None], (P, G))
        prompt_keys_P = jax.vmap(jax.random.fold_in, (None, 0))(key, prompt_id_P)
        keys_B = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(prompt_keys_P, group_PG).reshape(B)

        def step(s: Decode) -> Decode:
            logits_B1V = unembed(model, params, s.hidden_BD[:, None])
            logits_BV = scaled_logits(logits_B1V[:, 0], temperature=temperature or 1.0, vocabulary=vocabulary)
            step_keys_B = jax.vmap(jax.random.fold_in, (0, None))(keys_B, s.position)
            id_BI = None
            if limited:
                logits_BV, id_BI = top_k_top_p(logits_BV, top_k=ids, top_p=top_p)
            token_B, logp_B = draw(logits_BV, step_keys_B, greedy=temperature == 0)
            if id_BI is not None:
                token_B = jnp.take_along_axis(id_BI, token_B[:, None], axis=1)[:, 0]
            token_B, logp_B = jnp.where(s.done_B, 0, token_B), jnp.where(s.done_B, 0.0, logp_B)
            support_BTI = s.samples.support_BTI
            if support_BTI is not None:
                support_BTI = support_BTI.at[:, s.position].set(id_BI)
            stopped_B = jnp.isin(token_B, jnp.array(stop_ids)) & ~s.done_B
            samples = Samples(
                completion_BT=s.samples.completion_BT.at[:, s.position].set(token_B),
                length_B=s.samples.length_B + ~s.done_B,
                logp_BT=s.samples.logp_BT.at[:, s.position].set(logp_B),
                truncated_B=s.samples.truncated_B & ~stopped_B,
                support_BTI=support_BTI,
            )
            positions_B1 = (prompt_length_B + s.position)[:, None]
            hidden_B1D, cache = forward(model, params, token_B[:, None], positions_B1, None, s.cache, prefix)
            return Decode(s.position + 1, hidden_B1D[:, 0], cache, s.done_B | stopped_B, samples)

        start = Decode(
            position=jnp.zeros((), jnp.int32),
            hidden_BD=constrain(jnp.repeat(hidden_PD, G, axis=0), "BD"),
            cache=model.empty_cache(B, T),
            done_B=jnp.zeros(B, bool),
            samples=Samples(
                completion_BT=jnp.zeros((B, T), jnp.int32),
                length_B=jnp.zeros(B, jnp.int32),
                logp_BT=jnp.zeros((B, T), jnp.float32),
                truncated_B=jnp.ones(B, bool),
                support_BTI=jnp.full((B, T, ids), -1, jnp.int32) if keeps_support else None,
            ),
        )
        return jax.lax.while_loop(lambda s: (s.position < T) & ~s.done_B.all(), step, start).samples

    rows = sharding(mesh, "B")
    return jax.jit(sample, in_shardings=(None, rows, rows, rows, sharding(mesh, "")), out_shardings=rows)
