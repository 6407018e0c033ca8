"""Divergences and the gradient of the loss against float64 numpy, over the whole vocabulary and over top-k; in chunks,
in packed rows, and from a teacher that is another model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.experiment import DistillStage
from r1jax.config.training import OptimizerSettings
from r1jax.data.packing import Layout, lay_out
from r1jax.models import forward, head, init_params, logprobs, make_model, unembed
from r1jax.rl.distillation import divergence, kl, loss_and_sums, parts, teacher_scores
from r1jax.rl.logprobs import completion_log_probs, joined_rows
from r1jax.rl.losses import length_mask, reduction_weights
from r1jax.rl.types import TrainBatch

B, S, T, VOCABULARY = 6, 4, 5, 20


def stage(**settings):
    return DistillStage(
        name="student",
        program="distill",
        teacher="base",
        steps=1,
        prompts_per_step=B,
        optimizer=OptimizerSettings(learning_rate=1.0),
        temperature=0.7,
        **settings,
    )


@pytest.fixture(scope="module")
def logits(setting):
    """Of student and teacher, in float64."""
    student, params, teacher, weights, batch = setting
    both = ((student, params), (teacher, weights))
    return [np.asarray(jax.jit(lambda w, m=m: logits_of(m, w, batch))(w), np.float64) for m, w in both]


@pytest.fixture(scope="module")
def setting(model_config):
    """Student, a teacher that is wider and has more rows of padding and an unembedding of its own, and samples."""
    small = dataclasses.replace(model_config, num_hidden_layers=1)
    wider = dataclasses.replace(small, hidden_size=24, tie_word_embeddings=False, vocab_size=70)
    student, teacher = make_model(small, VOCABULARY), make_model(wider, VOCABULARY)
    init = jax.jit(init_params, static_argnums=0)
    params, weights = init(student, jax.random.key(0)), init(teacher, jax.random.key(1))
    rng = np.random.default_rng(0)
    batch = TrainBatch(
        jnp.array(rng.integers(0, VOCABULARY, (B, S))),
        jnp.array(rng.integers(1, S + 1, B)),
        jnp.array(rng.integers(0, VOCABULARY, (B, T))),
        jnp.array([1, 5, 3, 5, 2, 4]),
    )
    logp_BT = jax.jit(lambda params: completion_log_probs(student, params, batch, temperature=0.7)[0])(params)
    return student, params, teacher, weights, dataclasses.replace(batch, sampler_logp_BT=logp_BT)


def logits_of(model, params, batch):
    """[tokens, V] of all completion tokens, sequence by sequence."""
    logits_BJV = unembed(model, params, forward(model, params, joined_rows(batch))[0])
    places = [
        (b, int(prompt) - 1 + t)
        for b, (prompt, length) in enumerate(
            zip(*map(np.asarray, (batch.prompt_length_B, batch.length_B)), strict=True)
        )
        for t in range(int(length))
    ]
    return logits_BJV[*np.transpose(places)][:, :VOCABULARY]


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def events(logp, members):
    """Log-probs of events that are sets of tokens."""
    return np.stack([np.log(np.exp(logp[..., ids]).sum(-1)) for ids in members], axis=-1)


def numpy_divergence(z, teacher_z, beta, members):
    """Of one token: of p and q as the tokens are, or of events."""
    p, q = (np.exp(events(log_softmax(x / 0.7), members)) for x in (z, teacher_z))
    if beta == 1:
        return (p * np.log(p / q)).sum()
    if beta == 0:
        return (q * np.log(q / p)).sum()
    m = beta * q + (1 - beta) * p
    return beta * (q * np.log(q / m)).sum() + (1 - beta) * (p * np.log(p / m)).sum()


def members_of(teacher_z, top_k):
    """Every token for itself; or the teacher's most probable ones, and one event of all others."""
    order = np.argsort(-teacher_z)
    single = order[: len(order) if top_k is None else top_k]
    return [*([i] for i in single), *([order[top_k:]] if top_k is not None and top_k < len(order) else [])]


def expected(logits, beta, top_k):
    """The loss, the mean reverse KL, and the gradient by the logits of each token from formulas in float64."""
    z_NV, teacher_NV = logits
    N, losses, kls, gradient = len(z_NV), [], [], np.zeros_like(z_NV)
    for n, (z, teacher_z) in enumerate(zip(z_NV, teacher_NV, strict=True)):
        members = members_of(teacher_z, top_k)
        losses.append(numpy_divergence(z, teacher_z, beta, members))
        kls.append(numpy_divergence(z, teacher_z, 1.0, members))
        p_V = np.exp(log_softmax(z / 0.7))
        logp, logq = (events(log_softmax(x / 0.7), members) for x in (z, teacher_z))
        p, q = np.exp(logp), np.exp(logq)
        if beta == 1:
            by_event = logp - logq - losses[-1]
        elif beta == 0:
            by_event = 1 - q / p
        else:  # d/dp of β Σ q log(q / m) + (1 - β) Σ p log(p / m) is (1 - β) log(p / m), up to a constant
            slope = (1 - beta) * np.log(p / (beta * q + (1 - beta) * p))
            by_event = slope - (p * slope).sum()
        for event, ids in zip(by_event, members, strict=True):
            gradient[n, ids] = p_V[ids] * event / 0.7 / N
    return np.mean(losses), np.mean(kls), gradient


