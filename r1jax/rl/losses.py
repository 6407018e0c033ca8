"""Policy losses, KL, importance weights, and how terms are summed: pure functions of arrays with their formulas.

Letters: B sequences, T completion positions. logp are log-probs under the policy that learns, old_logp those under the
policy that its ratio r = exp(logp - old_logp) is taken to, A advantages. A mask is float32, 1.0 where a token counts;
where it is 0, nothing that a term is made of matters, and its value and gradients are 0. Ratios are made of log-ratios
within ±LOG_RATIO, and have no gradient beyond. Losses come as terms per token; `reduction_weights` says how they are
summed, from counts over the whole batch, so that any split of it gives the same.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from r1jax.config.objective import ImportanceSamplingSettings, LossSettings

SAPO_TEMPERATURES = (1.0, 1.05)  # τ where A > 0, and elsewhere: those of the paper
LOG_RATIO = 20.0


def length_mask(length_B: jax.Array, positions: int) -> jax.Array:
    """[B, T] with 1.0 at the first `length` positions of each row."""
    return (jnp.arange(positions)[None] < length_B[:, None]).astype(jnp.float32)


def log_ratio(logp_BT: jax.Array, other_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """logp - other where the mask counts, within ±LOG_RATIO; 0 elsewhere."""
    # The inner where keeps what is masked out of the gradient, even where it is infinite.
    difference_BT = jnp.where(mask_BT > 0, logp_BT, 0.0) - jnp.where(mask_BT > 0, other_BT, 0.0)
    return jnp.clip(difference_BT, -LOG_RATIO, LOG_RATIO)


def sequence_mean(x_BT: jax.Array, mask_BT: jax.Array) -> jax.Array:
    """The mean over each row's tokens, [B, 1]; 0 where a row has none."""
    return (x_BT * mask_BT).sum(axis=1, keepdims=True) / jnp.maximum(mask_BT.sum(axis=1, keepdims=True), 1)


def policy_terms(
    logp_BT: jax.Array, *, old_logp_BT: jax.Array, advantage_BT: jax.Array, mask_BT: jax.Array, settings: LossSettings
) -> tuple[jax.Array, jax.Array]:
    """The policy's loss per token and the ratio that it uses, both [B, T].

    grpo        -min(r A, clip(r, 1 - low, 1 + high) A)   PPO's clip per token: DeepSeekMath 2402.03300 eq. 3; with two
                clips DAPO 2503.14476 eq. 8. `dual_clip` c: at most -c A where A < 0 (1912.09729; verl's clip_ratio_c,
                TRL's delta where it is above 1 + high).
    gspo        the same with the sequence's r = exp(mean of its log-ratios): 2507.18071 eq. 5.
    gspo_token  the same value, r = sg(r of the sequence) · π/sg(π): each token has its own gradient (eq. 14).
    cispo       -sg(clip(r, 1 - low, 1 + high)) A logp: MiniMax-M1 2506.13585 eq. 4, where low is so large that it never
                binds. verl, NeMo-RL and slime clip both sides, with 0.2; TRL's epsilon_high is the cap itself, here
                1 + high, and it has no lower one.
    sapo        -(4 / τ) σ(τ (r - 1)) A with τ 1.0 where A > 0, else 1.05: 2511.20347.
    reinforce   -A logp, with no ratio: exact only for the first update of a rollout.

    dr_grpo, dapo and RLOO are combinations: of `reduce` and of `advantages.advantages`, not losses of their own.
    """
    s, A_BT = settings, jnp.where(mask_BT > 0, advantage_BT, 0.0)
    logp_BT = jnp.where(mask_BT > 0, logp_BT, 0.0)
    change_BT = log_ratio(logp_BT, old_logp_BT, mask_BT)
    if s.kind in ("gspo", "gspo_token"):
        mean_B1 = sequence_mean(change_BT, mask_BT)
        if s.kind == "gspo_token":
            # What the brackets hold is 0 exactly.
            mean_B1 = jax.lax.stop_gradient(mean_B1) + (change_BT - jax.lax.stop_gradient(change_BT))
        change_BT = jnp.broadcast_to(mean_B1, change_BT.shape)
    ratio_BT = jnp.exp(change_BT)
    if s.kind == "cispo":
        weight_BT = jax.lax.stop_gradient(_clipped(ratio_BT, s))
        terms_BT = -weight_BT * A_BT * logp_BT
    elif s.kind == "sapo":
        temperature_BT = jnp.where(A_BT > 0, *SAPO_TEMPERATURES)
        terms_BT = -4 / temperature_BT * jax.nn.sigmoid(temperature_BT * (ratio_BT - 1)) * A_BT
    elif s.kind == "reinforce":
        terms_BT = -A_BT * logp_BT
    else:
        terms_BT = -jnp.minimum(ratio_BT * A_BT, _clipped(ratio_BT, s) * A_BT)
        if s.dual_clip is not None:
            terms_BT = jnp.where(A_BT < 0, jnp.minimum(terms_BT, -s.dual_clip * A_BT), terms_BT)
    return terms_BT * mask_BT, jax.lax.stop_gradient(ratio_BT)


