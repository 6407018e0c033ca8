r"""Pulls the final answer out of a completion and decides what it is worth.

    same_value(final_answer("<think>…</think><answer>1,000</answer>") or "", "1000")  # True
    same_answer(extract_answer("<think>…</think>It is \boxed{72\text{ dollars}}.") or "", "72")  # True

`final_answer`, `exact_value` and `same_value` are strict; `extract_answer`, `number` and `same_answer` read what models
and data sets write. Nothing here runs model text, and nothing takes longer than the text is long.
"""

from __future__ import annotations

import ast
import operator
import re
from fractions import Fraction

MAX_LENGTH = 200  # characters of an answer that are looked at; a longer one is no answer
MAX_DEPTH = 50  # opening parentheses of an expression
_NUMBER = re.compile(r"[+-]?((\d{1,3}(,\d{3})+|\d+)(\.\d*)?|\.\d+)", re.ASCII)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
# A number inside a text, with a power if it has one, so that 10^5 is not read as 10. A sign counts only where no
# operand stands before it, as in 10-5; digits of a name and powers, as in x_1 and m^2, do not count.
_IN_TEXT = re.compile(
    r"(?:(?<![\w)\]}%])[+-])?(?<![A-Za-z_^])(?<!\^\{)(?:\d+(?:,\d{3}(?!\d))*(?:\.\d+)?|(?<!\w)\.\d+)"
    r"(?:/\d+(?!\d|\.\d)|\^\{?-?\d+|[eE][+-]?\d+)?",
    re.ASCII,
)
_FRACTION = re.compile(r"(?<!\d)\\[dt]?frac *+(\{[^{}]*+\}|\d) *+(\{[^{}]*+\}|\d)(?! *+\d)", re.ASCII)
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox) *+\{([^{}]*+)\}")
_DEGREES = re.compile(r"\^ *+(?:\{ *+)?\\circ *+\}?|°")
_BOLD = re.compile(r"(?<!\d)\*\*|\*\*(?!\d)")  # not the power in 2**3
_CURRENCY = re.compile(r"\\?[$€£]")
_SPACED = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?![\d,])", re.ASCII)
_MEASURED = re.compile(
    r"([+-]?[\d.,]+(?: ?/ ?[+-]?[\d.,]+)?)(?: ?%)?((?: [A-Za-z]+(?:\^\{?[23]\}?)?(?:/[A-Za-z]+)?)*)", re.ASCII
)
_ONE_LETTER_UNITS = set("mgshlLJNWVAKCF")
_NOT_UNITS = {"hundred", "thousand", "million", "billion", "trillion", "dozen", "half", "pi", "sqrt"}
_NOT_UNITS |= {"and", "or", "to", "plus", "minus", "times", "over"}
_CHOICE = re.compile(r"\(?([a-z])(?:[):.]{1,2}(?: .*)?)?")  # of an exercise: E, (E), E), E: its text
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def final_answer(completion: str, *, prompt_opens_think: bool = False) -> str | None:
    """The text of the last well formed `<answer>…</answer>` after the reasoning is closed; None where there is none.

    The reasoning ends at the last `</think>`; opened by the prompt or anywhere in the completion and not closed, it
    leaves no answer. A completion that has no reasoning has nothing to close. A well formed block has both tags and
    none of them inside; where the last one is blank there is no answer.
    """
    rest = _after_reasoning(completion, prompt_opens_think)
    return None if rest is None else _last_block(rest)


def extract_answer(completion: str, *, prompt_opens_think: bool = False) -> str | None:
    r"""The final answer by the first of these rules that applies, in what follows the reasoning; None where none does.

    1. The reasoning has to be closed, as in `final_answer`.
    2. `<answer>`: the last well formed block; in it, a `\boxed{}` is opened. Begun and never closed: no answer.
    3. `\boxed{}` or `\fbox{}`: the content of the last one, or the word after it; braces that never close: no answer.
    4. `####`: what follows the last one on its line.
    5. The last number of the last line that has one. It serves golds that are numbers.
    """
    rest = _after_reasoning(completion, prompt_opens_think)
    if rest is None:
        return None
    if "<answer>" in rest:
        block = _last_block(rest)
        return _last_box(block) if block and _BOX.search(block) else block
    if _BOX.search(rest):
        return _last_box(rest)
    _, marked, tail = rest.rpartition("####")
    if marked:
        return tail.partition("\n")[0].strip() or None
    for line in reversed(rest.split("\n")):
        if numbers := _IN_TEXT.findall(_plain(line)):
            return numbers[-1]
    return None


def _after_reasoning(completion: str, prompt_opens_think: bool) -> str | None:
    _, closed, rest = completion.rpartition("</think>")
    return None if "<think>" in rest or (prompt_opens_think and not closed) else rest


def _last_block(text: str) -> str | None:
    for block in reversed(text.split("<answer>")[1:]):
        answer, end, _ = block.partition("</answer>")
        if end:
            return answer.strip() or None
    return None


def _last_box(text: str) -> str | None:
    start = [match.end() for match in _BOX.finditer(text)][-1]
    if text[start : start + 1] != "{":
        word = re.match(r"[^\s$]*", text[start:])
        return word.group() or None if word else None
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):  # an escaped brace is no brace
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0 and brace.group() == "}":
            return text[start + 1 : start + brace.start()].strip() or None
    return None


