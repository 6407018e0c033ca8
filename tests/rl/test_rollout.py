"""From prompts to graded samples: texts end at the stop token, and a sample does not depend on its batch."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.load import load_config
from r1jax.parallel.mesh import own_rows, to_global
from r1jax.programs.grpo import Trainer
from r1jax.rl.rollout import collect, completion_texts, roll_out, until_stop_texts
from r1jax.run.run import build_run
from r1jax.sampling.sampler import Samples
from r1jax.text.tokenizer import CharacterTokenizer


def test_texts_end_before_the_stop_token():
    samples = Samples(
        completion_BT=jnp.array([[2, 3, 1, 0], [1, 0, 0, 0], [3, 3, 2, 2], [2, 2, 2, 1]]),
        length_B=jnp.array([3, 1, 4, 4]),
        logp_BT=jnp.zeros((4, 4)),
        truncated_B=jnp.array([False, False, True, False]),
    )
    texts = completion_texts(samples, CharacterTokenizer("ab"))
    assert texts == ["ab", "", "bbaa", "aaa"]
    assert [(t.length, t.truncated) for t in texts] == [(3, False), (1, False), (4, True), (4, False)]


def test_a_stop_text_ends_a_sample_with_the_token_that_completes_it(mesh):
    """a is 2, b is 3, abc is 4: the text abb ends the first two, the second inside a token."""
    tokenizer = CharacterTokenizer(["a", "b", "bba"])
    tokenizer.stop_at(["abb", "bab"])
    tokens = jnp.array([[2, 2, 3, 3, 2, 1], [2, 4, 2, 2, 2, 2], [2, 3, 2, 2, 2, 2], [2, 2, 1, 0, 0, 0]] * 2)
    samples = Samples(
        completion_BT=tokens,
        length_B=jnp.array([6, 6, 6, 3] * 2),
        logp_BT=-jnp.ones((8, 6)),
        truncated_B=jnp.array([False, True, True, False] * 2),
        support_BTI=jnp.broadcast_to(tokens[:, :, None], (8, 6, 2)),
    )
    cut = until_stop_texts(mesh, samples, tokenizer)
    assert cut.length_B.tolist() == [4, 2, 6, 3] * 2
    assert cut.truncated_B.tolist() == [False, False, True, False] * 2
    assert cut.completion_BT[:2].tolist() == [[2, 2, 3, 3, 0, 0], [2, 4, 0, 0, 0, 0]]
    assert cut.logp_BT[:2].tolist() == [[-1] * 4 + [0] * 2, [-1] * 2 + [0] * 4]
    assert cut.support_BTI[1].tolist() == [[2, 2], [4, 4], *[[-1, -1]] * 4]
    assert cut.completion_BT.sharding.spec == samples_sharding(mesh)
    for some in (samples, cut):  # whether or not they have been cut
        texts = completion_texts(some, tokenizer)
        assert texts == ["a", "", "abaaaa", "aa"] * 2
        assert [text.truncated for text in texts] == [False, False, True, False] * 2
    assert until_stop_texts(mesh, samples, CharacterTokenizer("ab")) is samples


def samples_sharding(mesh):
    return to_global(mesh, np.zeros(8), 8).sharding.spec


@pytest.mark.slow
def test_a_sample_does_not_depend_on_its_batch(tiny_file):
    """Eight prompts at once, or four times two of them: the same samples, but for rounding in the log-probs."""
    run = build_run(load_config(tiny_file, ["mesh.data=2", "mesh.tensor=4"]))
    trainer, batches = Trainer(run, run.stages[1]), run.stages[1].batches
    with contextlib.closing(run), run.devices():
        weights = run.loaded(run.stages[1], run.initial_weights()).sampling_weights()
        whole = collect(trainer.sampling, batches, trainer.settings, weights, 16, jax.random.key(3))
        parts = [
            roll_out(
                trainer.sampling, weights, batches.prompts("train", 16 + i, own_rows(run.mesh, 2)), 2, jax.random.key(3)
            )
            for i in range(0, 8, 2)
        ]
    rollouts = [dataclasses.replace(rollout, rewards=dict(rollout.rewards)) for rollout, _ in parts]
    parted = jax.tree.map(lambda *x: np.concatenate([np.asarray(part) for part in x]), *rollouts)
    np.testing.assert_array_equal(whole.rollout.samples.completion_BT, parted.samples.completion_BT)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole.rollout, parted)
    assert whole.transcript.rows() == [row for _, transcript in parts for row in transcript.rows()]