def _clipped(ratio_BT: jax.Array, settings: LossSettings) -> jax.Array:
    assert settings.clip_low is not None and settings.clip_high is not None
    return jnp.clip(ratio_BT, 1 - settings.clip_low, 1 + settings.clip_high)


def clipped_sides(ratio_BT: jax.Array, advantage_BT: jax.Array, settings: LossSettings) -> tuple[jax.Array, jax.Array]:
    """Where the lower and where the upper clip takes a token's gradient away; in CISPO, where it limits the weight.

    The dual clip counts as an upper one.
    """
    assert settings.clip_low is not None and settings.clip_high is not None
    low_BT, high_BT = ratio_BT < 1 - settings.clip_low, ratio_BT > 1 + settings.clip_high
    if settings.kind == "cispo":
        return low_BT, high_BT
    high_BT &= advantage_BT > 0
    if settings.dual_clip is not None:
        high_BT |= (advantage_BT < 0) & (ratio_BT > settings.dual_clip)
    return low_BT & (advantage_BT < 0), high_BT


def kl_terms(
    logp_BT: jax.Array,
    reference_logp_BT: jax.Array,
    mask_BT: jax.Array,
    *,
    estimator: str = "k3",
    old_logp_BT: jax.Array | None = None,
) -> jax.Array:
    """An estimate per token of KL(π, π_ref) from samples of π; with d = log π_ref - log π (joschu.net/blog/kl-approx):

    k1        -d
    k2        d² / 2: its gradient, in expectation over π, is that of the KL; k1's is 0 and k3's the forward KL's
    k3        exp(d) - d - 1 (DeepSeekMath eq. 4), through expm1, never negative
    k3_ratio  k3 times π/π_old, which has a gradient too (DeepSeek-V3.2 2512.02556): unbiased for samples of π_old
    k3_k2     the value of k3 with the gradient of k2
    """
    d_BT = log_ratio(reference_logp_BT, logp_BT, mask_BT)
    if estimator == "k1":
        return -d_BT
    k2_BT = d_BT * d_BT / 2
    if estimator == "k2":
        return k2_BT
    k3_BT = jnp.maximum(jnp.expm1(d_BT) - d_BT, 0.0)
    if estimator == "k3_ratio":
        assert old_logp_BT is not None
        return k3_BT * jnp.exp(log_ratio(logp_BT, old_logp_BT, mask_BT))
    if estimator == "k3_k2":
        return jax.lax.stop_gradient(k3_BT - k2_BT) + k2_BT
    return k3_BT


def importance_weights(
    old_logp_BT: jax.Array, sampler_logp_BT: jax.Array, mask_BT: jax.Array, settings: ImportanceSamplingSettings
) -> jax.Array:
    """Constant factors of the policy terms for the sampler's log-probs being others than the trainer's, [B, T].

    ρ = exp(old - sampler) of a token, or of a sequence: the product of its tokens', as in TRL. `truncate` limits it to
    [low, high] (Yao et al. 2025, TIS: high 2); `mask` has 0 outside and ρ inside (IcePop 2510.18855: 0.5 and 5).
    """
    difference_BT = log_ratio(old_logp_BT, sampler_logp_BT, mask_BT)
    if settings.level == "sequence":
        total_B1 = jnp.clip((difference_BT * mask_BT).sum(axis=1, keepdims=True), -LOG_RATIO, LOG_RATIO)
        difference_BT = jnp.broadcast_to(total_B1, difference_BT.shape)
    ratio_BT = jax.lax.stop_gradient(jnp.exp(difference_BT))
    if settings.mode == "truncate":
        return jnp.clip(ratio_BT, settings.low, settings.high)
    return jnp.where((ratio_BT >= settings.low) & (ratio_BT <= settings.high), ratio_BT, 0.0)


