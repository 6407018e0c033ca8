"""Warnings about rewards that teach nothing any more: at the right step, once, and not otherwise."""

import pytest

from r1jax.config.base import RunStopped
from r1jax.rewards.monitor import WINDOW, RewardMonitor


def metrics(**means):
    """`name=(mean, std)`."""
    return {f"rewards/{n}/{k}": v for n, pair in means.items() for k, v in zip(("mean", "std"), pair, strict=True)}


def warnings(monitor, steps):
    return [(i, warning) for i, step in enumerate(steps, 1) for warning in monitor(step)]


def test_a_constant_reward_is_named_once_after_twenty_steps():
    steps = [metrics(accuracy=(0.3, 0.4), format=(0.0, 0.0))] * (2 * WINDOW)
    ((step, warning),) = warnings(RewardMonitor(dict.fromkeys(["accuracy", "format"], 1.0)), steps)
    assert step == WINDOW and warning.startswith("reward format has been 0 for every completion of 20 steps")


def test_a_reward_that_fails_from_the_first_call_on_stops_the_run():
    failed = {"rewards/mine/mean": float("nan"), "rewards/mine/std": float("nan"), "rewards/mine/error": 1.0}
    with pytest.raises(RunStopped, match="reward mine failed on every completion of its first step"):
        RewardMonitor({"mine": 1.0})(failed)
    monitor = RewardMonitor({"mine": 1.0})
    monitor(failed | {"rewards/mine/error": 0.9})
    monitor(failed)  # something that it needs may be away for a while


def test_rounding_is_no_change():
    steps = [metrics(mine=(0.1 + i % 2 * 1e-8, 9e-8)) for i in range(WINDOW)]
    assert len(warnings(RewardMonitor({"mine": 1.0}), steps)) == 1


def test_a_reward_that_changes_gives_no_warning():
    moving = [metrics(a=(i % 2, 0.0)) for i in range(50)]  # all right in one step, all wrong in the next
    assert warnings(RewardMonitor({"a": 1.0}), moving) == []
    interrupted = [metrics(a=(1.0, 0.0 if i % (WINDOW - 1) else 0.1)) for i in range(100)]
    assert warnings(RewardMonitor({"a": 1.0}), interrupted) == []
    nothing = [metrics(a=(float("nan"), float("nan")))] * 50  # nothing could be scored, of which another metric warns
    assert warnings(RewardMonitor({"a": 1.0}), nothing) == []


def test_format_up_and_accuracy_down_gives_one_warning():
    falling = [metrics(accuracy=(0.5 - i / 200, 0.5), format=(0.4 + i / 200, 0.5)) for i in range(80)]
    ((step, warning),) = warnings(RewardMonitor(dict.fromkeys(["accuracy", "format"], 1.0)), falling)
    assert step == 2 * WINDOW and warning.startswith("format rose by 0.10 while accuracy fell by 0.10 over 40 steps")
    rising = [metrics(accuracy=(0.4 + i / 200, 0.5), format=(0.4 + i / 200, 0.5)) for i in range(80)]
    assert warnings(RewardMonitor(dict.fromkeys(["accuracy", "format"], 1.0)), rising) == []
    assert warnings(RewardMonitor({"format": 1.0}), [metrics(format=(0.4 + i / 200, 0.5)) for i in range(80)]) == []


def test_a_model_that_is_hacked_gives_one_warning_for_each_rule_that_falls():
    steps = [metrics(helpful=(0.4 + i / 200, 0.1), rule=(0.6 - i / 200, 0.1), format=(1.0, 0.0)) for i in range(80)]
    weights = {"helpful": 1.0, "rule": 0.0, "format": 0.0}
    ((step, warning),) = warnings(RewardMonitor(weights, ["helpful"]), steps)
    assert step == 2 * WINDOW and warning.startswith("helpful rose by 0.10 while rule fell by 0.10 over 40 steps")
    assert warnings(RewardMonitor(weights), steps) == []  # two rules, of which neither is format
    assert warnings(RewardMonitor(weights | {"helpful": 0.0}, ["helpful"]), steps) == []  # it teaches nothing


def test_all_truncated_and_masked_gives_one_warning():
    steps = [metrics(a=(0.5, 0.5)) | {"frac_reward_none": 0.0, "update_tokens": 0.0}] * 3
    ((step, warning),) = warnings(RewardMonitor({"a": 1.0}), steps)
    assert step == 1 and "with truncated: mask nothing was learnt" in warning


def test_nothing_scored_gives_one_warning():
    steps = [metrics(a=(float("nan"), float("nan"))) | {"frac_reward_none": 1.0, "update_tokens": 0.0}] * 3
    ((step, warning),) = warnings(RewardMonitor({"a": 1.0}), steps)
    assert step == 1 and warning.startswith("no completion of this step could be scored")


def test_no_group_with_reward_variance_gives_one_warning():
    sampled = {"dynamic_sampling/groups": 0.0, "dynamic_sampling/batches": 3.0, "update_tokens": 0.0}
    ((step, warning),) = warnings(RewardMonitor({"a": 1.0}), [metrics(a=(0.5, 0.5)) | sampled] * 3)
    assert step == 1 and warning.startswith("no group of 3 batches had reward variance")
    some = sampled | {"dynamic_sampling/groups": 1.0, "update_tokens": 9.0}
    assert warnings(RewardMonitor({"a": 1.0}), [metrics(a=(0.5, 0.5)) | some] * 3) == []


def test_steps_without_a_completion_that_has_the_reward_are_not_counted():
    lacking = metrics(model=(float("nan"), float("nan"))) | {"rewards/model/share": 0.0}
    having = metrics(model=(2.0, 0.0)) | {"rewards/model/share": 0.5}
    ((step, warning),) = warnings(RewardMonitor({"model": 1.0}), [lacking, having] * (2 * WINDOW))
    assert step == 2 * WINDOW and warning.startswith("reward model has been 2 for every completion of 20 steps")
