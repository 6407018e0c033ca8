"""Keys of other libraries are translated to settings that exist."""

import re

import pytest

from r1jax.config.equivalents import EQUIVALENTS
from r1jax.config.explain import places


@pytest.mark.parametrize("key", EQUIVALENTS)
def test_equivalents_are_settings(key):
    """What a key is translated to can be given, and the key itself is none of ours."""
    place, note = EQUIVALENTS[key]
    for part in place.split(" and "):
        name = part.split(".")[-1]
        assert (place == "-" and note) or any(known.endswith(part) for known in places()[name]), place
    assert key not in places() and re.fullmatch(r"[a-z0-9_.]+", key)
