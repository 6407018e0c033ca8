"""Places of keys and the classes behind a pydantic location."""

from r1jax.config.annotations import alternatives, bare, is_model, places, walk
from r1jax.config.experiment import Config, GrpoStage, SftStage
from r1jax.config.objective import KlSettings
from r1jax.config.tasks import ArithmeticTask, MixturePart


def test_where_a_key_may_stand():
    assert places(GrpoStage, "coef") == ["kl.coef"]
    assert places(Config, "max_digits", leave_out=("stages",))[0] == "task.max_digits"
    assert places(SftStage, "group_size") == [] and places(GrpoStage, "steps") == ["steps"]


def test_a_location_is_followed_through_unions_and_lists():
    keys, parent, _ = walk(("stages", 1, "grpo", "kl", "coef"))
    assert keys == ["stages", 1, "kl", "coef"] and parent is KlSettings
    keys, parent, _ = walk(("task", "mixture", "mixture", 0, "weight"))
    assert keys == ["task", "mixture", 0, "weight"] and parent is MixturePart
    keys, parent, _ = walk(("task", "arithmetic", "max_digits"))
    assert keys == ["task", "max_digits"] and parent is ArithmeticTask


def test_annotations_without_their_dressing():
    assert bare(KlSettings | None) is KlSettings and is_model(KlSettings) and not is_model(list[KlSettings])
    assert set(alternatives(GrpoStage | SftStage)) == {"grpo", "sft"} and alternatives(int) == {}
