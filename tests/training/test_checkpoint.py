"""Checkpoints come back as they were saved, in their shardings, or not at all; the oldest go, and a torn one is not
named."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.config.base import RunStopped
from r1jax.parallel.jitted import abstract
from r1jax.parallel.mesh import sharding
from r1jax.training.checkpoint import Checkpoints, DamagedCheckpoint, checksums, put_aside


def test_what_is_saved_is_restored(mesh, tmp_path):
    weights = jax.device_put(jnp.arange(16.0), sharding(mesh, "B"))
    trees = {"params": {"w": weights}, "training": {"step": jnp.int32(3), "moments": {"w": 2 * weights}}}
    like = jax.tree.map(lambda x: abstract(x, x.sharding), trees)
    with Checkpoints(tmp_path / "rl", keep=2) as checkpoints:
        assert checkpoints.latest() is None and checkpoints.steps() == []
        for step in (3, 6, 9):
            checkpoints.save(step, jax.tree.map(lambda x, s=step: x + s, trees))
    (tmp_path / "rl" / "12.orbax-checkpoint-tmp-1").mkdir()  # what a killed save leaves
    with Checkpoints(tmp_path / "rl", keep=2) as checkpoints:
        assert checkpoints.steps() == [6, 9] and checkpoints.latest() == 9
        restored = checkpoints.restore(9, like)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 9), dict(restored), trees)
        assert restored["params"]["w"].sharding == weights.sharding
        assert checkpoints.restore(6, {"params": like["params"]}).keys() == {"params"}


def test_the_best_score_is_kept_beside_the_last_ones(tmp_path):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step, score in enumerate((0.5, 0.9, 0.9, 0.2), 1):
            checkpoints.save(step, {"params": {"w": jnp.full(2, step)}}, score)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert checkpoints.steps() == [3, 4]
        assert (checkpoints.latest(), checkpoints.final()) == (4, 3)
    with Checkpoints(tmp_path / "rising", keep=2) as checkpoints:
        for step in (1, 2):  # large enough that the second save is in flight when it is asked for
            checkpoints.save(step, {"params": {"w": jnp.full(2**22, step)}}, float(step))
        assert checkpoints.final() == 2
    with Checkpoints(tmp_path / "unscored", keep=2, scored=False) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, {"params": {"w": jnp.full(2, step)}})
    with Checkpoints(tmp_path / "unscored") as checkpoints:
        assert checkpoints.steps() == [2, 3] and checkpoints.final() == checkpoints.latest() == 3


def test_multiples_of_every_are_kept_too(tmp_path):
    with Checkpoints(tmp_path, keep=1, every=4, scored=False) as checkpoints:
        for step in range(2, 16, 2):
            checkpoints.save(step, {"params": {"w": jnp.full(2, step)}})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [4, 8, 12, 14]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8"])
def test_a_checksum_changes_with_any_bit_and_not_with_the_mesh(dtype, mesh):
    x = np.arange(48).reshape(16, 3).astype(dtype)
    expected = checksums({"a": [jnp.asarray(x)]})
    bits = np.frombuffer(x.tobytes(), f"uint{8 * x.dtype.itemsize}").astype(np.uint64)
    assert expected == {"a/0": int((bits * (2 * np.arange(48, dtype=np.uint64) + 1)).sum() % 2**32)}
    assert checksums({"a": [jax.device_put(x, sharding(mesh, "BT"))]}) == expected
    for byte in range(0, x.nbytes, 37):
        for bit in range(8):
            changed = bytearray(x.tobytes())
            changed[byte] ^= 1 << bit
            assert checksums({"a": [jnp.asarray(np.frombuffer(changed, x.dtype).reshape(x.shape))]}) != expected


def test_a_damaged_checkpoint_is_refused_and_put_aside(tmp_path):
    trees = {"params": {"w": jnp.arange(4096.0)}, "training": {"step": jnp.int32(0)}}
    like = jax.tree.map(lambda x: abstract(x, x.sharding), trees)
    with Checkpoints(tmp_path, keep=4) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, trees)
    sums = tmp_path / "3" / "checksums" / "metadata"
    assert json.loads(sums.read_text()) == {name: checksums(tree) for name, tree in trees.items()} | {"step": 3}
    sums.write_text(sums.read_text().replace(str(checksums(trees["params"])["w"]), "12"))
    (tmp_path / "1").rename(tmp_path / "4")
    (tmp_path / "9").mkdir()
    for step, reason in ((9, "checksums"), (4, "was saved as step 1"), (3, "params w is not what was saved")):
        with Checkpoints(tmp_path, keep=4) as checkpoints:
            assert checkpoints.latest() == step
            with pytest.raises(
                DamagedCheckpoint, match=f"the checkpoint {tmp_path / str(step)} is damaged: .*{reason}"
            ):
                checkpoints.restore(step, like)
        assert put_aside(tmp_path / str(step)) == tmp_path / f"{step}.damaged"
    (tmp_path / "3").mkdir()
    assert put_aside(tmp_path / "3") == tmp_path / "3.damaged1"
    with Checkpoints(tmp_path, keep=4) as checkpoints:
        assert checkpoints.steps() == [2]
        jax.tree.map(np.testing.assert_array_equal, dict(checkpoints.restore(2, like)), trees)


@pytest.mark.parametrize(
    ("error", "damaged"),
    [
        (OSError(24, "Too many open files"), False),
        (PermissionError(13, "Permission denied", "d/0"), False),
        (OSError(116, "Stale file handle"), False),
        (ValueError("PERMISSION_DENIED: Error opening d/0"), False),
        (FileNotFoundError(2, "No such file or directory", "d/0"), True),
        (ValueError("Error parsing JSON"), True),
    ],
)
def test_a_disk_that_does_not_answer_is_no_damage(error, damaged, tmp_path, monkeypatch):
    trees = {"params": {"w": jnp.arange(4.0)}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, trees)

    def restore(*_, **__):
        raise error

    like = jax.tree.map(lambda x: abstract(x, x.sharding), trees)
    with Checkpoints(tmp_path) as checkpoints, monkeypatch.context() as patched:
        patched.setattr(checkpoints._manager, "restore", restore)
        kind, words = (DamagedCheckpoint, "is damaged") if damaged else (RunStopped, "could not be read")
        with pytest.raises(kind) as caught:
            checkpoints.restore(1, like)
    assert str(caught.value) == f"the checkpoint {tmp_path / '1'} {words}: {error}"


def test_a_folder_that_cannot_be_written_is_not_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # as root may write everywhere
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(RunStopped, match="it is not writable, or has a later"):
        checkpoints.save(1, {"params": {"w": jnp.arange(4.0)}})


def test_a_score_that_cannot_be_read_is_no_worse_score(tmp_path):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step, score in enumerate((0.9, 0.2), 1):
            checkpoints.save(step, {"params": {"w": jnp.full(2, step)}}, score)
    (tmp_path / "1" / "metrics" / "metrics").write_text('{"sco')
    with pytest.raises(DamagedCheckpoint, match=str(tmp_path / "1")), Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.final()
    put_aside(tmp_path / "1")
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert checkpoints.final() == 2


def test_what_does_not_fit_on_the_disk_is_not_begun(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=15_999)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(
            RunStopped, match=r"the checkpoint .*/3 may need 0 MB, and its disk has 0 MB free; make room"
        ):
            checkpoints.save(3, {"params": {"w": jnp.zeros(4000)}})
        checkpoints.save(4, {"params": {"w": jnp.zeros(3999)}})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [4]


def test_a_save_that_fails_is_said_in_one_line(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"params": {"w": jnp.zeros(4000)}})
    checkpoints._manager.wait_until_finished()
    shutil.rmtree(tmp_path)
    tmp_path.write_text("no folder")
    with pytest.raises(RunStopped, match=f"a checkpoint could not be saved in {tmp_path}: "), checkpoints:
        checkpoints.save(2, {"params": {"w": jnp.zeros(4000)}})
