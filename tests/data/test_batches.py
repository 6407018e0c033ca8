"""Batches by step: the same rows on any process, every example once an epoch, and none over the limits."""

import itertools
import time
import warnings
from collections import Counter

import numpy as np
import pytest

from r1jax.config.sampling import PromptSettings
from r1jax.config.tasks import ArithmeticTask
from r1jax.data.batches import Batches
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.example import Example
from r1jax.tasks.arithmetic import Arithmetic
from r1jax.tasks.mixture import Mixture
from r1jax.text.chat_template import ChatTemplate
from r1jax.text.tokenizer import CharacterTokenizer

ALPHABET = ("<think>", "</think>", *"0123456789+-=,?", "<answer>", "</answer>")


class Counting:
    """The questions 0?, 1?, … with the number as gold, `longest` of which have a longer text."""

    def __init__(self, train, test=4, longest=0, demonstration="<think>1</think>"):
        self.symbols = ALPHABET
        self.rewards = {"accuracy": math_answer}
        self.sizes = {"train": train, "test": test}
        self.longest = longest
        self.demonstration = demonstration

    def size(self, split):
        return self.sizes[split]

    def example(self, split, index):
        assert 0 <= index < self.sizes[split]
        tail = "?" * 9 if index < self.longest else "?"
        return Example(f"{index}{tail}", str(index), self.demonstration)


def counting(*args, **settings):
    return batches(Counting(*args), prompt=settings.pop("prompt", 8), **settings)


def batches(task=None, prompt=6, completion=32, seed=0, template="plain", needs_completions=False, tokenizer=None):
    task = task or Arithmetic(ArithmeticTask(name="arithmetic", max_digits=2), 0)
    return Batches(
        task,
        tokenizer or CharacterTokenizer(task.symbols),
        prompt=PromptSettings(template=template),
        seed=seed,
        max_prompt_length=prompt,
        max_completion_length=completion,
        needs_completions=needs_completions,
    )


def golds(b, split, start, stop):
    return [b.example(split, position).answer for position in range(start, stop)]


def test_rows_do_not_depend_on_which_others_are_asked_for():
    whole = batches().demonstrations(40, np.arange(8))
    part = batches().demonstrations(40, np.array([2, 3, 6]))
    assert part == [whole[i] for i in (2, 3, 6)]


def test_demonstrations_decode_to_the_examples():
    b = batches()
    for i, (prompt, completion, _) in enumerate(b.demonstrations(0, np.arange(4))):
        example = b.task.example("train", i)
        assert completion[-1] == b.tokenizer.stop_ids[0] and b.tokenizer.decode(completion) == example.demonstration
        assert b.tokenizer.decode(prompt) == example.question == b.example("train", i).prompt


def test_limits_of_an_endless_task_are_errors():
    assert batches().size("train") is None
    with pytest.raises(ValueError, match="max_prompt_length allows 1 to 3"):
        batches(prompt=3).prompts("train", 0, np.arange(8))
    with pytest.raises(ValueError, match="raise it"):
        batches(completion=8).demonstrations(0, np.arange(8))


@pytest.mark.parametrize("size", [1, 2, 9, 100])
def test_every_epoch_has_every_example_once_in_another_order(size):
    b = counting(size)
    epochs = [golds(b, "train", epoch * size, (epoch + 1) * size) for epoch in range(4)]
    assert all(sorted(epoch, key=int) == [str(i) for i in range(size)] for epoch in epochs)
    if size > 2:
        assert len({tuple(epoch) for epoch in epochs}) == 4 and b.size("train") == size
        assert golds(counting(size, seed=1), "train", 0, 4 * size) != list(itertools.chain(*epochs))


def test_nine_prompts_three_a_step():
    b = counting(9)
    steps = [b.prompts("train", step * 3, np.arange(3)) for step in range(6)]
    for epoch in (steps[:3], steps[3:]):
        assert sorted(e.answer for step in epoch for e in step.examples) == [str(i) for i in range(9)]
    np.testing.assert_array_equal(steps[4].id_P, [12, 13, 14])


def test_any_position_can_be_asked_for_directly():
    forwards = golds(counting(7), "train", 0, 60)
    backwards = counting(7)
    assert [backwards.example("train", i).answer for i in reversed(range(60))] == forwards[::-1]
    far = 10**9 * 7
    assert sorted(golds(backwards, "train", far, far + 7)) == [str(i) for i in range(7)]


def test_test_examples_keep_their_order_and_start_over():
    assert golds(counting(9, 4), "test", 0, 10) == list("0123012301")


