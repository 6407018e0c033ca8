"""Keys of other libraries are translated to settings that exist."""

import re

import pytest

from r1jax.config.annotations import places
from r1jax.config.equivalents import EQUIVALENTS, NEEDLESS
from r1jax.config.experiment import Config, GrpoStage


@pytest.mark.parametrize("key", EQUIVALENTS)
def test_equivalents_are_settings(key):
    """What a key is translated to can be given, and the key itself is none of ours."""
    for place in EQUIVALENTS[key][0].replace("STAGE.", "").split(" and "):
        name = place.split(".")[-1]
        assert place in {*places(Config, name), *places(GrpoStage, name)}, place
    assert not places(Config, key) and not places(GrpoStage, key)
    assert key not in NEEDLESS and re.fullmatch(r"[a-z0-9_.]+", key)
