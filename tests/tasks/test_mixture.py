"""The rewards of a mixture are those of its parts."""

from r1jax.config.tasks import ArithmeticTask, CountdownTask, MixturePart, MixtureTask
from r1jax.rewards.example import Example
from r1jax.tasks import make_task
from r1jax.tasks.mixture import Mixture

PARTS = [
    MixturePart(weight=1.0, task=ArithmeticTask(name="arithmetic")),
    MixturePart(weight=3.0, task=CountdownTask(name="countdown")),
]


class Bare:
    def __init__(self):
        self.symbols = ()
        self.rewards = {"accuracy": lambda example, completion: 0.5}


def test_an_example_is_scored_by_its_part():
    task = make_task(MixtureTask(mixture=PARTS), 0)
    assert task.weights == (1.0, 3.0)
    number, expression = "<think>r</think><answer>3</answer>", "<think>r</think><answer>1+2</answer>"
    added = Example("1+2=", "3", part=0)
    reached = Example("1,2>3:", "1+2", data={"numbers": (1, 2), "target": 3}, part=1)
    accuracy = task.rewards["accuracy"]
    assert [accuracy(added, number), accuracy(added, expression)] == [1.0, 0.0]
    assert [accuracy(reached, number), accuracy(reached, expression)] == [0.0, 1.0]


def test_what_is_shared():
    arithmetic, countdown = make_task(MixtureTask(mixture=PARTS), 0).parts
    both = Mixture([arithmetic, countdown], [1.0, 1.0])
    assert set(both.symbols) == {*arithmetic.symbols, *countdown.symbols} and len(set(both.symbols)) == len(
        both.symbols
    )
    assert set(both.rewards) == {"accuracy", "format"}
    mixed = Mixture([arithmetic, Bare()], [1.0, 1.0])
    assert mixed.symbols == arithmetic.symbols and set(mixed.rewards) == {"accuracy", "format"}
    assert mixed.rewards["format"].parts == [arithmetic.rewards["format"], None]  # it does not apply to the second part
    assert mixed.rewards["accuracy"](Example("", "", part=1), "") == 0.5
