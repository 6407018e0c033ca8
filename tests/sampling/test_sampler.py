"""The sampler against a naive loop, the trainer's log-probs, and rigged models that stop at given positions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from meshes import MESHES
from tiny import DIVISIBLE

from r1jax.config.training import MeshSettings
from r1jax.models import forward, init_params, make_model, unembed
from r1jax.parallel.mesh import SAMPLE_WEIGHTS, make_mesh, row_shards, to_global, weight_shardings
from r1jax.rl.logprobs import completion_log_probs, model_inputs, to_completions
from r1jax.rl.types import TrainBatch
from r1jax.sampling import sampler as module
from r1jax.sampling.sampler import make_sampler

VOCABULARY, STOP = 20, 1


@pytest.fixture(autouse=True)
def on_mesh(mesh):
    with jax.set_mesh(mesh):
        yield


@pytest.fixture
def model(model_config):
    model = make_model(model_config, VOCABULARY)
    return model, jax.tree.map(lambda x: 3 * x, jax.jit(init_params, static_argnums=0)(model, jax.random.key(0)))


def prompts_of(rows, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(2, VOCABULARY, (rows, 5)).astype(np.int32), rng.integers(1, 6, rows).astype(np.int32)


def run(model, mesh, prompts, lengths, ids=None, *, group=2, new=6, temperature=1.0, seed=0, stops=(STOP,), **limits):
    module, params = model
    sampler = make_sampler(
        module, mesh, stop_ids=stops, group_size=group, max_new=new, temperature=temperature, **limits
    )
    ids = np.arange(len(prompts), dtype=np.int32) if ids is None else ids
    rows = to_global(mesh, (prompts, lengths, ids), len(prompts))
    return jax.tree.map(np.asarray, sampler(params, *rows, jax.random.key(seed)))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_equal_the_trainers(model, mesh, temperature):
    prompts, lengths = prompts_of(8)
    samples = run(model, mesh, prompts, lengths, temperature=temperature)
    batch = TrainBatch(*(np.repeat(x, 2, axis=0) for x in (prompts, lengths)), samples.completion_BT, samples.length_B)
    log_probs = jax.jit(lambda params, batch: completion_log_probs(model[0], params, batch, temperature=temperature)[0])
    logp = log_probs(model[1], jax.tree.map(jnp.asarray, batch))
    mask = np.arange(6)[None] < samples.length_B[:, None]
    np.testing.assert_allclose(samples.logp_BT[mask], np.asarray(logp)[mask], atol=1e-4)
    assert (samples.logp_BT[~mask] == 0).all() and (samples.completion_BT[~mask] == 0).all()
    assert samples.completion_BT.max() < VOCABULARY


def test_greedy_equals_a_naive_loop(model, mesh):
    prompts, lengths = prompts_of(8, seed=1)
    samples = run(model, mesh, prompts, lengths, group=1, temperature=0.0)
    logits_of = jax.jit(lambda params, tokens: unembed(model[0], params, forward(model[0], params, tokens)[0])[0])
    for row in range(8):
        tokens = prompts[row][: lengths[row]].tolist()
        for t in range(samples.length_B[row]):
            padded = jnp.array([tokens + [0] * (11 - len(tokens))])  # what follows a token does not reach it
            tokens.append(int(logits_of(model[1], padded)[len(tokens) - 1, :VOCABULARY].argmax()))
            assert samples.completion_BT[row, t] == tokens[-1]


@pytest.mark.slow
def test_a_sample_depends_on_its_prompt_and_number_alone(model, mesh):
    """Reordered prompts, other prompts in the batch, another group size and length limit change no token."""
    prompts, lengths = prompts_of(16)
    whole = run(model, mesh, prompts, lengths)
    order = np.random.default_rng(0).permutation(16)[:8]
    part = run(model, mesh, prompts[order], lengths[order], order.astype(np.int32), group=4, new=9)
    for place, prompt in enumerate(order):
        a, b = whole.completion_BT[prompt * 2 : prompt * 2 + 2], part.completion_BT[place * 4 : place * 4 + 2]
        np.testing.assert_array_equal(a, b[:, :6])
    other = run(model, mesh, prompts, lengths, seed=1)
    assert (other.completion_BT != whole.completion_BT).any()
    assert (whole.completion_BT[0::2] != whole.completion_BT[1::2]).any()


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"data": 8}, {"data": 2, "tensor": 4}])
def test_a_batch_that_shrinks_gives_the_same_samples(model, sizes, monkeypatch):
    """Stops come so often that every device goes on with a half, a quarter and an eighth of its sequences."""
    mesh, (prompts, lengths) = make_mesh(MeshSettings(**sizes)), prompts_of(32)
    rows = 128 // row_shards(mesh)
    model = model[0], jax.tree.map(lambda x: x / 3, model[1])
    without_finished, found, seen = module.without_finished, {}, {}
    for least in (1, 1000):
        seen[least] = []
        monkeypatch.setattr(module, "LEAST_ROWS", least)
        monkeypatch.setattr(
            module,
            "without_finished",
            lambda s, size, seen=seen[least]: (seen.append(size), without_finished(s, size))[1],
        )
        module.make_sampler.cache_clear()
        with jax.set_mesh(mesh):
            found[least] = run(model, mesh, prompts, lengths, group=4, new=16, top_k=9, stops=tuple(range(1, 7)))
    module.make_sampler.cache_clear()
    assert seen == {1: [rows // 2, rows // 4, rows // 8], 1000: []}
    assert found[1].length_B.reshape(-1, rows).std(axis=1).min() > 1
    for name in ("completion_BT", "length_B", "truncated_B", "support_BTI"):
        np.testing.assert_array_equal(getattr(found[1], name), getattr(found[1000], name))
    np.testing.assert_allclose(found[1].logp_BT, found[1000].logp_BT, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "batches"), [({"data": 8}, [1, 3]), ({"data": 2, "tensor": 4}, [16])])
def test_sequences_that_wait_give_the_same_samples(model, sizes, batches):
    """Each place is filled many times, so that all slots of the cache are overwritten."""
    mesh = make_mesh(MeshSettings(**sizes))
    prompts, lengths = prompts_of(40)  # 5 on a device: with a batch of 3 in two overlapping parts
    limits = {"group": 4, "new": 16, "top_k": 9, "stops": tuple(range(1, 7))}
    model = model[0], jax.tree.map(lambda x: x / 3, model[1])
    with jax.set_mesh(mesh):
        together = run(model, mesh, prompts, lengths, **limits)
        found = [run(model, mesh, prompts, lengths, **limits, decode_batch=batch) for batch in batches]
    assert together.truncated_B.any() and together.length_B.std() > 1
    for waited in found:
        for name in ("completion_BT", "length_B", "truncated_B", "support_BTI"):
            np.testing.assert_array_equal(getattr(waited, name), getattr(together, name))
        np.testing.assert_allclose(waited.logp_BT, together.logp_BT, atol=1e-5)


def test_batch_sizes():
    assert module.batch_sizes(64, prompt_slots=0, slots=100) == [32, 16, 8]
    assert module.batch_sizes(32, prompt_slots=100, slots=100) == [16, 8]
    assert module.batch_sizes(32, prompt_slots=101, slots=100) == [
        8
    ]  # 16 caches of 201 slots are larger than 32 of 100
    assert module.batch_sizes(32, prompt_slots=1024, slots=64) == []
    assert module.batch_sizes(36, prompt_slots=10, slots=100) == [18, 9]
    assert module.batch_sizes(171, prompt_slots=8, slots=45) == [85, 42, 21]
    assert module.batch_sizes(15, prompt_slots=0, slots=9) == []


def no_keys(prompts):
    return (jnp.zeros((1, prompts, 1, 1, 1)),) * 2


class Rigged(nn.Module):
    """Gives token STOP when the position after the prompt is `stop_at[row]`, else token 5; has no weights to learn."""

    config: object
    stop_at: tuple[int, ...]
    prompt: int
    vocabulary: int = VOCABULARY

    def __call__(self, tokens_BT, positions_BT=None, segments_BT=None, cache=None, prefix=None, keep=False):
        B, T = tokens_BT.shape
        positions_BT = jnp.broadcast_to(jnp.arange(T)[None], (B, T)) if positions_BT is None else positions_BT
        says_BT = (positions_BT + 1 - self.prompt) == jnp.array(self.stop_at)[:, None]
        return says_BT[:, :, None].astype(jnp.float32), no_keys(B) if keep else cache.advance(T)

    @nn.nowrap
    def empty_cache(self, rows, slots):
        return make_model(self.config, VOCABULARY).empty_cache(rows, slots)

    def unembed(self, hidden):
        stop = jnp.where(jnp.arange(64) == STOP, 100.0, 0.0)[None, None]
        other = jnp.where(jnp.arange(64) == 5, 50.0, 0.0)[None, None]
        return hidden * stop + other


def test_stop_at_first_last_and_no_position(model_config, mesh):
    limit = 4
    stop_at = (0, 3, 99, 1, 2, 0, 99, 3)
    rigged = Rigged(model_config, stop_at, prompt=3), {}
    samples = run(rigged, mesh, np.full((8, 3), 7, np.int32), np.full(8, 3, np.int32), group=1, new=limit)
    for row, stop in enumerate(stop_at):
        expected = [5] * min(stop, limit) + [STOP] * (stop < limit)
        assert samples.length_B[row] == len(expected)
        assert samples.completion_BT[row].tolist() == expected + [0] * (limit - len(expected))
        assert bool(samples.truncated_B[row]) == (stop >= limit)
        assert (samples.logp_BT[row, len(expected) :] == 0).all()


@pytest.fixture(scope="module")
def on_one_device():
    """A model that any mesh divides, its weights, and its samples on one device."""
    model = make_model(DIVISIBLE, VOCABULARY)
    params = jax.tree.map(lambda x: 2 * x, jax.jit(init_params, static_argnums=0)(model, jax.random.key(0)))
    mesh = make_mesh(MeshSettings(), jax.devices()[:1])
    with jax.set_mesh(mesh):
        return model, params, run((model.clone(gather=False), params), mesh, *prompts_of(8))


@pytest.mark.slow
@pytest.mark.parametrize("sizes", MESHES)
def test_any_mesh_gives_the_samples_of_one_device(on_one_device, sizes):
    """With weights as decoding splits them."""
    model, params, expected = on_one_device
    mesh = make_mesh(MeshSettings(**sizes))
    with jax.set_mesh(mesh):
        weights = jax.device_put(params, weight_shardings(mesh, params, SAMPLE_WEIGHTS))
        samples = run((model.clone(gather=False), weights), mesh, *prompts_of(8))
    np.testing.assert_array_equal(samples.completion_BT, expected.completion_BT)
    np.testing.assert_array_equal(samples.length_B, expected.length_B)
    np.testing.assert_allclose(samples.logp_BT, expected.logp_BT, atol=1e-5)


def test_top_k_and_top_p(model, mesh):
    """The support equals numpy's on the logits, and the trainer has the same log-probs."""
    prompts, lengths = prompts_of(8, seed=2)
    samples = run(model, mesh, prompts, lengths, temperature=0.7, top_k=5, top_p=0.8)
    mask = np.arange(6)[None] < samples.length_B[:, None]
    batch = TrainBatch(
        *(np.repeat(x, 2, axis=0) for x in (prompts, lengths)),
        samples.completion_BT,
        samples.length_B,
        samples.support_BTI,
    )

    @jax.jit
    def trainer(params, batch):
        logits = unembed(model[0], params, to_completions(batch, forward(model[0], params, *model_inputs(batch))[0]))
        return completion_log_probs(model[0], params, batch, temperature=0.7)[0], logits

    logp, logits = (np.asarray(x) for x in trainer(model[1], jax.tree.map(jnp.asarray, batch)))
    np.testing.assert_allclose(samples.logp_BT[mask], logp[mask], atol=1e-4)
    sizes = []
    for row, t in zip(*np.nonzero(mask), strict=True):
        z = logits[row, t, :VOCABULARY].astype(np.float64) / 0.7
        top = np.argsort(-z)[:5]
        p = np.exp(z[top] - z.max()) / np.exp(z[top] - z.max()).sum()
        before = np.cumsum(p) - p
        assert np.abs(before - 0.8).min() > 1e-5  # no matter of rounding
        ids, p = top[before < 0.8], p[before < 0.8]
        sizes.append(len(ids))
        assert samples.support_BTI[row, t].tolist() == [*ids, *[-1] * (5 - len(ids))]
        assert samples.completion_BT[row, t] in ids
        place = ids.tolist().index(samples.completion_BT[row, t])
        np.testing.assert_allclose(samples.logp_BT[row, t], np.log(p / p.sum())[place], atol=1e-4)
    assert {1, 2, 3} <= set(sizes)


