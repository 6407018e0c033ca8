"""scripts/bench.py at toy size: it runs steps and sweeps of r1jax, and its counts are those of the compiler."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "scripts" / "bench_parts"))

ENVIRONMENT = {"COLUMNS": "200", "JAX_ENABLE_COMPILATION_CACHE": "true"}  # the tests' own cache
SMALL = ("--prompts", "2", "--samples", "2", "--tokens", "6", "--microbatch", "2", "--repeats", "1")


def bench(model, out, *more):
    command = [sys.executable, ROOT / "scripts" / "bench.py", model, *SMALL, "--out", out, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert out.with_suffix(".png").stat().st_size > 1000
    return json.loads(out.with_suffix(".json").read_text()), done.stdout


@pytest.mark.slow
def test_steps_are_timed(pretrained, tmp_path):
    written, printed = bench(pretrained, tmp_path / "steps")
    result = written["results"]["r1jax"]
    assert len(result["step_s"]) == 1 and result["compiles"] > 0
    assert 0 < result["median"]["update"] < result["median"]["step"]
    assert set(result["split"]) == {"prefill", "decode", "grade", "prepare", "update", "log"}
    assert "of the roofline" in printed and written["rates"]["flops"] > 1e9


@pytest.mark.slow
def test_a_sweep_with_ragged_lengths(pretrained, tmp_path, monkeypatch):
    import r1jax_rollout

    script = runpy.run_path(str(ROOT / "scripts" / "bench.py"))
    names = script["main"].__globals__
    compilations = r1jax_rollout.Compilations()

    def in_this_process(part, work, args):
        if part == "roofline":
            return {"flops": 1e9, "bytes": 1e9, "device": "cpu"}
        return {"peak_bytes": 10**9} | r1jax_rollout.measure(work, compilations)

    monkeypatch.setitem(names, "measure", in_this_process)
    monkeypatch.setitem(names["SWEEPS"], "ragged", {"16 at most": {"prompts": 8, "tokens": 16, "ragged": True}})
    out = tmp_path / "sweep"
    script["main"]([str(pretrained), *SMALL, "--sweep", "ragged", "--random-weights", "--out", str(out)])
    (point,) = json.loads(out.with_suffix(".json").read_text())["results"].values()
    assert 2 < point["mean_length"] < 6 and point["useful_tokens_per_s"] > 0
    assert out.with_suffix(".png").stat().st_size > 1000


def test_unknown_peers_are_refused(pretrained):
    command = [sys.executable, ROOT / "scripts" / "bench.py", pretrained, "--against", "verl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "there are trl, tunix" in done.stderr


def test_stop_tokens_for_a_mean_length():
    from r1jax_rollout import stops_for

    completion_BT = np.random.default_rng(0).integers(0, 30, (64, 40))
    stops, lengths_B = stops_for(completion_BT, 10)
    first_B = [next((t + 1 for t, token in enumerate(row) if token in stops), 40) for row in completion_BT]
    assert lengths_B.tolist() == first_B and lengths_B.mean() == pytest.approx(10, abs=2)


def test_needed_products_are_those_of_a_forward(model_config):
    """Of one prompt of one position without completions: two for each weight of the layers, and the head's."""
    from roofline import needs

    from r1jax.models import init_params, make_model

    model = make_model(model_config, 64)
    params = init_params(model, jax.random.key(0))
    weights = sum(x.size for name, x in jax.tree.leaves_with_path(params) if "scale" not in str(name))
    need = needs(model.config, prompts=1, samples=1, prompt=1.0, tokens=0.0, bytes_each=4)
    attention = 2 * model_config.num_hidden_layers * model_config.num_attention_heads * model_config.head_dim
    assert need["prefill"]["flops"] == 2 * weights + attention
    assert need["optimizer"]["bytes"] == 32 * weights
