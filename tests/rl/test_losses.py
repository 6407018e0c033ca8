"""The losses, their weights and their sums against loops in float64 written from the papers, and at the edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.objective import ImportanceSamplingSettings, LossSettings
from r1jax.models.logprobs import MASKED
from r1jax.rl import losses as objectives
from r1jax.rl.losses import clipped_sides

# Compiled whole: by themselves, their operations would each be compiled for each shape.
length_mask = jax.jit(objectives.length_mask, static_argnums=1)
policy_terms = jax.jit(objectives.policy_terms, static_argnames="settings")
kl_terms = jax.jit(objectives.kl_terms, static_argnames="estimator")
importance_weights = jax.jit(objectives.importance_weights, static_argnums=3)
off_policy_mask = jax.jit(objectives.off_policy_mask)
top_entropy_mask = jax.jit(objectives.top_entropy_mask)
reduction_weights = jax.jit(objectives.reduction_weights, static_argnums=1)

B, T = 8, 6
NEEDED = ("logp", "old", "reference", "advantage")  # of a loss, but for its mask
REDUCE = ("sequence_mean", "token_mean", "constant_length")
GARBAGE = (np.nan, np.inf, -np.inf, 200.0, -200.0, MASKED)
FURTHEST = np.exp(20)  # log-ratios go no further than 20 either way

LOSSES = [
    LossSettings(),
    LossSettings(clip_low=10.0, clip_high=10.0),  # R1's, which leaves small ratios alone
    *(LossSettings(kind=k) for k in ("gspo", "cispo", "sapo", "reinforce")),
    *(LossSettings(kind=k, clip_low=0.2, clip_high=0.2) for k in ("gspo", "gspo_token", "cispo")),
    *(LossSettings(kind=k, clip_low=0.1, clip_high=0.28, dual_clip=1.5) for k in ("grpo", "gspo_token")),
    LossSettings(kind="sapo"),
]
ESTIMATORS = ["k1", "k2", "k3", "k3_ratio", "k3_k2"]


def name(loss):
    if isinstance(loss, str):
        return loss
    return "-".join(str(x) for x in (loss.kind, loss.clip_low, loss.clip_high, loss.dual_clip) if x is not None)


every_loss = pytest.mark.parametrize("loss", LOSSES + ESTIMATORS, ids=name)
every_policy_loss = pytest.mark.parametrize("loss", LOSSES, ids=name)


def batch(seed):
    """Rows of all lengths, one of them ungraded and one with a hole, and garbage wherever no token counts."""
    rng = np.random.default_rng(seed)
    length_B = np.array([0, T, 1, *rng.integers(2, T + 1, size=B - 3)])
    mask_BT = (np.arange(T) < length_B[:, None]).astype(np.float32)
    mask_BT[4], mask_BT[1, 2] = 0, 0
    spread_B1 = rng.permutation([3e-4, 3e-4, 0.1, 0.1, 0.5, 0.5, 2, 2])[:, None]
    logp_BT = -rng.exponential(2, size=(B, T))
    b = {"logp": logp_BT, "entropy": rng.exponential(size=(B, T))}
    b |= {k: logp_BT + spread_B1 * rng.normal(size=(B, T)) for k in ("old", "reference", "sampler")}
    b["advantage"] = np.repeat(rng.normal(size=(B, 1)), T, axis=1)
    for values in b.values():
        values[mask_BT == 0] = rng.choice(GARBAGE, size=int((mask_BT == 0).sum()))
    return {k: np.float32(v) for k, v in (b | {"mask": mask_BT}).items()}


def one_token(logp=-1.0, old=-1.0, reference=-1.0, advantage=1.0):
    """A batch in which nothing but its first token counts."""
    b = {"logp": logp, "old": old, "reference": reference, "advantage": advantage, "mask": 1.0}
    return {k: np.pad(np.full((1, 1), v, np.float32), ((0, B - 1), (0, T - 1))) for k, v in b.items()}


def terms(loss, logp, b):
    if isinstance(loss, str):
        return objectives.kl_terms(logp, b["reference"], b["mask"], estimator=loss, old_logp_BT=b["old"])
    return objectives.policy_terms(logp, settings=loss, **policy_arguments(b))[0]


def policy_arguments(b):
    return {f"{k}_BT": b[k.removesuffix("_logp")] for k in ("old_logp", "advantage", "mask")}


@functools.cache
def compiled(loss):
    """b → the loss by each reduction, [3], and the gradients of these, [3, B, T]."""

    def losses(logp, b):
        of_tokens = terms(loss, logp, b)
        total = jnp.stack([jnp.sum(objectives.reduction_weights(b["mask"], r) * of_tokens) for r in REDUCE])
        return total, total

    gradient = jax.jit(jax.jacrev(losses, has_aux=True))
    return lambda b: tuple(np.asarray(x) for x in reversed(gradient(b["logp"], b)))


def policy_by_hand(loss, x, at, old, a):
    """The losses of one sequence's n tokens; `at` is x wherever the paper stops the gradient."""
    n, r = len(x), np.exp(x) / np.exp(old)
    if loss.kind == "gspo":
        r = np.full(n, np.prod(r) ** (1 / n))
    if loss.kind == "gspo_token":
        r = np.prod(np.exp(at) / np.exp(old)) ** (1 / n) * np.exp(x) / np.exp(at)
    if loss.kind == "reinforce":
        return -a * x
    if loss.kind == "sapo":
        tau = np.where(a > 0, 1.0, 1.05)
        return -a * (4 / tau) / (1 + np.exp(-tau * (r - 1)))
    lowest, highest = 1 - loss.clip_low, 1 + loss.clip_high
    if loss.kind == "cispo":
        weight = np.minimum(np.maximum(np.exp(at - old), lowest), highest)
        return -weight * a * x
    worst = np.inf if loss.dual_clip is None else loss.dual_clip
    return np.where(a > 0, -a * np.minimum(r, highest), -a * np.minimum(np.maximum(r, lowest), worst))