class Fixed(nn.Module):
    """Gives token i + 2 with probability SHARES[i], whatever came before."""

    config: object
    vocabulary: int = VOCABULARY

    def __call__(self, tokens_BT, positions_BT=None, segments_BT=None, cache=None, prefix=None, keep=False):
        return tokens_BT[:, :, None].astype(jnp.float32), no_keys(len(tokens_BT)) if keep else cache.advance(1)

    @nn.nowrap
    def empty_cache(self, rows, slots):
        return make_model(self.config, VOCABULARY).empty_cache(rows, slots)

    def unembed(self, hidden):
        said = jnp.full(64, -1e9).at[2 : 2 + len(SHARES)].set(jnp.log(jnp.array(SHARES)))
        return 0 * hidden + said[None, None]


SHARES = [0.15, 0.4, 0.05, 0.3, 0.1]


@pytest.mark.parametrize(
    ("limits", "kept"),
    [({"top_k": 3}, {3: 0.4, 5: 0.3, 2: 0.15}), ({"top_p": 0.75}, {3: 0.4, 5: 0.3, 2: 0.15}),
     ({"min_p": 0.3}, {3: 0.4, 5: 0.3, 2: 0.15}), ({"top_k": 4, "min_p": 0.3}, {3: 0.4, 5: 0.3, 2: 0.15}),
     ({"top_k": 4, "top_p": 0.7}, {3: 0.4, 5: 0.3}), ({"top_k": 99}, dict(enumerate(SHARES, 2)))],
)  # fmt: skip
def test_draws_follow_what_is_left_of_the_distribution(limits, kept, model_config, mesh):
    drawn = run((Fixed(model_config), {}), mesh, *prompts_of(8), group=500, new=1, **limits)
    ids, counts = np.unique(drawn.completion_BT[:, 0], return_counts=True)
    assert set(ids) == set(kept)
    for token, count in zip(ids, counts, strict=True):
        share = kept[int(token)] / sum(kept.values())
        assert abs(count / 4000 - share) < 4 * np.sqrt(share * (1 - share) / 4000)
        np.testing.assert_allclose(drawn.logp_BT[drawn.completion_BT == token], np.log(share), atol=1e-5)
    top = sorted(kept, key=kept.get, reverse=True)
    if "top_k" not in limits:
        assert drawn.support_BTI is None
    elif limits["top_k"] > VOCABULARY:  # all ids, those without probability last
        assert (drawn.support_BTI[:, :, : len(kept)] == top).all()
        assert (np.sort(drawn.support_BTI) == np.arange(VOCABULARY)).all()
    else:
        assert (drawn.support_BTI == [*top, *[-1] * (limits["top_k"] - len(kept))]).all()


def test_greedy_ignores_top_k_top_p_and_min_p(model_config, mesh):
    limits = {"top_k": 2, "top_p": 0.1, "min_p": 0.9}
    drawn = run((Fixed(model_config), {}), mesh, *prompts_of(8), group=1, new=2, temperature=0.0, **limits)
    assert (drawn.completion_BT == 3).all() and drawn.support_BTI is None
    np.testing.assert_allclose(drawn.logp_BT, np.log(0.4), atol=1e-6)
