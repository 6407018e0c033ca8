"""Advantages against loops in float64 written from the papers, and at rewards where others have gone wrong."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.objective import AdvantageSettings
from r1jax.rl import advantages as module
from r1jax.rl import losses as objectives
from r1jax.rl.advantages import GUARD

gae = jax.jit(module.gae)
standardised = jax.jit(module.standardised)
value_terms = jax.jit(objectives.value_terms, static_argnames="clip")

BASELINES, SCALES = ("mean", "leave_one_out"), ("group", "batch", "none")
NAN = np.nan
R, P, G = 2, 7, 12


def advantages(rewards_RPG, weights_R, **settings):
    return module.advantages(rewards_RPG, weights_R, AdvantageSettings(**settings))


def of(*rewards, **settings):
    """Advantages of groups by one or two rewards, [p, g]."""
    given = np.float32(rewards)
    p, g = given.shape[1:]
    # What is not graded matters nowhere; one shape for all tests is compiled once.
    rewards_RPG = np.full((R, P, G), NAN, np.float32)
    rewards_RPG[:, :p, :g] = np.where(np.isnan(given[0]), NAN, 0)
    rewards_RPG[: len(given), :p, :g] = given
    advantage = np.array(advantages(rewards_RPG, np.ones(R, np.float32), **settings))
    assert (advantage[np.isnan(rewards_RPG).any(axis=0)] == 0).all()
    return advantage[:p, :g]


def deviation(values):
    """The sample's standard deviation; 0 for fewer than two values."""
    mean = sum(values) / max(len(values), 1)
    return (sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)) ** 0.5


def relative_by_hand(groups, baseline, scale):
    """groups: {(group, sample): reward} of what was graded."""
    result = {}
    for (p, g), reward in groups.items():
        group = [r for (q, _), r in groups.items() if q == p]
        others = [r for (q, h), r in groups.items() if q == p and h != g]
        if max(group) == min(group):
            result[p, g] = 0.0
            continue
        advantage = reward - (np.mean(group) if baseline == "mean" else np.mean(others))
        spread = {"group": group, "batch": list(groups.values())}.get(scale)
        result[p, g] = advantage if spread is None else advantage / (deviation(spread) + GUARD)
    return result


def by_hand(rewards_RPG, weights, baseline, scale, per_reward):
    _, prompts, samples = rewards_RPG.shape
    everything = itertools.product(range(prompts), range(samples))
    graded = [at for at in everything if not any(np.isnan(r[at]) for r in rewards_RPG)]
    if per_reward:
        each = [relative_by_hand({at: r[at] for at in graded}, baseline, scale) for r in rewards_RPG]
        total = {at: sum(w * a[at] for w, a in zip(weights, each, strict=True)) for at in graded}
        mean, guarded = np.mean(list(total.values())), deviation(list(total.values())) + GUARD
        advantage = {at: (a - mean) / guarded for at, a in total.items()}
    else:
        total = {at: sum(w * r[at] for w, r in zip(weights, rewards_RPG, strict=True)) for at in graded}
        advantage = relative_by_hand(total, baseline, scale)
    result, mask = np.zeros((prompts, samples)), np.zeros((prompts, samples), bool)
    for at, a in advantage.items():
        result[at], mask[at] = a, True
    return result, mask


def rewards(seed):
    """Two rewards of 7 groups: one not graded, one with a single sample graded, one equal; the others ragged."""
    rng = np.random.default_rng(seed)
    rewards_RPG = np.stack([rng.integers(0, 2, size=(P, G)), rng.normal(size=(P, G))]).astype(np.float32)
    rewards_RPG[rng.random((R, P, G)) < 0.3] = NAN
    rewards_RPG[:, 0], rewards_RPG[1, 1, 1:], rewards_RPG[:, 2] = NAN, NAN, [[1], [0.3]]
    return rewards_RPG


@pytest.mark.parametrize("per_reward", [False, True])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("baseline", BASELINES)
def test_advantages_equal_the_formula(baseline, scale, per_reward):
    for seed in range(3):
        rewards_RPG, weights = rewards(seed), np.array([1.0, 0.5], np.float32)
        settings = {"baseline": baseline, "scale": scale, "per_reward": per_reward}
        expected, graded = by_hand(np.float64(rewards_RPG), weights, **settings)
        np.testing.assert_allclose(advantages(rewards_RPG, weights, **settings), expected, rtol=1e-4, atol=2e-6)
        assert 0 < graded.sum() < graded.size


@pytest.mark.parametrize("per_reward", [False, True])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("baseline", BASELINES)
def test_equal_rewards_give_exactly_0(baseline, scale, per_reward):
    """In float32 the mean of seven times 0.1 is not 0.1, which a small guard would make an advantage of -0.8."""
    for value, size in ((0.1, 7), (0.3, 6), (0.7, 7), (1.1, 12), (1e30, 3), (1, 1)):
        assert (of([[value] * size] * 3, baseline=baseline, scale=scale, per_reward=per_reward) == 0).all()