def exact_value(text: str) -> Fraction | None:
    """The number that `text` is: whole, decimal, or a fraction a/b; sign and thousands separators allowed. Else None.

    Leading zeros and a trailing point are read as the same number: "03" and "3." are 3.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        return None
    parts = [part.strip() for part in text.replace("−", "-").split("/")]
    if len(parts) > 2 or not all(map(_NUMBER.fullmatch, parts)):
        return None
    numerator, *denominators = [Fraction(part.replace(",", "")) for part in parts]
    if not denominators:
        return numerator
    return numerator / denominators[0] if denominators[0] else None


def same_value(answer: str, gold: str) -> bool:
    """Whether both are numbers and exactly equal. Raises ValueError where the gold answer is no number."""
    expected = exact_value(gold)
    if expected is None:
        raise ValueError(f"the gold answer {gold!r} is not a number; this reward needs one such as 12, -0.5 or 3/4")
    return exact_value(answer) == expected


def number(text: str) -> Fraction | None:
    r"""The number that `text` is, as models and data sets write one; else None.

    On top of `exact_value`: `\frac{a}{b}`, spaces or `{,}` between thousands, a currency or percent sign, decoration
    of Markdown and LaTeX, and units after it (`72 dollars`, `5\text{ cm}`, `90^\circ`). Signs and units are dropped
    and not compared: 28% is 28, 5 km is 5 cm. Words that change the number, as in 5 million, are not units.
    """
    if len(text) > MAX_LENGTH:
        return None
    text = " ".join(_plain(text).split()).removesuffix(".")
    if spaced := _SPACED.match(text):
        text = spaced.group().replace(" ", "") + text[spaced.end() :]
    measured = _MEASURED.fullmatch(text)
    if measured is None or not all(map(_is_unit, measured.group(2).split())):
        return None
    return exact_value(measured.group(1))


def _is_unit(word: str) -> bool:
    name = word.partition("^")[0].partition("/")[0]
    return name in _ONE_LETTER_UNITS if len(name) == 1 else name.lower() not in _NOT_UNITS


def _plain(text: str) -> str:
    """Without the decoration of LaTeX and Markdown; a `\\frac` of LaTeX as a/b."""
    text = _BOLD.sub("", text.replace("−", "-").replace("{,}", ",").replace("\\!", "").replace("`", ""))
    # The sign of -$5 stays with its number; elsewhere, as in US$5, a space keeps the words apart.
    text = _CURRENCY.sub(" ", re.sub(r"([+-])\\?[$€£]", r"\1", text))
    for space in ("\\,", "\\;", "\\:", "\\ ", "~", "\\(", "\\)", "\\[", "\\]"):
        text = text.replace(space, " ")
    text = _DEGREES.sub("", _TEXT.sub(r" \1", text).replace("\\%", "%"))
    return _FRACTION.sub(lambda f: "/".join(part.strip("{} ") for part in f.groups()), text)


def same_answer(answer: str, gold: str) -> bool:
    """Whether an answer is the gold. A gold that is a number is compared exactly, as `number` reads both.

    Any other is compared as text, without regard to case, white space, LaTeX's and Markdown's decoration and a trailing
    period; a gold of one letter also equals `(E)`, `E)` and `E: its text`. Raises ValueError where the gold is empty.
    """
    if not gold.strip():
        raise ValueError("the gold answer is empty; this reward needs a number or a text")
    expected = number(gold)
    if expected is not None:
        return number(answer) == expected
    expected, said = _words(gold), _words(answer)
    if _closed(said) == _closed(expected):
        return True
    letter, choice = expected.strip("()"), _CHOICE.fullmatch(said)
    return len(letter) == 1 and choice is not None and choice.group(1) == letter


def _words(text: str) -> str:
    return " ".join(_plain(text).split()).removesuffix(".").casefold()


def _closed(text: str) -> str:
    """Without the spaces that stand beside a sign: (1, 2) as (1,2)."""
    return re.sub(r" ?([^\w\s]) ?", r"\1", text)


def expression_value(text: str) -> tuple[Fraction, list[int]] | None:
    """The exact value of an arithmetic expression and the whole numbers in it, in order.

    Allowed are whole numbers without sign, + - * / between them and parentheses (× · ÷ − too), and one trailing
    `= …`, which is ignored. Anything else, a division by zero, more than MAX_LENGTH characters or MAX_DEPTH
    parentheses gives None. The text is parsed to a syntax tree whose nodes are checked one by one; it never runs.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH or text.count("(") > MAX_DEPTH or text.count("=") > 1:
        return None
    text = text.partition("=")[0].translate(str.maketrans("×·÷−", "**/-")).strip()
    if not text or set(text) - set("0123456789+-*/() "):
        return None
    try:
        numbers: list[int] = []
        return _value(ast.parse(text, mode="eval").body, numbers), numbers
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, numbers: list[int]) -> Fraction:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _value(node.left, numbers), _value(node.right, numbers)
        return _OPERATIONS[type(node.op)](left, right)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        numbers.append(node.value)
        return Fraction(node.value)
    raise ValueError(f"{type(node).__name__} is not arithmetic")
