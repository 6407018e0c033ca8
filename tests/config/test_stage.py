"""What stages of every program have, and what follows from it."""

import pytest
from pydantic import ValidationError

from r1jax.config.stage import Stage, TrainingStage

OWN = {"name": "rl", "steps": 5, "prompts_per_step": 8}


def test_a_stage_consumes_its_steps_prompts_and_makes_an_update_a_step():
    stage = TrainingStage.model_validate({**OWN, "optimizer": {"learning_rate": 1e-3}})
    assert (stage.most_prompts, stage.updates) == (40, 5)
    assert stage.model is None and stage.pack_length is None and stage.makes_policy


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b"])
def test_names_that_could_be_no_folder_or_override(name):
    with pytest.raises(ValidationError, match="pattern"):
        Stage.model_validate(OWN | {"name": name})
