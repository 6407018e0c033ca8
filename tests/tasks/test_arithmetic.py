"""Arithmetic against Python's own, and its demonstrations against its own rewards."""

import re

import pytest

from r1jax.config.tasks import ArithmeticTask
from r1jax.rewards.example import Example
from r1jax.tasks import make_task
from r1jax.tasks.arithmetic import Arithmetic, accuracy, steps
from r1jax.text.tokenizer import CharacterTokenizer

BOTH = {"min_digits": 1, "max_digits": 3, "operators": "+-", "direct_share": 0.5}


def arithmetic(seed, **settings):
    return Arithmetic(ArithmeticTask(name="arithmetic", **settings), seed)


def test_column_addition_and_subtraction():
    assert steps(347, "+", 285) == "7+5=12,4+8=12,12+1=13,3+2=5,5+1=6"
    assert steps(999, "+", 1) == "9+1=10,9+0=9,9+1=10,9+0=9,9+1=10"
    assert steps(432, "-", 285) == "12-5=7,13-8=5,5-1=4,4-2=2,2-1=1"
    assert steps(100, "-", 1) == "10-1=9,10-0=10,10-1=9,1-0=1,1-1=0"
    assert steps(0, "+", 0) == "0+0=0"


@pytest.mark.parametrize("operator", ["+", "-"])
def test_steps_are_true_and_their_last_digits_spell_the_answer(operator):
    """Reads the steps back: each is true, takes its digits from the operands, and a carry has a step of its own."""
    for a in range(0, 1000, 37):
        for b in range(0, a + 1 if operator == "-" else 1000, 41):
            equations = [tuple(map(int, re.findall(r"\d+", e))) for e in steps(a, operator, b).split(",")]
            for first, second, value in equations:
                assert value == (first + second if operator == "+" else first - second) >= 0
            carry, spelt, columns = 0, 0, max(len(str(a)), len(str(b)))
            for i in range(columns):
                first, second, value = equations.pop(0)
                assert first % 10 == a // 10**i % 10 and second == b // 10**i % 10
                if carry:
                    before, second, after = equations.pop(0)
                    assert (before, second) == (value, carry)
                    value = after
                spelt += (value if i == columns - 1 else value % 10) * 10**i
                carry = value // 10 if operator == "+" else first // 10
            assert not equations and spelt == (a + b if operator == "+" else a - b)


def test_examples_are_fixed():
    task = arithmetic(0, min_digits=3, max_digits=3, direct_share=0.6)
    example = task.example("train", 0)
    assert (example.question, example.answer) == ("276+434=", "710")
    assert example.demonstration == "<think>710</think><answer>710</answer>"
    assert [task.example("test", i).question for i in range(3)] == ["918+624=", "451+806=", "575+779="]
    example = arithmetic(0, **BOTH).example("train", 1)
    assert example.question == "77+745="
    assert example.demonstration == "<think>7+5=12,7+4=11,11+1=12,0+7=7,7+1=8</think><answer>822</answer>"


def test_same_index_same_example_and_another_seed_another():
    task, again, other = arithmetic(3, **BOTH), arithmetic(3, **BOTH), arithmetic(4, **BOTH)
    backwards = [again.example("train", i) for i in reversed(range(50))]
    assert [task.example("train", i) for i in range(50)] == backwards[::-1]
    assert [task.example("train", i) for i in range(50)] != [other.example("train", i) for i in range(50)]


@pytest.mark.parametrize("digits", [1, 3])
def test_no_problem_is_in_both_splits(digits):
    task = arithmetic(0, min_digits=1, max_digits=digits, operators="+-", direct_share=0.5)

    def problem(example):
        a, operator, b = re.fullmatch(r"(\d+)([+-])(\d+)=", example.question).groups()
        return (operator, frozenset((a, b))) if operator == "+" else (operator, a, b)

    train = {problem(task.example("train", i)) for i in range(2000)}
    test = {problem(arithmetic(9, **BOTH | {"max_digits": digits}).example("test", i)) for i in range(500)}
    assert train and test and not train & test


def test_answers_prompts_and_demonstrations():
    task = arithmetic(1, **BOTH)
    tokenizer = CharacterTokenizer(task.symbols)
    for i in range(1000):
        example = task.example("train", i)
        a, operator, b = re.fullmatch(r"(\d{1,3})([+-])(\d{1,3})=", example.question).groups()
        expected = int(a) + int(b) if operator == "+" else int(a) - int(b)
        assert example.answer == str(expected) and expected >= 0
        assert {name: reward(example, example.demonstration) for name, reward in task.rewards.items()} == {
            "accuracy": 1.0,
            "format": 1.0,
        }
        wrong = f"<think>r</think><answer>{expected + 1}</answer>"
        assert task.rewards["accuracy"](example, wrong) == 0.0
        text = example.question + example.demonstration
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_symbol_is_used():
    task = arithmetic(1, **BOTH)
    texts = "".join(e.question + e.demonstration for e in (task.example("train", i) for i in range(200)))
    assert all(symbol in texts for symbol in task.symbols)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_direct_share(share):
    task = arithmetic(0, **BOTH | {"direct_share": share})
    examples = [task.example("train", i) for i in range(400)]
    found = sum(f"<think>{e.answer}</think>" in e.demonstration for e in examples) / 400
    assert abs(found - share) <= 4 * (share * (1 - share) / 400) ** 0.5


def test_digits_stay_within_their_bounds():
    task = arithmetic(0, min_digits=2, max_digits=4, direct_share=1.0)
    lengths = [len(n) for i in range(300) for n in task.example("train", i).question[:-1].split("+")]
    assert set(lengths) == {2, 3, 4}


@pytest.mark.parametrize("bad", [{"min_digits": 4}, {"min_digits": 0}, {"operators": ""}, {"operators": "+*"}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        arithmetic(0, **BOTH | bad)


def test_make_task_passes_the_settings_on():
    made = make_task(ArithmeticTask(name="arithmetic", operators="+-"), 1)
    assert [made.example("test", i) for i in range(5)] == [arithmetic(1, **BOTH).example("test", i) for i in range(5)]


@pytest.mark.parametrize(
    ("gold", "answer", "score"),
    [
        ("1000", "1,000", 1.0),
        ("3", "3.00", 1.0),
        ("632", "347+285", 0.0),  # the question itself
        ("632", "600+32", 0.0),
        ("35", "36", 0.0),
        ("5", "", 0.0),
        ("5", "9" * 100_000, 0.0),
        ("5", "5**5**5**5", 0.0),
        ("7", "__import__('os').system('exit 1')", 0.0),
    ],
)
def test_accuracy(gold, answer, score):
    assert accuracy(Example("", gold), f"<think>r</think><answer>{answer}</answer>") == score


def test_accuracy_needs_closed_reasoning():
    assert accuracy(Example("", "4"), "<think>r <answer>4</answer>") == 0.0
    assert accuracy(Example("", "4"), "<think>r <answer>4</answer></think>") == 0.0
    assert accuracy(Example("", "4", prompt_opens_think=True), "r</think><answer>4</answer>") == 1.0
    assert accuracy(Example("", "4", prompt_opens_think=True), "<answer>4</answer>") == 0.0
