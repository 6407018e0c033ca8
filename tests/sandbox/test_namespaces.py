"""Plain data as JSON, and a script that knows the system calls of each machine; the isolation is in test_programs."""

import json
import math

import pytest

from r1jax.sandbox.namespaces import DENIED_SYSCALLS, plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (0.5, 0.5),
        ("é\ud800", "é\ud800"),
        (2**53 - 1, 2**53 - 1),
        (2**53, {"int": "0x20000000000000"}),  # JSON readers lose digits from here on
        ([1, (2, [3])], [1, {"tuple": [2, [3]]}]),
        ({1: {2}}, {"dict": [[1, {"set": [2]}]]}),
        (frozenset({2}), {"set": [2]}),
        (b"\xff", {"bytes": "ff"}),
        (1 + 2j, {"complex": [1.0, 2.0]}),
    ],
)
def test_plain_data_is_json(value, expected):
    assert plain(value) == expected
    assert json.loads(json.dumps(plain(value))) == expected


def test_numbers_that_are_not_finite_pass_through():
    assert plain(math.inf) == math.inf and math.isnan(plain(math.nan))


@pytest.mark.parametrize("value", [object(), print, [object()], {"a": iter([])}])
def test_anything_else_is_refused(value):
    with pytest.raises(TypeError, match="is not plain data"):
        plain(value)


def test_the_same_system_calls_are_denied_on_every_machine():
    (_, x86), (_, arm) = DENIED_SYSCALLS["x86_64"], DENIED_SYSCALLS["aarch64"]
    assert x86.keys() - arm.keys() == {"fork", "vfork", "inotify_init"}  # of which newer machines have one form
    assert not arm.keys() - x86.keys()
    assert all(len(set(calls.values())) == len(calls) for calls in (x86, arm))
