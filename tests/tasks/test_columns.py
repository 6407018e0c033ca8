"""From a row to an example."""

import pytest

from r1jax.config.tasks import TableTask
from r1jax.rewards.example import Example
from r1jax.tasks.columns import example_of, named_columns
from r1jax.tasks.rows import UnusableRow


def test_the_columns_that_settings_name():
    settings = TableTask(question="q", completion="c", columns=["x", "q"])
    assert named_columns(settings) == (["q", "answer", "c", "x"], [])
    row = {"q": "2+2?", "answer": 4, "c": "It is 4.", "x": (1, 2), "more": 0}
    assert example_of(settings, "here", row) == Example("2+2?", "4", "It is 4.", {"x": [1, 2], "q": "2+2?"})
    with pytest.raises(ValueError, match="here: no column 'c'; there are q, answer"):
        example_of(settings, "here", {"q": "2+2?", "answer": 4})


# One row each, with the columns of the published data sets.
OPENR1_MATH = {
    "problem": "What is 2+2?",
    "solution": "Two and two make $\\boxed{4}$.",
    "answer": "4",
    "problem_type": "Algebra",
    "question_type": "math-word-problem",
    "source": "olympiads",
    "uuid": "5d3e1c0a-0000-5000-8000-000000000000",
    "is_reasoning_complete": [True, True],
    "generations": ["<think>\nr\n</think>\n\n$\\boxed{4}$", "<think>\ns\n</think>\n\n4"],
    "correctness_math_verify": [True, False],
    "correctness_llama": None,
    "finish_reasons": None,
    "correctness_count": 1,
    "messages": [
        {"role": "user", "content": "What is 2+2?"},
        {"role": "assistant", "content": "<think>\nr\n</think>\n\n$\\boxed{4}$"},
    ],
}
MIXTURE_OF_THOUGHTS = {
    "messages": [
        {"content": "What is 2+2?", "role": "user"},
        {"content": "<think>\nr\n</think>\n\n4", "role": "assistant"},
    ],
    "num_tokens": 12,
    "source": "open-r1/OpenR1-Math-220k",
}
OPENTHOUGHTS_114K = {
    "system": "Your role as an assistant involves thoroughly exploring questions.",
    "conversations": [
        {"from": "user", "value": "What is 2+2?"},
        {"from": "assistant", "value": "<|begin_of_thought|>\n\nr\n\n<|end_of_thought|>\n\n4"},
    ],
}
OPENTHOUGHTS3 = {
    "difficulty": None,
    "source": "ai2-adapt-dev/openmath-2-math",
    "domain": "math",
    "conversations": [
        {"from": "human", "value": "What is 2+2?"},
        {"from": "gpt", "value": "<think>\nr\n</think>\n\n4"},
    ],
}


def test_openr1_math():
    settings = TableTask(messages="messages", answer="answer", columns=["correctness_math_verify", "correctness_llama"])
    data = {"correctness_math_verify": [True, False], "correctness_llama": None}
    reply = OPENR1_MATH["generations"][0]
    expected = Example("What is 2+2?", "4", reply, data, is_conversation=True)
    assert example_of(settings, "here", OPENR1_MATH) == expected


def test_mixture_of_thoughts_and_open_thoughts():
    reply = "<think>\nr\n</think>\n\n4"
    expected = Example("What is 2+2?", "", reply, is_conversation=True)
    assert example_of(TableTask(messages="messages"), "here", MIXTURE_OF_THOUGHTS) == expected
    assert example_of(TableTask(messages="conversations"), "here", OPENTHOUGHTS3) == expected
    example = example_of(TableTask(messages="conversations", system="system"), "here", OPENTHOUGHTS_114K)
    assert example.demonstration == OPENTHOUGHTS_114K["conversations"][1]["value"]
    assert example.question == [
        {"role": "system", "content": OPENTHOUGHTS_114K["system"]},
        {"role": "user", "content": "What is 2+2?"},
    ]


def test_a_system_text_is_not_needed():
    row = {"q": "2+2?", "a": 4, "system": None}
    assert example_of(TableTask(question="q", answer="a", system="system"), "here", row).question == "2+2?"


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        (None, "no conversation"),
        ([], "no turn before the assistant's"),
        ([{"role": "assistant", "content": "Hello."}], "no turn before the assistant's"),
        ([{"role": "user", "content": "Hi."}] + 2 * [{"role": "assistant", "content": "Hi."}], "two turns of the ass"),
    ],
)
def test_conversations_that_are_left_out(conversation, reason):
    with pytest.raises(UnusableRow, match=reason):
        example_of(TableTask(messages="m"), "here", {"m": conversation})


def test_conversations_that_are_no_messages():
    with pytest.raises(
        ValueError, match=r"here: column 'm' has no chat messages .*'2\+2\?'; correct the row or task.m"
    ):
        example_of(TableTask(messages="m"), "here", {"m": "2+2?"})


@pytest.mark.parametrize("missing", [None, "", " \n"])
def test_a_demonstration_may_be_missing_and_its_column_may_not(missing):
    settings, row = TableTask(completion="c"), {"question": "2+2?", "answer": 4}
    assert example_of(settings, "here", row | {"c": missing}).demonstration is None
    with pytest.raises(ValueError, match="here: no column 'c'; there are question, answer"):
        example_of(settings, "here", row)
    with pytest.raises(ValueError, match="here: column 'c' is a list; a demonstration is text"):
        example_of(settings, "here", row | {"c": ["4"]})


def test_a_role_that_no_template_knows_is_named():
    settings = TableTask(messages="turns")
    row = {"turns": [{"role": "user", "content": "Hi."}, {"role": "bot", "content": "Hello."}]}
    with pytest.raises(
        ValueError, match="here: column 'turns' has a turn of 'bot' and none of the assistant; roles are s"
    ):
        example_of(settings, "here", row)
    row["turns"].append({"role": "assistant", "content": "Hello."})  # a template may know it
    assert example_of(settings, "here", row).demonstration == "Hello."