def test_prompts_over_the_limit_are_dropped_with_a_count():
    with pytest.warns(
        UserWarning, match="dropped 3 of 9 (train|test) examples: 3 have prompts over max_prompt_length 8, 0"
    ):
        b = counting(9, 9, 3)
    assert b.dropped == {"train": 3, "test": 3} and b.size("train") == b.size("test") == 6
    assert sorted(golds(b, "train", 0, 6)) == list("345678")
    assert golds(b, "test", 0, 6) == list("345678")
    with pytest.raises(ValueError, match="none of 3 train examples can be used: 3 have prompts over"):
        counting(3, 9, 3)


def test_demonstrations_over_the_limit_are_dropped_for_sft():
    class Growing(Counting):
        def example(self, split, index):
            return Example(f"{index}?", str(index), "1" * index)

    with pytest.warns(UserWarning, match=r"4 of 9 train examples: 0 .*, 4 have demonstrations over .* 5$"):
        b = batches(Growing(9, 9), completion=5, needs_completions=True)
    assert b.dropped == {"train": 4, "test": 0}
    lengths = [len(each.completion) for each in b.demonstrations(0, np.arange(5))]
    assert sorted(lengths) == [1, 2, 3, 4, 5]  # the stop token included
    assert batches(Growing(9, 9), completion=5).dropped == {"train": 0, "test": 0}
    with pytest.raises(ValueError, match="no demonstration for '0\\?', and sft trains on"):
        counting(9, 9, 0, None, needs_completions=True)


def test_the_prompt_is_what_the_settings_make_of_the_question():
    b = counting(3, template="{question}=<think>")
    prompts = b.prompts("test", 0, np.arange(3))
    assert [e.prompt for e in prompts.examples] == ["0?=<think>", "1?=<think>", "2?=<think>"]
    assert all(e.prompt_opens_think for e in prompts.examples)
    assert b.tokenizer.decode(prompts.prompt_PS[1].tolist()) == "1?=<think>"
    (demonstration,) = b.demonstrations(0, np.arange(1))
    assert b.tokenizer.decode(demonstration.completion) == "1</think>"  # not opened again


def test_one_start_token():
    class Starting(CharacterTokenizer):
        bos_id = 2 + ALPHABET.index(",")

        def __init__(self):
            super().__init__(ALPHABET)
            self.bos_id = Starting.bos_id

    for template in ("{question}", ",{question}"):
        b = counting(3, template=template, tokenizer=Starting())
        assert b.tokenizer.decode(b.encode_prompt(b.example("test", 1).prompt)) == ",1?"
    assert b.encode_prompt("") == [Starting.bos_id]


def test_a_mixture_keeps_its_proportions():
    b = batches(Mixture([Counting(50), Counting(9), sums()], [3.0, 1.0, 1.0]), prompt=8)
    examples = [b.example("train", i) for i in range(500)]
    counts = Counter(e.part for e in examples)
    assert (counts[0], counts[1], counts[2]) == (300, 100, 100)
    for part, size in ((0, 50), (1, 9)):
        answers = [e.answer for e in examples if e.part == part]
        assert sorted(answers[:size], key=int) == [str(i) for i in range(size)]
        assert answers[:size] != answers[size : 2 * size]
    assert [e.question for e in examples if e.part == 2] == [sums().example("train", i).question for i in range(100)]
    assert b.size("train") == 45  # the 9 of the second part, in a fifth of the places
    assert len({(e.part, e.question) for e in (b.example("test", i) for i in range(b.size("test")))}) == b.size("test")
    assert batches(Mixture([sums(), sums()], [1.0, 2.0])).size("test") is None


def test_parts_of_one_size_have_orders_of_their_own():
    b = batches(Mixture([Counting(20), Counting(20)], [1.0, 1.0]), prompt=8)
    examples = [b.example("train", i) for i in range(40)]
    orders = [[e.answer for e in examples if e.part == part] for part in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) and orders[0] != orders[1]


def sums():
    task = Arithmetic(ArithmeticTask(name="arithmetic", max_digits=2), 0)
    task.symbols = ALPHABET
    return task


KEEPS = """{% for m in messages %}
    {%- if m.role == 'user' %}{{ m.content + '=' }}{% else %}{{ m.content + '.\n' }}{% endif %}
{%- endfor %}"""
DROPS = KEEPS.replace("m.content + '.", "(m.content if loop.last else m.content.split('</think>')[-1]) + '.")


class Talking(CharacterTokenizer):
    """Its stop token is written as a period, and it has a chat template."""

    def __init__(self, template):
        super().__init__((*ALPHABET, ".", "\n"))
        self.stop_ids, self.chat_template = (2 + len(ALPHABET),), ChatTemplate(template, {})


