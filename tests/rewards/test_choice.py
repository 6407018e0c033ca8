"""Multiple choice: the forms that models write, and letters in passing that are no answer."""

import random
import time

import pytest
from cpu_time import cpu_limit

from r1jax.rewards.choice import letter
from r1jax.rewards.example import Example

CITIES = {"choices": ["London", "Paris", "The Hague", "-5"]}

RIGHT = [
    # The letter alone.
    "B", "(B)", "B.", "B)", "[B]", "**B**", "**(B)**", "`B`", "$B$", "\\(B\\)", "“B”", "'B'", "B!", "Ｂ", "（B）", "b",
    "(b)",
    "option B", "Option (B)", "choice B", "- B", "B<|im_end|>\n", "B</s>", "\nB\n", "So, (B).", "Therefore, B.",
    "Thus, option B.", "So it's B.", "It is (B).",
    # With its text.
    "B) text", "(B) text", "B. text", "B: text", "B - text", "(B)\nbecause of that", "**B) text**",
    # Marked.
    r"\boxed{B}", r"\boxed{\text{B}}", r"\boxed{(\mathrm{B})}", r"\boxed{\textbf{(B)}\ 12}",
    r"$\boxed{\text{(B) } 12}$",
    r"\boxed{b}", r"So it is \boxed{B}. A is wrong.", "<answer>B</answer>", "<answer>\n(B)\n</answer>", "#### B",
    "<answer>The answer is B</answer>", r"<answer>\boxed{B}</answer>", "<answer>Option B</answer> A",
    # Announced.
    "Answer: B", "**Answer:** B", "**Answer**: **B**", "### Answer: B", "Final Answer: (B)", "Answer:\nB", "Answer = B",
    "The answer is B.", "The answer is: B", "The correct answer is (B).", "The correct answer is **(B) Paris**.",
    "the correct option is B", "The best answer is option B", "My answer is B", "So the correct letter is B.",
    "I choose B.", "I'll go with B.", "So the answer must be (B), not (C).", "The answer is definitely B",
    "The answer is B because A is wrong.", "The answer is B, as shown.", "Answer: B - Paris",
    "Answer: **B**. Because of it.",
    "The correct choice is therefore B.", "答案是B。", "答案：B", "故选B", "因此，正确答案为 B。", "应选（B）",
    "答案是 B，不能选 A。", "因此选择 B，不选 A。", "本题应选 B，而不应选 A。",
    "错误的选项是 A。\n故选 B", "故选B。\n(不选A,因为...)",
    # Judged.
    "B is correct.", "Only B is correct.", "Thus, option B is correct.", "(B) is the right answer",
    "B is the best choice.",
    "C is wrong. B is the answer.",
    # Among other letters.
    "<think>A or C? A.</think>\nB", "The answer is A. Wait.\nThe answer is B.", "The answer is A. No, the answer is B.",
    "The answer is B. A triangle has three sides.", "The answer is B. A, C and D are wrong.",
    "A) x\nB) y\nC) z\nD) w\nAnswer: B", "A) x\nB) y\nC) z\nD) w\n\nB) y", "Option A: no.\nOption B: yes.\nI pick B",
    "If it were A, then 5. So the answer is B, since 5 > 4.",
    # After a formula, or before one.
    r"We find \boxed{x=2}. So the answer is B.", "We get $\\boxed{x=2}$\n\nB", r"The answer is B. So \boxed{x=2}",
    "#### 12\nAnswer: B",
    # Concluded.
    "Thus B.", "We get x = 4, so B.", "x = 4. Thus (B).", "A is wrong, C is wrong, so it must be B.", "I would say B.",
    "Only option B satisfies the inequality.", "Only B works.", "x is 4. Only (B) matches this.",
    "This matches option B.", "It corresponds to choice (B).", "So we get 12, which is option B.",
    "Answer: I think it is B", "I believe that the answer is B.", "The correct choice here is B.",
    "The only correct statement is B.", "I'd go with B.", "The answer to the question is (B).",
    # In lower case.
    "b. 4", "b) 4", "**b. 4**", "x is 4.\nb. 4", "x is 4.\n\nb", "Answer: b", "Answer: b) 4", "The answer is b.",
    "a. 3\nb. 4\nc. 5\n\nb. 4",
    # In other languages.
    "Antwort: B", "Die richtige Antwort ist B.", "Die Antwort lautet B.", "Réponse : B", "La bonne réponse est B.",
    "La réponse correcte est (B).", "Respuesta: B",
    "**Respuesta correcta:** B) 12", "La respuesta correcta es la opción B.", "Resposta: B",
    "A resposta correta é a letra B.", "Risposta: B", "La risposta corretta è B.", "Ответ: B", "Правильный ответ: B",
    "答え:B", "答え：B", "答えはBです。", "正解はB", "정답: B", "정답은 B입니다.", "答案是B。因为A不对",
    "答案選B", "选B项", "正确选项是B。",
]  # fmt: skip