def kl_by_hand(estimator, x, at, old, reference):
    def k2(x):
        return (x - reference) ** 2 / 2

    def k3(x):
        return np.exp(reference) / np.exp(x) - np.log(np.exp(reference) / np.exp(x)) - 1

    weighted, moved = np.exp(x) / np.exp(old) * k3(x), k3(at) - k2(at) + k2(x)
    return {"k1": x - reference, "k2": k2(x), "k3": k3(x), "k3_ratio": weighted, "k3_k2": moved}[estimator]


def losses_by_hand(loss, logp_BT, b):
    rows = []
    for i in np.flatnonzero(b["mask"].any(axis=1)):
        x, at, old, reference, a = (v[i][b["mask"][i] == 1] for v in (logp_BT, *(b[k] for k in NEEDED)))
        of_kl = isinstance(loss, str)
        rows.append(kl_by_hand(loss, x, at, old, reference) if of_kl else policy_by_hand(loss, x, at, old, a))
    tokens = np.concatenate(rows)
    return np.array([np.mean([row.mean() for row in rows]), tokens.mean(), tokens.sum() / (len(rows) * T)])


def slopes(function, x_BT, mask_BT, h=1e-5):
    """Central differences by each x that counts, [..., B, T]; 0 for the others."""
    result = np.zeros((*np.shape(function(x_BT)), B, T))
    for i, t in np.argwhere(mask_BT == 1):
        step_BT = np.zeros((B, T))
        step_BT[i, t] = h
        result[..., i, t] = (function(x_BT + step_BT) - function(x_BT - step_BT)) / (2 * h)
    return result


