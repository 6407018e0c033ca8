"""The manifest names the commit and has a fingerprint of each stage's data."""

import dataclasses

from r1jax.config.load import load_config
from r1jax.run.manifest import commit, data_fingerprint, manifest
from r1jax.run.run import build_run


def test_fingerprints_change_with_the_data_and_with_nothing_else(tiny_file):
    def fingerprints(*overrides):
        run = build_run(load_config(tiny_file, overrides))
        run.close()
        return [data_fingerprint(stage.batches) for stage in run.stages]

    same = fingerprints()
    assert same[0] == same[1] and len(same[0]) == 32
    assert fingerprints("stages.rl.optimizer.learning_rate=0.5") == same
    other = fingerprints("stages.rl.task={name: arithmetic, max_digits: 1}")
    assert other[0] == same[0] and other[1] != same[1]
    assert fingerprints("seed=1") != same


def test_what_a_manifest_says(tiny_file):
    run = build_run(load_config(tiny_file))
    run.close()
    said = manifest(run.mesh, {"rl": run.stages[1].batches}, seed=7, parameters=123)
    assert (said["seed"], said["parameters"], said["mesh"]["data"], said["platform"]) == (7, 123, 8, "cpu")
    assert said["commit"] == commit() and len(said["devices"]) == 8 and "jax" in said["versions"]
    first = dataclasses.asdict(run.stages[1].batches.example("train", 0))
    assert said["first_examples"] == {"rl": {"prompt": first["prompt"], "answer": first["answer"]}}
