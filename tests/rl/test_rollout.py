"""From prompts to graded samples: texts end at the stop token, and a sample does not depend on its batch."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from r1jax.config.load import load_config
from r1jax.parallel.mesh import own_rows
from r1jax.programs.grpo import Trainer
from r1jax.rl.rollout import collect, completion_texts, roll_out
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