def of_r1jax(setting, settings, layout=None):
    student, params, teacher, weights, batch = setting
    batch = dataclasses.replace(batch, layout=layout)
    scores = jax.jit(functools.partial(teacher_scores, teacher, stage=settings))(weights, batch)
    token_BT = reduction_weights(length_mask(batch.length_B, T), "token_mean")
    top = None if settings.teacher_top_k else head(weights)

    def loss(params):
        return loss_and_sums(params, (batch, scores, token_BT), top, model=student, teacher=teacher, stage=settings)

    return scores, *jax.jit(jax.grad(loss, has_aux=True))(params)


def assert_near(ours, theirs, relative):
    def near(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=relative * np.abs(b).max())

    jax.tree.map(near, ours, theirs)


CASES = [(1.0, None), (1.0, 3), (1.0, 1), (0.0, None), (0.0, 3), (0.3, None), (0.3, 3)]


@pytest.mark.parametrize(("beta", "top_k"), CASES)
def test_loss_and_gradient_equal_float64(beta, top_k, setting, logits):
    student, params, _, _, batch = setting
    loss, mean_kl, by_logits = expected(logits, beta, top_k)
    _, gradients, sums = of_r1jax(setting, stage(jsd_beta=beta, teacher_top_k=top_k))
    np.testing.assert_allclose(sums["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(sums["kl"], mean_kl, rtol=1e-5)
    np.testing.assert_allclose(sums["sampling/sampling_logp_difference/mean"], 0, atol=1e-6)
    by_logits = jnp.array(by_logits, jnp.float32)
    pulled_back = jax.jit(jax.grad(lambda params: (by_logits * logits_of(student, params, batch)).sum()))(params)
    assert_near(gradients, pulled_back, 1e-5)


def test_the_formulas_of_the_gradient_follow_finite_differences(logits):
    """Those above, by every logit of one token."""
    (z, teacher_z), tokens = (z_NV[4] for z_NV in logits), len(logits[0])
    for beta, top_k in CASES:
        members, h = members_of(teacher_z, top_k), 1e-5
        steps = h * np.eye(VOCABULARY)
        slopes = [
            (numpy_divergence(z + s, teacher_z, beta, members) - numpy_divergence(z - s, teacher_z, beta, members))
            / (2 * h)
            for s in steps
        ]
        np.testing.assert_allclose(expected(logits, beta, top_k)[2][4] * tokens, slopes, rtol=1e-5, atol=1e-8)


def test_top_k_of_all_tokens_is_the_whole_vocabulary(setting):
    (_, gradients, sums), (_, whole, whole_sums) = (
        of_r1jax(setting, stage(teacher_top_k=k)) for k in (VOCABULARY + 5, None)
    )
    np.testing.assert_allclose(sums["loss"], whole_sums["loss"], rtol=1e-5)
    assert_near(gradients, whole, 1e-5)


def test_fewer_tokens_see_less_of_the_divergence(logits):
    """Merging outcomes never adds to a KL."""
    losses = [expected(logits, 1.0, k)[0] for k in (1, 2, 4, 8, VOCABULARY)]
    assert losses == sorted(losses) and 0 < losses[0] < 0.9 * losses[-1]


def test_what_is_left_of_a_certain_teacher_is_not_rounding():
    """1 - Σ p is 0 in float32; the others' probability is e⁻³⁰ and has a gradient that is finite."""
    logp_BCV = jax.nn.log_softmax(jnp.array([30.0, 0.0, 0.0, 0.0]))[None, None]
    _, rest_BC = parts(logp_BCV, jnp.array([[[0]]]))
    np.testing.assert_allclose(rest_BC, np.log(3) - 30, rtol=1e-6)


def test_equal_distributions_have_no_divergence_and_no_gradient(setting):
    student, params, _, _, batch = setting
    _, gradients, sums = of_r1jax((student, params, student, params, batch), stage(teacher_top_k=3))
    assert abs(float(sums["loss"])) < 1e-6
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradients)) < 1e-6


def test_tokens_of_probability_zero():
    logp = jnp.array([0.0, logprobs.MASKED, logprobs.MASKED])
    logq = jnp.array([np.log(0.5), np.log(0.5), logprobs.MASKED])
    for beta, value in ((1.0, np.log(2)), (0.5, 0.5 * (0.5 * np.log(2 / 3) + 0.5 * np.log(2)) + 0.5 * np.log(4 / 3))):
        np.testing.assert_allclose(divergence(logp, logq, beta), value, rtol=1e-6)
        assert np.isfinite(jax.grad(divergence)(logp, logq, beta)).all()
    assert float(kl(logp, logp)) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [None, 3])
def test_chunks_and_packed_rows_change_nothing(top_k, setting, monkeypatch):
    settings, batch = stage(teacher_top_k=top_k), setting[-1]
    scores, gradients, sums = of_r1jax(setting, settings)
    lengths = np.asarray(batch.prompt_length_B + batch.length_B)
    layout = Layout(*map(jnp.array, lay_out(lengths, shards=1, microbatches=1, joined=S + T, width=9)))
    assert layout.source_MW.size > batch.completion_BT.size  # positions of completions reach the vocabulary
    narrow = Layout(*map(jnp.array, lay_out(lengths, shards=1, microbatches=1, joined=S + T, width=10)))
    monkeypatch.setattr(logprobs, "UNCHUNKED_BYTES", 0)
    monkeypatch.setattr(logprobs, "CHUNK_BYTES", 4000)
    for how in (None, layout, narrow):
        again, ours, our_sums = of_r1jax(setting, settings, how)
        assert_near(ours, gradients, 2e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), our_sums, sums)
        mask = np.asarray(length_mask(batch.length_B, T)) > 0
        jax.tree.map(lambda a, b, mask=mask: np.testing.assert_allclose(a[mask], b[mask], atol=2e-5), again, scores)