def test_right_and_wrong_by_every_definition():
    """[1, 0, 0, 1]: ±0.5 (Dr. GRPO), ±0.86588 (GRPO, with n - 1), ±0.66667 (RLOO)."""
    signs = np.array([[1, -1, -1, 1]])
    for baseline, scale, expected in (("mean", "none", 0.5), ("mean", "group", 0.86588), ("mean", "batch", 0.86588),
                                      ("leave_one_out", "none", 2 / 3)):  # fmt: skip
        np.testing.assert_allclose(of([[1, 0, 0, 1]], baseline=baseline, scale=scale), expected * signs, rtol=2e-5)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("scale", SCALES)
def test_a_group_of_one_has_advantage_0(baseline, scale):
    for groups in ([[1]], [[1], [0]], [[1, NAN], [NAN, NAN]], [[NAN, 1e30]]):
        assert (of(groups, baseline=baseline, scale=scale) == 0).all()


def test_an_ungraded_sample_leaves_its_group():
    """[1, None, 0]: the others are taken against the mean 0.5 of the two, and nothing is NaN."""
    assert of([[1, NAN, 0]], scale="none").tolist() == [[0.5, 0, -0.5]]
    expected = 0.5 / (0.5**0.5 + 1e-4)
    np.testing.assert_allclose(of([[1, NAN, 0]]), [[expected, 0, -expected]], rtol=1e-5)


@pytest.mark.parametrize("per_reward", [False, True])
def test_a_sample_that_one_reward_could_not_grade_is_graded_by_none(per_reward):
    advantage = of([[1, 0, 1, 0]], [[0.5, NAN, 0.2, 0.1]], per_reward=per_reward)
    without = of([[1, 1, 0]], [[0.5, 0.2, 0.1]], per_reward=per_reward)
    assert advantage[0, 1] == 0
    np.testing.assert_allclose(advantage[:, [0, 2, 3]], without, rtol=1e-5)


@pytest.mark.parametrize("per_reward", [False, True])
def test_a_reward_of_weight_0_is_as_if_it_were_not_there(per_reward):
    """One that is only logged: where it is None, or infinite, too."""
    rewards_RPG, weights = rewards(0), np.array([0.5, 0], np.float32)
    rewards_RPG[1, 3] = np.inf
    alone = advantages(rewards_RPG[:1], weights[:1], per_reward=per_reward)
    np.testing.assert_array_equal(advantages(rewards_RPG, weights, per_reward=per_reward), alone)


@pytest.mark.parametrize(("baseline", "times"), [("mean", 1), ("leave_one_out", 2)])
def test_huge_rewards_give_finite_advantages(baseline, times):
    """[1e30, 0]: ±0.7071 of the group's std. Of all four rewards the std is 5e29, and [1, 0] are next to nothing."""
    for groups, scale, expected in (
        ([[1e30, 0]], "group", [[0.5**0.5, -(0.5**0.5)]]),
        ([[1e30, 0]], "none", [[5e29, -5e29]]),
        ([[1e30, 0], [1, 0]], "batch", [[1, -1], [0, 0]]),
        ([[-1e30, NAN, 1e30]], "group", [[-(0.5**0.5), 0, 0.5**0.5]]),
    ):
        advantage = of(groups, baseline=baseline, scale=scale)
        np.testing.assert_allclose(advantage, times * np.array(expected), rtol=1e-5, atol=1e-20)


def test_a_huge_reward_beside_another():
    """Summed it hides the other, [0, 1]; each by itself they cancel out."""
    np.testing.assert_allclose(of([[1e30, 0]], [[0, 1]]), [[0.5**0.5, -(0.5**0.5)]], rtol=1e-5)
    apart = of([[1e30, 0]], [[1, 0]], per_reward=True)
    np.testing.assert_allclose(apart, [[0.5**0.5, -(0.5**0.5)]], rtol=1e-3)


def test_each_reward_by_itself_keeps_what_a_sum_hides():
    """(1, 0) and (0, 1) have one sum, so the same advantage; by themselves, the rarer of the two rewards tells more."""
    two = [[1, 0, 0, 0]], [[0, 0, 1, 1]]
    summed, apart = of(*two), of(*two, per_reward=True)
    np.testing.assert_allclose(summed[0, 0], summed[0, 2], rtol=1e-6)
    assert apart[0, 0] > apart[0, 2] + 0.1
    np.testing.assert_allclose([apart.mean(), apart.std(ddof=1)], [0, 1], atol=2e-4)


def tokens(seed):
    """Rewards, values and the mask of rows of all lengths."""
    rng = np.random.default_rng(seed)
    mask_BT = np.asarray(objectives.length_mask(jnp.array([0, 6, 1, 3, 4]), 6))
    return rng.normal(size=(5, 6)).astype(np.float32), rng.normal(size=(5, 6)).astype(np.float32), mask_BT