@every_loss
def test_values_and_gradients_equal_the_formula(loss):
    for seed in range(2):
        b = batch(seed)
        value, gradient = compiled(loss)(b)
        exact = {k: np.float64(v) for k, v in b.items()}
        np.testing.assert_allclose(value, losses_by_hand(loss, exact["logp"], exact), rtol=2e-5, atol=1e-6)
        by_hand = slopes(lambda x, e=exact: losses_by_hand(loss, x, e), exact["logp"], b["mask"])
        np.testing.assert_allclose(gradient, by_hand, rtol=2e-4, atol=2e-6)
        assert (gradient[:, b["mask"] == 0] == 0).all()


@every_loss
def test_nothing_matters_where_no_token_counts(loss):
    """A masked log-ratio of 200, or of infinity or NaN, changes no bit of the loss or of its gradient."""
    b = batch(5)
    value, gradient = compiled(loss)({k: np.where(b["mask"] == 0, 0, v) for k, v in b.items()})
    for garbage in GARBAGE:
        for chosen in ({"logp"}, {"old", "reference"}, {"advantage"}, set(NEEDED)):
            filled = {k: np.where((b["mask"] == 0) & (k in chosen), np.float32(garbage), v) for k, v in b.items()}
            other = compiled(loss)(filled)
            assert (other[0] == value).all() and (other[1] == gradient).all()


@every_loss
def test_without_tokens_or_advantages_loss_and_gradient_are_0(loss):
    """Everything masked; completions of no length; groups all right or all wrong."""
    b, none = batch(6), np.zeros((B, T), np.float32)
    changes = [{"mask": none}, {"mask": length_mask(jnp.zeros(B, int), T)}, {"advantage": none}]
    for change in changes[: 2 if isinstance(loss, str) else 3]:
        value, gradient = compiled(loss)(b | change)
        assert (value == 0).all() and (gradient == 0).all()


@every_policy_loss
def test_the_first_update_of_a_rollout_is_the_same_for_all(loss):
    """At r = 1 a token's gradient is minus its advantage by its weight; with GSPO, through its whole sequence."""
    b = batch(8)
    where = b["mask"] == 1
    gradient = compiled(loss)(b | {"old": b["logp"]})[1]
    weights = np.stack([reduction_weights(b["mask"], r) for r in REDUCE])
    np.testing.assert_allclose(gradient[:, where], -weights[:, where] * b["advantage"][where], rtol=1e-5)


@every_policy_loss
def test_the_advantage_of_a_huge_reward(loss):
    """5e29 on a single token, at r = 1."""
    value, gradient = compiled(loss)(one_token(advantage=5e29))
    times = {"sapo": -2, "cispo": 1, "reinforce": 1}.get(loss.kind, -1)
    np.testing.assert_allclose(value, 5e29 * times / np.array([1, 1, T]), rtol=1e-6)
    np.testing.assert_allclose(gradient[:, 0, 0], -5e29 / np.array([1, 1, T]), rtol=1e-6)


# For A = 1 and A = -1, at a log-ratio far above 20 and far below -20: (loss, gradient) of a single token, with clips
# of 0.2. The loss of cispo and of reinforce is its gradient by logp. The token form of GSPO keeps a gradient where its
# clip does not take it: the limit is on the sequence's ratio.
EXTREMES = {
    "grpo": [(-1.2, 0), (FURTHEST, 0), (-1 / FURTHEST, 0), (0.8, 0)],
    "gspo": [(-1.2, 0), (FURTHEST, 0), (-1 / FURTHEST, 0), (0.8, 0)],
    "gspo_token": [(-1.2, 0), (FURTHEST, 0), (-1 / FURTHEST, 0), (0.8, 0)],
    "cispo": [(None, -1.2), (None, 1.2), (None, -0.8), (None, 0.8)],
    "sapo": [(-4, 0), (3.8095238, 0), (-1.0757657, 0), (0.9875242, 0)],
    "reinforce": [(None, -1), (None, 1), (None, -1), (None, 1)],
}


