"""Settings of rewards: which one a block is, what every one has, and where the file of a function is looked up."""

import pytest
from pydantic import TypeAdapter, ValidationError

from r1jax.config.rewards import CodeReward, FormatReward, FunctionReward, RewardSettings

ADAPTER = TypeAdapter(RewardSettings)


def test_the_key_function_or_the_name_decides_which_reward_it_is():
    assert ADAPTER.validate_python({"function": "a.py:f"}) == FunctionReward(function="a.py:f")
    assert ADAPTER.validate_python({"name": "format", "style": "think_text"}) == FormatReward(
        name="format", style="think_text"
    )
    assert ADAPTER.validate_python(CodeReward(name="code")) == CodeReward(name="code")
    for bad in ({"name": "maths"}, {}, {"function": "a.py:f", "name": "math"}):
        with pytest.raises(ValidationError):
            ADAPTER.validate_python(bad)


def test_every_reward_may_have_a_finite_weight():
    assert ADAPTER.validate_python({"name": "math"}).weight is None
    assert ADAPTER.validate_python({"name": "math", "weight": -0.5}).weight == -0.5
    with pytest.raises(ValidationError):
        ADAPTER.validate_python({"name": "math", "weight": float("inf")})


def test_a_file_is_looked_up_here_and_then_beside_the_config(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    (there / "mine.py").touch()

    def found(function):
        return ADAPTER.validate_python({"function": function}, context={"config_folder": there}).function

    assert found("mine.py:score") == f"{there}/mine.py:score"
    assert found("absent.py:score") == "absent.py:score"
    assert found(f"{there}/mine.py:score") == f"{there}/mine.py:score"
    assert found("package.module:score") == "package.module:score"
    assert found(found("mine.py:score")) == f"{there}/mine.py:score"
    (here / "mine.py").touch()
    assert found("mine.py:score") == "mine.py:score"
    assert ADAPTER.validate_python({"function": "absent.py:score"}).function == "absent.py:score"


def test_a_judge_has_an_address_without_a_password_and_a_scale():
    judge = {"name": "judge", "url": "http://localhost:8000/v1", "model": "m"}
    assert ADAPTER.validate_python(judge).kind == "verdict"
    for bad in (
        {"url": "localhost:8000"}, {"url": "ftp://host"}, {"url": "http://user:secret@host/v1"}, {"url": "http://h/v1?k=1"},
        {"scale": [5, 5]}, {"scale": [1]}, {"scale": [1, 2.5]}, {"kind": "opinion"}, {"parallel": 0},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            ADAPTER.validate_python(judge | bad)