@pytest.mark.parametrize(("discount", "gae_lambda"), [(1.0, 1.0), (1.0, 0.95), (0.9, 0.8), (0.9, 0.0), (0.0, 0.5)])
def test_gae_equals_the_double_loop(discount, gae_lambda):
    reward_BT, value_BT, mask_BT = tokens(0)
    advantage_BT, return_BT = gae(reward_BT, value_BT, mask_BT, discount=discount, gae_lambda=gae_lambda)
    expected_BT = np.zeros((5, 6))
    for i, n in enumerate(mask_BT.sum(axis=1).astype(int)):
        r, v = np.float64(reward_BT[i]), np.append(np.float64(value_BT[i, :n]), 0)
        for t in range(n):
            expected_BT[i, t] = sum(
                (discount * gae_lambda) ** (u - t) * (r[u] + discount * v[u + 1] - v[u]) for u in range(t, n)
            )
    np.testing.assert_allclose(advantage_BT, expected_BT, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(return_BT, expected_BT + value_BT * mask_BT, rtol=1e-5, atol=1e-6)


def test_gae_with_lambda_1_returns_the_discounted_rewards():
    reward_BT, value_BT, mask_BT = tokens(1)
    _, return_BT = gae(reward_BT, value_BT, mask_BT, discount=0.9, gae_lambda=1.0)
    expected = [sum(0.9**k * reward_BT[1, t + k] for k in range(6 - t)) for t in range(6)]
    np.testing.assert_allclose(return_BT[1], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("garbage", [NAN, np.inf, 1e30])
def test_nothing_matters_where_no_token_counts(garbage):
    """A reward that could not be graded is NaN in a row whose mask is 0; the other rows must not learn of it."""
    reward_BT, value_BT, mask_BT = tokens(2)
    plain = gae(reward_BT, value_BT, mask_BT, discount=1.0, gae_lambda=0.95)
    filled = (np.where(mask_BT > 0, x, np.float32(garbage)) for x in (reward_BT, value_BT))
    for x, y in zip(plain, gae(*filled, mask_BT, discount=1.0, gae_lambda=0.95), strict=True):
        assert (np.asarray(x) == np.asarray(y)).all()
    x = standardised(plain[0], mask_BT > 0)
    y = standardised(np.where(mask_BT > 0, plain[0], np.float32(garbage)), mask_BT > 0)
    assert (np.asarray(x) == np.asarray(y))[mask_BT > 0].all()


def test_standardised():
    advantage_BT, _, mask_BT = tokens(3)
    there = np.float64(advantage_BT[mask_BT > 0])
    scaled = (there - there.mean()) / (there.std(ddof=1) + GUARD)
    result = np.asarray(standardised(advantage_BT, mask_BT > 0))
    np.testing.assert_allclose(result[mask_BT > 0], scaled, rtol=1e-4, atol=1e-6)


def test_standardised_at_the_edges():
    advantage_BT, _, mask_BT = tokens(4)
    one_BT = np.pad(np.ones((1, 1), np.float32), ((1, 3), (0, 5)))
    for values, mask in ((advantage_BT, 0 * mask_BT), (0 * advantage_BT + 0.1, mask_BT), (advantage_BT, one_BT)):
        assert (np.asarray(standardised(values, mask > 0)) == 0).all()


@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("garbage", [0.0, NAN, np.inf, 1e30])
def test_value_terms(clip, garbage):
    """Values and gradients; whatever stands where no token counts."""
    value_BT, return_BT, mask_BT = tokens(5)
    old_BT = value_BT + np.random.default_rng(6).normal(size=value_BT.shape).astype(np.float32) * np.float32(0.3)

    def by_hand(v):
        near = np.clip(v, old_BT - (clip or 0), old_BT + (clip or 0))
        errors = [(v - return_BT) ** 2] if clip is None else [(v - return_BT) ** 2, (near - return_BT) ** 2]
        return np.max(errors, axis=0) / 2 * mask_BT

    slope_BT = (by_hand(np.float64(value_BT) + 1e-6) - by_hand(np.float64(value_BT) - 1e-6)) / 2e-6
    given = (np.where(mask_BT > 0, x, np.float32(garbage)) for x in (value_BT, old_BT, return_BT))
    names = ("value_BT", "old_value_BT", "return_BT", "mask_BT")
    filled = dict(zip(names, (*given, mask_BT), strict=True))

    def total(v):
        terms_BT = value_terms(**filled | {"value_BT": v}, clip=clip)
        return terms_BT.sum(), terms_BT

    gradient_BT, terms_BT = jax.jit(jax.grad(total, has_aux=True))(filled["value_BT"])
    np.testing.assert_allclose(terms_BT, by_hand(np.float64(value_BT)), rtol=1e-5)
    np.testing.assert_allclose(gradient_BT, slope_BT, rtol=1e-4, atol=1e-6)