@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("far", [-200.0, MASKED])
def test_extreme_ratios(kind, far):
    clips = {} if kind in ("sapo", "reinforce") else {"clip_low": 0.2, "clip_high": 0.2}
    cases = [(logp, old, a) for logp, old in ((-1.0, far), (far, -1.0)) for a in (1, -1)]
    for (logp, old, a), (expected, slope) in zip(cases, EXTREMES[kind], strict=True):
        value, gradient = compiled(LossSettings(kind=kind, **clips))(one_token(logp=logp, old=old, advantage=a))
        expected = slope * logp if expected is None else expected
        np.testing.assert_allclose(value, [expected, expected, expected / T], rtol=1e-5)
        np.testing.assert_allclose(gradient[:, 0, 0], [slope, slope, slope / T], rtol=1e-5)
        assert (gradient.reshape(3, -1)[:, 1:] == 0).all()


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss.dual_clip], ids=name)
def test_the_dual_clip_bounds_what_a_token_costs(loss):
    value, gradient = compiled(loss)(one_token(old=-201, advantage=-2))
    np.testing.assert_allclose(value, [3, 3, 3 / T], rtol=1e-6)
    assert (gradient == 0).all()


@pytest.mark.parametrize("far", [200.0, 1e30])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_extreme_references(estimator, far):
    """With log π_ref - log π far over 20, then far under -20; k3_ratio's gradient by its ratio, here 1, remains."""
    above, below = {"k1": (-20, 20), "k2": (200, 200)}.get(estimator, (FURTHEST - 21, 19))
    for logp, reference, expected in ((-far, -1.0, above), (-1.0, -far, below)):
        value, gradient = compiled(estimator)(one_token(logp=logp, old=logp, reference=reference))
        np.testing.assert_allclose(value, [expected, expected, expected / T], rtol=1e-6)
        slope = expected if estimator == "k3_ratio" else 0
        np.testing.assert_allclose(gradient[:, 0, 0], [slope, slope, slope / T], rtol=1e-6)


def test_sequence_ratios_are_the_geometric_mean():
    """Log-ratios .2, .4, -.3: GSPO's ratio is e^0.1; without the last token e^0.3. The product is e^0.3 as well."""
    change = np.pad(np.array([[0.2, 0.4, -0.3]], np.float32), ((0, B - 1), (0, T - 3)))
    for tokens, expected in ((3, np.exp(0.1)), (2, np.exp(0.3))):
        mask = length_mask(jnp.array([tokens] + [0] * (B - 1)), T)
        for kind in ("gspo", "gspo_token"):
            b = {"old": -change, "advantage": mask, "mask": mask}
            _, ratio = policy_terms(0 * change, settings=LossSettings(kind=kind), **policy_arguments(b))
            np.testing.assert_allclose(ratio[0, :tokens], expected, rtol=1e-6)
    product = importance_weights(change, 0 * change, np.ones_like(change), ImportanceSamplingSettings(level="sequence"))
    np.testing.assert_allclose(product[0], np.exp(0.3), rtol=1e-6)


def test_gspo_token_has_exactly_the_ratio_of_gspo():
    """Its clips are of 1e-4, which rounding at the size of a log-prob would blur."""
    rng = np.random.default_rng(9)
    logp = -rng.uniform(10, 60, size=(B, T)).astype(np.float32)
    old = logp + rng.normal(size=(B, T)).astype(np.float32) * np.float32(1e-3)
    b = policy_arguments({"old": old, "advantage": np.ones_like(old), "mask": np.ones_like(old)})
    whole, of_tokens = (policy_terms(logp, settings=LossSettings(kind=k), **b)[1] for k in ("gspo", "gspo_token"))
    assert (np.asarray(whole) == np.asarray(of_tokens)).all()


def test_sapo_at_ratio_1():
    """A = 1 and temperature 1: loss -2, gradient -1."""
    value, gradient = compiled(LossSettings(kind="sapo"))(one_token())
    np.testing.assert_allclose([value[0], gradient[0, 0, 0]], [-2, -1], rtol=1e-6)