WRONG = [
    "A", "C", "D", "The answer is C. B was tempting.", "C is correct, B is not.", r"\boxed{B} or rather \boxed{C}",
    "<answer>C</answer> B",
    # Several.
    "A or B", "B or C", "A, B", "B, C", "A and B", "A/B", "A & B", "B + C", "B; C", "B C", "(A) or (B)", "(B), (C)",
    "(B)(C)",
    "(B) (C)", "(B) and (C)", "B) or C)", "B. or C.", "A, B, C, D", "ABCD", "The answer is B or C.", "Answer: B, C",
    "Answer: B/C", "The answer is either B or C", "The answer is both A and B.", "Both A and B",
    "The answer is B, C, or D",
    r"\boxed{A, B}", "<answer>B and/or C</answer>", "<answer>B or maybe C</answer>", "B\nC", "A\nB", "答案是B和C",
    # None.
    "", "5", "not B", "The answer is not B.", "B is wrong", "B is incorrect.", "B is not the correct answer",
    "Neither A nor B is correct.", "If B is correct then", "Option B says that x.", "I like B", "The answer is 5.",
    "A) x\nB) y", "A) w\n text\nB) x", "(A) w\n(B) x", r"\boxed{}", r"\boxed{B", "<answer></answer>", "<answer>B",
    "<think>B",
    "<think>B</think>", "B</think>",
    # Letters of words.
    "Vitamin B", "Bob", "best", "be", "BB", "AB", "B12", "The answer is B12", "The answer is B-12.",
    "The answer is B minor",
    "The answer is b minor", "The answer is bad", "So B, C and D lie on a line", "B, C and D lie on a line",
    "B's sides are equal",
    # Conclusions of something else, or of nothing.
    "Thus x = B.", "Thus B lies on AC.", "So does point B.", "Only B and C work.", "Only option B fails.",
    "Only option B is wrong.", "Option B does not satisfy it.", "Thus B or C.", "x = 4, so B or C.", "Plan B.",
    "See figure B.", "Grade B", "B+", "Section B. 4", "Answer: B+", "Answer: not B", "Answer: I think it is B or C",
    "Answer: B or something", "Answer: none", "Antwort: B oder C", "Respuesta: B o C", "Réponse : Bien",
    "答えはBまたはC",
    "정답은 B 또는 C", "答案是B和C", "a. 3\nb. 4", "a. 3\nb. 4\nc. 5", r"\boxed{B \text{ or } C} The answer is B.",
    r"\boxed{C} The answer is B.", "<answer>x=2</answer> The answer is B.", r"\boxed{x=2}",
]  # fmt: skip


def score(result):
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("completion", RIGHT)
@pytest.mark.parametrize("gold", ["B", "(B)"])
def test_right(gold, completion):
    assert letter(Example("", gold), completion) == 1.0


@pytest.mark.parametrize("completion", WRONG)
def test_wrong(completion):
    assert score(letter(Example("", "B"), completion)) == 0.0


@pytest.mark.parametrize(
    "completion",
    [
        "A good answer needs proof.", "A triangle has three sides.", "The answer is A good one.",
        "The answer is a mammal.",
        "A train leaves.", "Thus A train leaves.", "Only A students pass.", "Let A be a matrix. Then A satisfies it.",
        "Respuesta: A veces", "The answer is a.m.",
        "It is a mammal.", "So A, B and C lie on a line.", "A given number is even.", "Answer: a dog", "A",
    ],
)  # fmt: skip
def test_articles_are_no_choice(completion):
    assert score(letter(Example("", "A"), completion)) == float(completion == "A")


@pytest.mark.parametrize(
    "completion",
    [
        "I think so.",
        "Thus I conclude.",
        "Only I know.",
        "i. one\nii. two",
        "I, for one, do.",
        "The answer is I think five",
    ],
)
def test_the_pronoun_is_no_choice(completion):
    assert score(letter(Example("", "I"), completion)) == 0.0
    assert letter(Example("", "I"), "The answer is (I).") == letter(Example("", "I"), "I") == 1.0