class Talks(Counting):
    """Conversations of 1, 2, 3, 1, … rounds; the last of them has no demonstration."""

    def example(self, split, index):
        rounds = [({"role": "user", "content": f"{index}+{i}"}, f"<think>{i}</think>{index + i}") for i in range(3)]
        rounds = rounds[: 1 + index % 3]
        said = [m for user, reply in rounds[:-1] for m in (user, {"role": "assistant", "content": reply})]
        question = [*said, rounds[-1][0]] if said else rounds[-1][0]["content"]
        return Example(question, "", None if index + 1 == self.sizes[split] else rounds[-1][1], is_conversation=True)


def talks(template, count=7, prompt=99, task=None, chat=True):
    return Batches(
        task or Talks(count),
        Talking(template),
        prompt=PromptSettings(chat=chat),
        seed=0,
        max_prompt_length=prompt,
        max_completion_length=9,
        needs_completions=True,
    )


def learned(b, rows):
    """The learned texts of each sequence, and the text of all its tokens."""
    for prompt, ids, earlier in b.demonstrations(0, np.arange(rows)):
        text = b.tokenizer.decode
        yield [*(text(prompt[begin:end]) for begin, end in earlier), text(ids)], text([*prompt, *ids])


@pytest.mark.filterwarnings("ignore:dropped 1 of 7")
def test_in_chat_only_the_template_writes_a_start_token():
    """As transformers and vLLM read chats, so that a model is trained on what it is served."""
    b = talks(KEEPS)
    b.tokenizer.bos_id = 2 + ALPHABET.index(",")
    prompt = b.example("test", 0).prompt
    assert b.encode_prompt(prompt) == b.tokenizer.encode(prompt)
    assert [prompt[0] for prompt, _, _ in b.demonstrations(0, np.arange(3))] != [b.tokenizer.bos_id] * 3


@pytest.mark.filterwarnings("ignore:dropped 1 of 7")
def test_a_conversation_is_one_sequence_with_all_turns_of_the_assistant():
    b = talks(KEEPS)
    assert b.size("train") == 6
    expected = []
    for i in range(6):
        turns = [(f"{i}+{k}=", f"<think>{k}</think>{i + k}.") for k in range(1 + i % 3)]
        expected.append(([reply for _, reply in turns], "\n".join(user + reply for user, reply in turns)))
    assert sorted(learned(b, 6)) == sorted(expected)
    assert b.width["train"] == max(len(p) for p, _, _ in b.demonstrations(0, np.arange(6)))


def test_where_the_template_drops_reasoning_each_turn_has_its_own_prompt():
    with pytest.warns(UserWarning) as caught:
        b = talks(DROPS)
    first, second, *_ = (str(warning.message) for warning in caught)
    assert "rewrites earlier turns of 4 conversations" in first and "6 conversations are 12 examples" in first
    assert second.startswith("dropped 1 of 13 train examples: 1 have no demonstrations, 0 have prompts")
    expected = []
    for i in range(6):
        for turns in range(1, 2 + i % 3):
            before = "".join(f"{i}+{k}={i + k}.\n" for k in range(turns - 1))
            reply = f"<think>{turns - 1}</think>{i + turns - 1}."
            expected.append(([reply], f"{before}{i}+{turns - 1}={reply}"))
    assert sorted(learned(b, 12)) == sorted(expected)
    # Whoever samples takes the whole question.
    assert {b.example("train", i).prompt for i in range(12)} == {
        "".join(f"{i}+{k}={i + k}.\n" for k in range(i % 3)) + f"{i}+{i % 3}=" for i in range(6)
    }


@pytest.mark.filterwarnings("ignore:dropped")
def test_a_demonstration_that_quotes_a_stop_token_is_warned_of():
    """Here a period; a line's end after it is the template's, and no text."""
    stopping = Talking("")
    for text, warned in (("1.\n", False), ("1.5", True), ("1", False)):
        task = Counting(3, 4, 0, text)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            b = batches(task, needs_completions=True, tokenizer=stopping)
        said = [str(warning.message) for warning in caught]
        assert [line.startswith("3 demonstrations have a stop token in their text") for line in said] == [True] * warned
        (demonstration,) = b.demonstrations(0, np.arange(1))
        assert b.tokenizer.decode(demonstration.completion) == "1."


def test_long_turns_of_a_conversation_are_dropped():
    assert {len(turns) for turns, _ in learned(talks(KEEPS, prompt=4), 2)} == {1}
    assert talks(KEEPS, prompt=4).size("train") == 2