def off_policy_mask(
    logp_BT: jax.Array, sampler_logp_BT: jax.Array, advantage_BT: jax.Array, mask_BT: jax.Array, *, threshold: float
) -> jax.Array:
    """0.0 where A < 0 in a sequence whose mean of log(π_sampler / π) is over `threshold` (DeepSeek-V3.2 2512.02556)."""
    drift_B1 = sequence_mean(log_ratio(sampler_logp_BT, logp_BT, mask_BT), mask_BT)
    return 1.0 - ((advantage_BT < 0) & (jax.lax.stop_gradient(drift_B1) > threshold))


def top_entropy_mask(entropy_BT: jax.Array, mask_BT: jax.Array, *, share: float) -> jax.Array:
    """1.0 for the `share` of all tokens of the batch with the highest entropy (80/20: 2506.01939); ties count too.

    The lowest entropy that counts is found bit by bit from counts of tokens at or above it, so that no device needs all
    of the entropies, as sorting would.
    """
    counts_BT = mask_BT > 0
    # The bits of floats from 0 up, read as integers, have the floats' order; abs takes the sign of -0.
    bits_BT = jax.lax.bitcast_convert_type(jnp.abs(entropy_BT).astype(jnp.float32), jnp.int32)
    # Less a little, so that rounding makes no whole number a larger one.
    wanted = jnp.ceil(share * mask_BT.sum() * (1 - 1e-6))

    def add_bit(i: jax.Array, lowest: jax.Array) -> jax.Array:
        higher = lowest | (1 << (30 - i))
        return jnp.where(((bits_BT >= higher) & counts_BT).sum() >= wanted, higher, lowest)

    lowest = jax.lax.fori_loop(0, 31, add_bit, jnp.int32(0))
    return ((bits_BT >= lowest) & counts_BT).astype(jnp.float32)


def value_terms(
    value_BT: jax.Array, *, old_value_BT: jax.Array, return_BT: jax.Array, mask_BT: jax.Array, clip: float | None
) -> jax.Array:
    """½ (V - R)² per token; with a `clip`, the larger of that and of V kept within ±clip of its old value (PPO2)."""
    value_BT, old_value_BT, return_BT = (jnp.where(mask_BT > 0, x, 0.0) for x in (value_BT, old_value_BT, return_BT))
    terms_BT = jnp.square(value_BT - return_BT)
    if clip is not None:
        near_BT = old_value_BT + jnp.clip(value_BT - old_value_BT, -clip, clip)
        terms_BT = jnp.maximum(terms_BT, jnp.square(near_BT - return_BT))
    return terms_BT / 2


def reduction_weights(mask_BT: jax.Array, reduce: str) -> jax.Array:
    """Weights that make Σ w·term the loss; computed for the whole batch, before it is split.

    sequence_mean    the mean over sequences of the mean over each one's tokens: GRPO's 1/G Σ 1/|o| Σ
    token_mean       the mean over all tokens of the batch: DAPO's 1/Σ|o| Σ Σ
    constant_length  the sum over all tokens, divided by sequences × positions: Dr. GRPO's code, where the positions are
                     the generation budget. verl divided by the positions alone for a time; OpenRLHF's and slime's
                     "Dr. GRPO" only leaves out the std.

    Sequences without a token in the mask (ungraded, or masked as truncated) do not count as sequences.
    """
    tokens_B1 = mask_BT.sum(axis=1, keepdims=True)
    sequences = jnp.maximum((tokens_B1 > 0).sum(), 1)
    if reduce == "token_mean":
        return mask_BT / jnp.maximum(mask_BT.sum(), 1)
    if reduce == "constant_length":
        return mask_BT / (sequences * mask_BT.shape[1])
    return mask_BT / jnp.maximum(tokens_B1, 1) / sequences
