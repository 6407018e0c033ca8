"""A loaded model generates by seed and length, and its log-probs are those of a plain forward."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import r1jax
from r1jax.config.base import ConfigError
from r1jax.models import forward, unembed

SCORE = """
import json, sys, r1jax
model = r1jax.load(sys.argv[1])
print(json.dumps([logp_T.tolist() for logp_T in model.log_probs("1+2=", sys.argv[2:])]))
"""


@pytest.mark.slow
def test_a_loaded_run_generates_and_scores(trained):
    model = r1jax.load(trained[1])
    texts = model.generate("1+2=", samples=3, temperature=1.0)
    assert len(texts) == 3 and texts == model.generate("1+2=", samples=3, temperature=1.0)
    assert texts != model.generate("1+2=", samples=3, temperature=1.0, seed=1)
    assert len(model.generate("1+2=")) == 1
    assert all(len(model.model.tokenizer.encode(text)) <= 4 for text in model.generate("1+2=", samples=8, max_tokens=4))
    with pytest.raises(ConfigError, match="'w' at position 0"):
        model.generate("what?")


@pytest.mark.slow
def test_log_probs_are_those_of_a_plain_forward(trained):
    model = r1jax.load(trained[1])
    completions = ["3", "<think>1+2=3</think>", ""]
    ours = model.log_probs("1+2=", completions, temperature=0.5)
    for completion, logp_T in zip(completions, ours, strict=True):
        encode = model.model.tokenizer.encode
        prompt, ids = encode("1+2="), [*encode(completion), model.model.tokenizer.stop_ids[0]]
        hidden, _ = forward(model.model.model, model.model.weights, np.array([prompt + ids]))
        logits = np.asarray(unembed(model.model.model, model.model.weights, hidden))[0, :, : model.model.tokenizer.size]
        expected = jax.nn.log_softmax(logits / 0.5)[np.arange(len(ids)) + len(prompt) - 1, ids]
        np.testing.assert_allclose(logp_T, expected, atol=1e-4)


@pytest.mark.slow
def test_every_process_gets_all_log_probs(trained):
    completions = ["3", "<think>1+2=3</think>", ""]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "JAX_COORDINATOR_ADDRESS": address}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCORE, str(trained[1]), *completions],
            env={**environment, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
        )
        for number in range(2)
    ]
    expected = r1jax.load(trained[1]).log_probs("1+2=", completions)
    for process in processes:
        ours = json.loads(process.communicate(timeout=600)[0].splitlines()[-1])
        assert [len(logp_T) for logp_T in ours] == [len(logp_T) for logp_T in expected]
        for logp_T, expected_T in zip(ours, expected, strict=True):
            np.testing.assert_allclose(logp_T, expected_T, atol=1e-4)


def test_settings_that_would_do_nothing_are_refused(trained):
    model = r1jax.load(trained[1])
    for settings in ({"top_p": 0.5}, {"top_k": 3, "temperature": 0.0}, {"min_p": 0.1}):
        with pytest.raises(ConfigError, match=f"temperature 0 always takes .* leave out {next(iter(settings))}"):
            model.generate("1+2=", **settings)
    with pytest.raises(ConfigError, match="greater than or equal to 0"):
        model.generate("1+2=", temperature=-1.0)
    with pytest.raises(ConfigError, match="temperature is 0: log-probs are those of sampling"):
        model.log_probs("1+2=", ["3"], temperature=0)