def test_a_conversation_of_one_round_needs_no_template():
    class Single(Talks):
        def example(self, split, index):
            return super().example(split, 3 * index)

    assert sorted(learned(talks(KEEPS, task=Single(3), chat=False), 3)) == [
        ([f"<think>0</think>{i}."], f"{i}+0<think>0</think>{i}.") for i in (0, 3, 6)
    ]
    with pytest.raises(ValueError, match=r"questions are chat messages, and prompt\.chat is false"):
        talks(KEEPS, chat=False)


@pytest.mark.filterwarnings("ignore:dropped", "ignore:the chat template rewrites")
@pytest.mark.parametrize("template", [KEEPS, DROPS])
def test_conversations_as_a_part_of_a_mixture(template):
    counted = Counting(20)
    counted.example = lambda split, index: Example(f"{index}?", str(index), "<think>1</think>")
    b = talks(template, task=Mixture([Talks(7), counted], [1.0, 1.0]))
    texts = [text for _, text in learned(b, 40)]
    assert sum(text.startswith(tuple(f"{i}?" for i in range(20))) for text in texts) == 20
    assert {tuple(sorted(turns)) for turns, _ in learned(b, 40)} >= {tuple(t) for t, _ in learned(talks(template), 6)}


def test_a_least_width_widens_prompts_alone():
    task = Counting(20)
    own, wide = (
        Batches(
            task,
            CharacterTokenizer(task.symbols),
            prompt=PromptSettings(),
            seed=0,
            max_prompt_length=8,
            max_completion_length=32,
            least_width=least,
        )
        for least in ({}, {"train": 7, "test": 1})
    )
    assert (own.width, wide.width) == ({"train": 3, "test": 2}, {"train": 7, "test": 2})
    few, more = (b.prompts("train", 0, np.arange(4)) for b in (own, wide))
    assert few.examples == more.examples and not more.prompt_PS[:, 3:].any()
    np.testing.assert_array_equal(few.prompt_PS, more.prompt_PS[:, :3])


def test_the_part_of_an_example_is_found_without_it():
    b = batches(Mixture([Counting(6), Counting(9)], [2.0, 1.0]), prompt=8)
    assert [b.part("train", i) for i in range(12)] == [b.parts[b.example("train", i).part] for i in range(12)]
    assert {*b.parts} == {b.part("train", i) for i in range(3)}


class Untouched(CharacterTokenizer):
    """Fails for texts so long that their characters alone tell that they are over every limit."""

    def encode(self, text):
        assert len(text) < 10_000, "a text that is far too long was tokenised"
        return super().encode(text)


@pytest.mark.parametrize("chat", [False, True])
def test_texts_that_are_far_too_long_are_dropped_before_any_work(chat):
    class Huge(Counting):
        def example(self, split, index):
            example = super().example(split, index)
            if index == 2:
                question = "1?" * 8_000_000
                return Example([{"role": "user", "content": question}] if chat else question, "2", "<think>1</think>")
            if index == 3:
                return Example("3?", "3", "1" * 16_000_000)
            return Example([{"role": "user", "content": example.question}], "1", "1") if chat else example

    tokenizer = Untouched(ALPHABET)
    tokenizer.chat_template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", {})
    given = {"tokenizer": tokenizer, "seed": 0, "max_prompt_length": 20, "max_completion_length": 32}
    begin = time.process_time()
    with pytest.warns(UserWarning, match="dropped 1 of 8 train examples: 1 have prompts over max_prompt_length 20, 0"):
        b = Batches(Huge(8, 2), prompt=PromptSettings(chat=chat), **given)
    assert b.size("train") == 7 and b.width["train"] <= 20
    with pytest.warns(
        UserWarning, match="1 have prompts over max_prompt_length 20, 1 have demonstrations over max_comp"
    ):
        b = Batches(Huge(8, 2), prompt=PromptSettings(chat=chat), needs_completions=True, **given)
    assert b.size("train") == 6
    assert time.process_time() - begin < 5


def test_a_text_just_over_the_limit_is_tokenised_to_tell():
    """It has fewer characters than limit × longest token, so its tokens are counted."""
    b = counting(4, 2, 1, prompt=10)
    assert b.size("train") == 4
    assert b._over_by_far(Example("?" * 10 * 4 * len("</answer>"), "")) is None
    assert b._over_by_far(Example("?" * (10 * 4 * len("</answer>") + 1), "")) == (11, 0)


def test_the_error_about_a_long_prompt_is_short():
    with pytest.raises(ValueError, match="max_prompt_length allows 1 to 8") as error:
        counting(4).encode_prompt("1" * 100_000)
    assert len(str(error.value)) < 400