@pytest.mark.parametrize("kind", ["grpo", "gspo"])
def test_clipped_sides_are_where_no_gradient_is(kind):
    b, loss = batch(10), LossSettings(kind=kind, clip_low=0.2, clip_high=0.2)
    there = b["mask"] == 1
    ratio = policy_terms(b["logp"], settings=loss, **policy_arguments(b))[1]
    low, high = (np.asarray(x)[there] for x in clipped_sides(ratio, jnp.asarray(b["advantage"]), loss))
    assert ((low | high) == (compiled(loss)(b)[1][0] == 0)[there]).all()
    assert low.any() and high.any() and not (low & high).any() and not (low | high).all()


def test_clipped_sides_of_a_weight():
    ratio, advantage = jnp.array([0.5, 1.0, 1.5, 0.5, 1.5]), jnp.array([1.0, 1.0, 1.0, -1.0, -1.0])
    low, high = clipped_sides(ratio, advantage, LossSettings(kind="cispo", clip_low=0.2, clip_high=0.2))
    assert low.tolist() == [True, False, False, True, False] and high.tolist() == [False, False, True, False, True]


def test_kl_of_ln_2():
    """log π_ref - log π = ln 2: k1 = -0.69315, k2 = 0.24023, k3 = 0.30685."""
    b = one_token(reference=-1 + np.log(2))
    for estimator, expected in (("k1", -0.69315), ("k2", 0.24023), ("k3", 0.30685), ("k3_ratio", 0.30685)):
        np.testing.assert_allclose(compiled(estimator)(b)[0][0], expected, atol=1e-5)


def test_k3_is_never_negative():
    d = jnp.asarray(np.random.default_rng(3).normal(size=(1, 10_000)) * 1e-4, jnp.float32)
    k3 = np.asarray(kl_terms(jnp.zeros_like(d), d, jnp.ones_like(d)))
    assert (k3 >= 0).all()
    np.testing.assert_allclose(k3, np.expm1(np.float64(d)) - d, atol=5e-11)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_expected_gradients_of_the_kl(estimator):
    """Over all of 6 tokens by their probabilities: 0 for k1, the forward KL's for k3, the KL's for the others."""
    z, z_old, z_reference = np.random.default_rng(4).normal(size=(3, 1, T))
    logp, old, reference = (x - np.log(np.exp(x).sum()) for x in (z, z_old, z_reference))
    p, q = np.exp(logp), np.exp(reference)
    towards = {"k1": 0 * p, "k3": p - q}.get(estimator, p * (logp - reference - (p * (logp - reference)).sum()))
    sampled_by = np.exp(old) if estimator == "k3_ratio" else p

    def expected(z):
        k = kl_terms(jax.nn.log_softmax(z), reference, jnp.ones((1, T)), estimator=estimator, old_logp_BT=old)
        return jnp.sum(sampled_by * k)

    np.testing.assert_allclose(jax.jit(jax.grad(expected))(np.float32(z)), towards, atol=1e-6)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 2.0), (0.9, 1.1)])
def test_importance_weights(level, mode, low, high):
    settings = ImportanceSamplingSettings(level=level, mode=mode, low=low, high=high)
    b, sides = batch(0), set()
    weights = np.asarray(importance_weights(b["old"], b["sampler"], b["mask"], settings))
    for i in range(B):
        here = b["mask"][i] == 1
        ratio = np.exp(np.float64(b["old"][i][here]) - b["sampler"][i][here])
        ratio = np.full(len(ratio), np.prod(ratio)) if level == "sequence" else ratio
        inside = (ratio >= low) & (ratio <= high)
        expected = np.where(inside, ratio, 0 if mode == "mask" else np.where(ratio < low, low, high))
        np.testing.assert_allclose(weights[i][here], expected, rtol=1e-5)
        sides |= set(inside)
    assert sides == {True, False} and np.isfinite(weights).all()
    of = jax.jit(jax.grad(lambda x: objectives.importance_weights(x, b["sampler"], b["mask"], settings).sum()))
    assert (np.asarray(of(b["old"])) == 0).all()


