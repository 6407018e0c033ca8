"""On-policy distillation (GKD, Agarwal et al. 2306.13649): what a teacher says of the student's tokens, and the loss.

    scores = teacher_scores(teacher, weights, batch, stage=stage)
    loss, sums = loss_and_sums(params, (batch, scores, token_BT), head, model=model, teacher=teacher, stage=stage)

Student p and teacher q are distributions of the next token at the stage's temperature, after a prompt and the first
tokens of a completion that the student sampled. The loss is a divergence of the two at each token of the completion,
averaged over all tokens of the batch. No gradient is taken through the sampling: a token is taught what the teacher
would write in its place, and not which tokens lead to places where both agree.

Letters: B sequences, T completion positions, C a chunk's positions, D model width, V vocabulary, I the teacher's most
probable tokens.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from r1jax.config.experiment import DistillStage
from r1jax.models import Model, unembed
from r1jax.models import head as head_of
from r1jax.models.logprobs import MASKED, in_chunks, log_probabilities, logit_chunks, of_tokens
from r1jax.rl.logprobs import at_predictors
from r1jax.rl.losses import log_ratio
from r1jax.rl.objective import LOGP_DIFFERENCE
from r1jax.rl.types import TrainBatch


@flax.struct.dataclass
class Scores:
    """The teacher's distributions at each completion token, in a form that is smaller than B × T × V.

    Either the final hidden states, from which the loss makes the logits chunk by chunk, or with `teacher_top_k` the
    most probable tokens, their log-probs, and the log-prob of all others together.
    """

    hidden_BTD: Any = None
    id_BTI: Any = None
    logp_BTI: Any = None
    rest_BT: Any = None


def teacher_scores(model: Model, params: Any, batch: TrainBatch, *, stage: DistillStage) -> Scores:
    """One forward pass of the teacher over prompts and completions."""

    def score(hidden: jax.Array, _: None) -> Scores:
        if stage.teacher_top_k is None:
            return Scores(hidden_BTD=hidden)
        chunks = logit_chunks(hidden.shape[0] * hidden.shape[1], model)
        return in_chunks(most_probable, head_of(params), hidden, chunks)

    def most_probable(params: Any, hidden_BCD: jax.Array) -> Scores:
        logits_BCV = unembed(model, params, hidden_BCD)
        logp_BCV = log_probabilities(logits_BCV, temperature=stage.temperature, vocabulary=model.vocabulary)
        _, id_BCI = jax.lax.top_k(logp_BCV, min(stage.teacher_top_k or 0, model.vocabulary))
        return Scores(None, id_BCI, *parts(logp_BCV, id_BCI))

    return at_predictors(model, params, batch, None, score)


def parts(logp_BCV: jax.Array, id_BCI: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The log-probs of these tokens, and the log of the sum of all others' probabilities."""
    # Not the log of 1 - Σ p, which is rounding alone where the sum is near 1.
    others_BCV = jnp.put_along_axis(logp_BCV, id_BCI, MASKED, axis=2, inplace=False)
    return jnp.take_along_axis(logp_BCV, id_BCI, axis=2), jax.nn.logsumexp(others_BCV, axis=2)


def outcomes(logp_BCI: jax.Array, rest_BC: jax.Array) -> jax.Array:
    """A distribution over some tokens and one event more, that it is another one: [B, C, I + 1]."""
    return jnp.concatenate([logp_BCI, rest_BC[:, :, None]], axis=2)


def divergence(logp: jax.Array, logq: jax.Array, beta: float) -> jax.Array:
    """A divergence of student p and teacher q over the last axis of their log-probs (GKD, section 2).

    β = 1: KL(p, q), the reverse KL; β = 0: KL(q, p), the forward KL; in between the generalised Jensen-Shannon
    divergence β KL(q, m) + (1 - β) KL(p, m) with m = β q + (1 - β) p, which is near 0 for a β near 0 or 1. This is the
    `beta` of TRL's GKDTrainer.
    """
    if beta in (0, 1):
        return kl(logp, logq) if beta else kl(logq, logp)
    mixture = jnp.logaddexp(logq + jnp.log(beta), logp + jnp.log1p(-beta))
    return beta * kl(logq, mixture) + (1 - beta) * kl(logp, mixture)


def kl(logp: jax.Array, logq: jax.Array) -> jax.Array:
    """KL(p, q) = Σ p log(p / q) over the last axis."""
    p = jnp.exp(logp)
    return jnp.sum(jnp.where(p > 0, p * (logp - logq), 0.0), axis=-1)


def loss_and_sums(
    params: Any,
    rows: tuple[TrainBatch, Scores, jax.Array],
    head: Any,
    *,
    model: Model,
    teacher: Model,
    stage: DistillStage,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What some rows of a batch add to the loss and to the sums that become metrics.

    `rows` is (batch, scores, weights that sum terms to means over tokens); the weights come from the whole batch, so
    that any split of it gives the same. `head` is the part of the teacher's weights that makes logits, None with
    `teacher_top_k`: then p and q are over the teacher's most probable tokens and one event more, that it is none of
    these. Their divergence is at most that of the whole distributions. It vanishes where the tokens' probabilities
    agree, however the rest is spread: the student is taught how much to leave to the other tokens, and not to which.
    """
    batch, scores, token_BT = rows
    mask_BT = (token_BT > 0).astype(jnp.float32)

    def of_chunk(weights: Any, rows: Any) -> tuple[jax.Array, ...]:
        (params, head), (hidden_BCD, token_BC, support_BCI, scores) = weights, rows

        def log_probs(model: Model, params: Any, hidden_BCD: jax.Array) -> jax.Array:
            logits_BCV = unembed(model, params, hidden_BCD)
            return log_probabilities(logits_BCV, temperature=stage.temperature, vocabulary=model.vocabulary)

        logp_BCV = log_probs(model, params, hidden_BCD)
        if scores.id_BTI is None:
            V = min(model.rows, teacher.rows)  # rows beyond are padding, of probability 0
            logp, logq = logp_BCV[:, :, :V], log_probs(teacher, head, scores.hidden_BTD)[:, :, :V]
        else:
            logp, logq = outcomes(*parts(logp_BCV, scores.id_BTI)), outcomes(scores.logp_BTI, scores.rest_BT)
        drawn_BC, entropy_BC, _ = of_tokens(logp_BCV, token_BC, support_BCI)
        return divergence(logp, logq, stage.jsd_beta), kl(logp, logq), entropy_BC, drawn_BC

    def at_tokens(hidden: jax.Array, given: Any) -> tuple[jax.Array, ...]:
        both = 1 if head is None else 2  # logits: the student's, and the teacher's too
        chunks = logit_chunks(both * hidden.shape[0] * hidden.shape[1], model)
        return in_chunks(of_chunk, (head_of(params), head), (hidden, *given), chunks)

    given = (batch.completion_BT, batch.support_BTI, scores)
    terms_BT, kl_BT, entropy_BT, logp_BT = at_predictors(model, params, batch, given, at_tokens)
    difference_BT = jnp.abs(log_ratio(logp_BT, batch.sampler_logp_BT, mask_BT))
    per_token = {"loss": terms_BT, "kl": kl_BT, "entropy": entropy_BT, LOGP_DIFFERENCE: difference_BT}
    sums = {name: jnp.sum(token_BT * jnp.where(mask_BT > 0, x_BT, 0.0)) for name, x_BT in per_token.items()}
    return sums["loss"], sums
