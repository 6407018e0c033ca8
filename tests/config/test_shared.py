"""What a stage takes from the top level, key by key; through a whole config in test_experiment."""

from r1jax.config.rewards import ExactReward
from r1jax.config.shared import Shared, filled, given

TOP = {"prompt": {"template": "r1", "chat": True}, "evaluate": {}, "rewards": {}, "max_prompt_length": 8}


def test_a_stage_takes_what_it_lacks_and_keeps_what_it_has():
    stage = filled({"name": "a", "max_prompt_length": 4}, TOP | {"task": "sums"})
    assert stage == {"name": "a", "max_prompt_length": 4, **{n: TOP[n] for n in ("prompt", "evaluate", "rewards")}} | {
        "task": "sums"
    }


def test_blocks_are_merged_key_by_key():
    assert filled({"prompt": {"chat": False}}, TOP)["prompt"] == {"template": "r1", "chat": False}


def test_null_is_as_if_it_were_left_out_where_the_top_level_has_the_key():
    assert given({"task": None, "pack_length": None, "name": "a"}) == {"pack_length": None, "name": "a"}


def test_a_reward_is_defined_by_the_top_level_and_weighted_by_the_stage():
    top = TOP | {"rewards": {"exact": {"name": "exact"}, "other": {"name": "exact", "weight": 2.0}}}
    rewards = filled({"rewards": {"exact": 0.5, "accuracy": 1.0}}, top)["rewards"]
    assert rewards["exact"] == {"name": "exact", "weight": 0.5} and rewards["accuracy"] == 1.0
    assert rewards["other"] == {"name": "exact", "weight": None}
    shared = Shared(rewards={"exact": ExactReward(name="exact", weight=0.5), "accuracy": 1.0})
    assert shared.reward_weights == {"exact": 0.5, "accuracy": 1.0} and set(shared.reward_definitions) == {"exact"}