def test_importance_weights_of_impossible_tokens_stay_in_their_bounds():
    one = np.eye(B, T, dtype=np.float32)
    for old, sampler, truncated in ((MASKED, -1.0, 0.0), (-1.0, MASKED, 2.0), (MASKED, MASKED, 1.0)):
        for level in ("token", "sequence"):
            weight = importance_weights(old * one, sampler * one, one, ImportanceSamplingSettings(level=level))
            np.testing.assert_allclose(weight[one > 0], truncated, atol=1e-8)


@pytest.mark.parametrize("threshold", [0.0, 0.1])
def test_off_policy_mask(threshold):
    kept = []
    for seed in range(3):
        b = batch(seed)
        given = [b[k] for k in ("logp", "sampler", "advantage", "mask")]
        mask = np.asarray(off_policy_mask(*given, threshold=threshold))
        for i in np.flatnonzero(b["mask"].any(axis=1)):
            logp, sampler, advantage, _ = (x[i][b["mask"][i] == 1] for x in given)
            kept.append(advantage[0] >= 0 or np.mean(np.float64(sampler) - logp) <= threshold)
            assert (mask[i][b["mask"][i] == 1] == kept[-1]).all()
    assert True in kept and False in kept


@pytest.mark.parametrize("share", [1.0, 0.5, 0.3, 0.2, 0.01])
def test_top_entropy_mask(share):
    for seed in range(3):
        b = batch(seed)
        entropy = b["entropy"][b["mask"] == 1]
        lowest = np.sort(entropy)[::-1][max(int(np.ceil(share * len(entropy) - 1e-9)) - 1, 0)]
        result = np.asarray(top_entropy_mask(b["entropy"], b["mask"], share=share))
        assert (result[b["mask"] == 1] == (entropy >= lowest)).all() and (result[b["mask"] == 0] == 0).all()


@pytest.mark.parametrize(("share", "tokens"), [(0.2, 10), (0.3, 10), (0.3, 50), (0.3, 100), (0.7, 100), (0.1, 30)])
def test_top_entropy_mask_counts_exactly(share, tokens):
    entropy, mask = np.arange(100, dtype=np.float32)[None], np.float32(np.arange(100) < tokens)[None]
    assert top_entropy_mask(entropy, mask, share=share).sum() == round(share * tokens)
    assert top_entropy_mask(0 * entropy, mask, share=share).sum() == tokens, "ties count"
    assert top_entropy_mask(entropy * np.nan, 0 * mask, share=share).sum() == 0


def test_reductions_of_two_sequences_together_and_apart():
    """Lengths 2 and 4 of 8, losses 1 and 2: 1.5, 10/6 and 0.625, and the same in micro-batches of one sequence."""
    mask = length_mask(jnp.array([2, 4]), 8)
    assert mask.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]]
    for reduce, expected in zip(REDUCE, (1.5, 10 / 6, 0.625), strict=True):
        weighted = np.asarray(reduction_weights(mask, reduce)) * [[1], [2]]
        np.testing.assert_allclose(weighted.sum(), expected, rtol=1e-6)
        np.testing.assert_allclose(weighted[0].sum() + weighted[1].sum(), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_micro_batches_sum_to_the_whole(size):
    b, loss, totals = batch(11), LOSSES[0], np.zeros(3)
    weights = np.stack([reduction_weights(b["mask"], r) for r in REDUCE])
    for rows in (slice(i, i + size) for i in range(0, B, size)):
        part = {k: v[rows] for k, v in b.items()}
        each = policy_terms(part["logp"], settings=loss, **policy_arguments(part))[0]
        totals += (weights[:, rows] * np.asarray(each)).sum(axis=(1, 2))
    np.testing.assert_allclose(totals, compiled(loss)(b)[0], rtol=1e-6)