@pytest.mark.parametrize(
    ("completion", "result"),
    [
        ("<think>B", (0.0, "no_answer")), (r"\boxed{B", (0.0, "no_answer")), ("Hmm.", (0.0, "no_choice")),
        ("A or B", (0.0, "several_choices")), ("C", 0.0),
    ],
)  # fmt: skip
def test_reasons(completion, result):
    assert letter(Example("", "B"), completion) == result


def test_where_the_prompt_opens_the_reasoning():
    example = Example("", "B", prompt_opens_think=True)
    assert letter(example, "r</think>B") == 1.0 and letter(example, "B") == (0.0, "no_answer")


@pytest.mark.parametrize(
    ("gold", "completion", "value"),
    [
        ("B", "Paris", 1), ("B", "paris.", 1), ("B", "**Paris**", 1), ("B", "The answer is Paris.", 1), ("B",
        "I choose Paris", 1),
        ("B", "<answer>Paris</answer>", 1), ("B", r"\boxed{\text{Paris}}", 1), ("B", "B) Paris", 1), ("B", "B", 1),
        ("B", "The correct answer is B) Paris", 1), ("C", "the hague", 1), ("D", "-5", 1), ("D", "D) -5", 1), ("D",
        "$-5$", 1),
        ("D", "The answer is -5.", 1), ("B", "London", 0), ("B", "(B) London", 0), ("A", "(B) London", 0), ("B",
        "Pari", 0),
        ("B", "Paris or London", 0), ("B", "I was in Paris.", 0), ("B", "London\nParis", 0), ("D", "5", 0),
    ],
)  # fmt: skip
def test_the_text_of_a_choice(gold, completion, value):
    assert score(letter(Example("", gold, data=CITIES), completion)) == value


@pytest.mark.parametrize(
    "gold", ["B", "(B)", "B.", "B)", "b", r"\text{B}", "$B$", "**B**", "B) Paris", "(B) Paris", " B\n"]
)
def test_golds(gold):
    assert letter(Example("", gold), "B") == 1.0


@pytest.mark.parametrize("gold", ["", " ", "()", "5", "AB", "Paris", "A, B", "A or B", "A good answer", r"\frac{1}{2}"])
def test_a_gold_that_is_no_choice_is_refused(gold):
    with pytest.raises(ValueError, match=r"is not a choice; need a letter such as B or \(B\)"):
        letter(Example("", gold), "B")


def test_a_gold_beyond_the_choices_is_refused():
    with pytest.raises(ValueError, match="is not one of the 4 choices"):
        letter(Example("", "E", data=CITIES), "E")


@pytest.mark.parametrize(
    "form", ["{}", "({})", "{}.", r"\boxed{{{}}}", "Answer: {}", "The answer is ({}).", "<answer>{}</answer>"]
)
def test_each_letter_is_right_for_itself_alone(form):
    for gold in "ABCDEFGHIJ":
        for said in "ABCDEFGHIJ":
            assert score(letter(Example("", gold), form.format(said))) == float(said == gold)


@pytest.mark.parametrize("choices", [{}, CITIES])
def test_hostile_texts_take_no_time(choices):
    chance = random.Random(0)
    pieces = (
        "answer: ", "answer ", "B ", "b. ", "(B", "B, ", "A or ", " " * 9, "so ", ", so B", ", so, ", "B) x\n", "B\n",
        "x\n", "**", ">#", "> ", "I choose ", "B is the ", ". only B ", "the option ", "is option B ", "it is ", "选B",
        "정답은 ", "answer to ",
        "ﷺ", "\\text{", "\\boxed{x} ", "A/", "!", "\u0301", "B!!!", "I think that ",
    )  # fmt: skip
    for piece in (*pieces, *("".join(chance.choices(pieces, k=3)) for _ in range(20))):
        start = time.thread_time()
        letter(Example("", "B", data=choices), (piece * 20_000)[:20_000])
        assert time.thread_time() - start < 1.0, piece
    with cpu_limit(10):
        for _ in range(300):
            letter(Example("", "B", data=choices), "".join(chance.choices("AB ().,\n$\\{}*or ", k=200)))
            letter(Example("", "B", data=choices), "".join(chance.choices(pieces, k=40)))
