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

from r1jax.answers.equivalence import Prove, right_side, same
from r1jax.answers.latex import VULGAR, plain
from r1jax.answers.quantities import exact_value, number

__all__ = [
    "MAX_DEPTH",
    "MAX_LENGTH",
    "exact_value",
    "expression_value",
    "extract_answer",
    "final_answer",
    "number",
    "same_answer",
    "same_value",
]

MAX_LENGTH = 200  # characters of an arithmetic expression that are looked at; a longer one is none
MAX_DEPTH = 50  # opening parentheses of an expression
MAX_TAIL = 1000  # characters after "the answer is" that are looked at
MAX_CUES = 20  # of "the answer is", from the last, until one is followed by an answer
MAX_LINES = 1000  # lines with a digit, from the last, until one has a number
MAX_LINE = 20_000  # characters of a line that are looked at, from its end
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_CUE = re.compile(r"\banswer\b[*_`]*(?: to [^.:\n]{0,80}?| here| so far)?(?:\s?:[*_`]*| is\b:?|\s?=)", re.IGNORECASE)
_MARK = re.compile(r"\$\$|\$|\\.", re.DOTALL)
_CLOSING = {"$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_WORD = re.compile(r"(?<![\\A-Za-z])(?!and\b|or\b)[A-Za-z]{2,}")
# A number inside a text, with a power if it has one, so that 10^5 is not read as 10. A sign counts only where no
# operand stands before it, as in 10-5; digits of a name and powers, as in x_1 and m^2, do not count.
_IN_TEXT = re.compile(
    r"(?:(?<![\w)\]}%])[+-])?(?<![A-Za-z_^])(?<!\^\{)(?:\d{1,3} \d+(?=/\d)|\d+(?:,\d{3}(?!\d))*(?:\.\d+)?|(?<!\w)\.\d+)"
    r"(?:/\d+(?!\d|\.\d)|\^\{?-?\d+|[eE][+-]?\d+)?(?: ?(?:%|percent(?:age)?\b|pct\b))?",
    re.ASCII,
)
_DIGIT = re.compile(f"[0-9{''.join(VULGAR)}]")
_FRACTION = re.compile(r"(?:(\d) ?)?\\frac\{([^{}]*+)\}\{([^{}]*+)\}(?! *+\d)")
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def final_answer(completion: str, *, prompt_opens_think: bool = False) -> str | None:
    """The text of the last well formed `<answer>…</answer>` after the reasoning is closed; None where there is none.

    The reasoning ends at the last `</think>`; opened by the prompt or anywhere in the completion and not closed, it
    leaves no answer. A completion that has no reasoning has nothing to close. A well formed block has both tags and
    none of them inside; where the last one is blank there is no answer.
    """
    rest = after_reasoning(completion, prompt_opens_think)
    return None if rest is None else _last_block(rest)


def extract_answer(completion: str, *, prompt_opens_think: bool = False, numeric: bool = True) -> str | None:
    r"""The final answer by the first of these rules that applies, in what follows the reasoning; None where none does.

    1. The reasoning has to be closed, as in `final_answer`.
    2. `<answer>`: the last well formed block; in it, a `\boxed{}` is opened. Begun and never closed: no answer.
    3. `\boxed{}` or `\fbox{}`: the content of the last one, or the word after it; braces that never close: no answer.
    4. `####`: what follows the last one on its line.
    5. "answer is", "answer:": what follows the last one in its sentence, if that is a number, a choice, mathematics or
       words without digits; else the formula it begins with; else rule 6 for the sentence.
    6. The last number of the last line that has one; the formula around it, or the line, where that is one expression.
       Where the gold is not `numeric`: the last formula (`$…$`, `\(…\)`, `\[…\]`), or else the last line with text.
    """
    rest = after_reasoning(completion, prompt_opens_think)
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
    for cue in list(_CUE.finditer(rest))[: -MAX_CUES - 1 : -1]:
        if answer := _answer_in(rest[cue.end() : cue.end() + MAX_TAIL].lstrip(" *_\n"), numeric):
            return answer
    return _last_number(rest) if numeric else _last_formula(rest) or _last_line(rest)


def after_reasoning(completion: str, prompt_opens_think: bool = False) -> str | None:
    """What follows the reasoning; None where that was opened and not closed."""
    _, closed, rest = completion.rpartition("</think>")
    return None if "<think>" in rest or (prompt_opens_think and not closed) else rest


def gold_answer(gold: str) -> str:
    r"""The gold, of which a `\boxed{}` is opened. Raises ValueError where there is nothing in it."""
    opened = gold
    if _BOX.search(gold):
        opened = _last_box(gold) or ("" if re.search(r"\{\s*\}\W*$", gold) else gold)
    if not plain(opened):
        raise ValueError(f"the gold answer is empty: {gold!r:.80}; it has to be a number, a formula or a text")
    return opened


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


def _answer_in(tail: str, numeric: bool) -> str | None:
    """Rule 5, of what follows "the answer is"."""
    formulas = _formulas(tail)
    ends = (end.start() for end in _SENTENCE_END.finditer(tail))
    stop = next((end for end in ends if not any(begin < end < close for begin, _, close in formulas)), len(tail))
    sentence = tail[:stop].strip(" *_`")
    text = plain(sentence)
    if number(text) is not None or not _WORD.search(text) or not re.search(r"\d", text):
        return text or None
    if re.match(r"\(?[A-Z][).:](?: |$)", text):
        return text
    if formulas and not tail[: formulas[0][0]].strip(" *_`"):
        return plain(formulas[0][1])
    return _last_number(sentence) if numeric else _last_formula(sentence) or text


def _last_number(text: str) -> str | None:
    """Rule 6, where the gold is a number."""
    lines = [line[-MAX_LINE:] for line in text.split("\n") if _DIGIT.search(line)]
    for line in lines[: -MAX_LINES - 1 : -1]:
        if numbers := _IN_TEXT.findall(_slashed(line)):
            if number(line) not in (None, number(numbers[-1])):
                return plain(line)
            return _formula_of_last(line, numbers[-1]) or numbers[-1]
    return None


def _formula_of_last(line: str, last: str) -> str | None:
    """The formula that the last number of a line stands in, where it is not that number itself."""
    formulas = _formulas(line)
    if not formulas or _IN_TEXT.search(_slashed(line[formulas[-1][2] :])):
        return None
    formula = plain(formulas[-1][1])
    own = number(right_side(formula)) == number(last) or not _IN_TEXT.search(_slashed(formula))
    return None if own else formula


def _slashed(text: str) -> str:
    """In plain form, and a fraction as a/b, a mixed number as n a/b."""
    return _FRACTION.sub(lambda f: f"{f[1] + ' ' if f[1] else ''}{f[2].strip()}/{f[3].strip()}", plain(text))


def _last_formula(text: str) -> str | None:
    formulas = _formulas(text)
    return formulas[-1][1] if formulas else None


def _formulas(text: str) -> list[tuple[int, str, int]]:
    """What stands in `$…$`, `\\(…\\)` or `\\[…\\]`, with where it begins and ends; no words between sums of money."""
    found = []
    opened: re.Match[str] | None = None
    for mark in _MARK.finditer(text):
        if opened is not None and mark.group() == _CLOSING[opened.group()]:
            formula = text[opened.end() : mark.start()].strip()
            if opened.group() not in ("$", "\\(") or "\n" not in formula:
                if formula and ("\\" in formula or not _WORD.search(formula)):
                    found.append((opened.start(), formula, mark.end()))
                opened = None
                continue
            opened = None  # what is between would be in every later one too
        if mark.group() in _CLOSING:
            opened = mark
    return found


def _last_line(text: str) -> str | None:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return lines[-1] if lines else None


def same_value(answer: str, gold: str) -> bool:
    """Whether both are numbers and exactly equal. Raises ValueError where the gold answer is no number."""
    expected = exact_value(gold)
    if expected is None:
        raise ValueError(f"the gold answer {gold!r} is not a number; this reward needs one such as 12, -0.5 or 3/4")
    return exact_value(answer) == expected


def same_answer(answer: str, gold: str, prove: Prove | None = None) -> bool:
    r"""Whether an answer is the gold, by the gold's type: `equality` has the types and their rules.

    `prove(answer, gold)` compares two expressions that are not written alike; without it they are not equal. Around the
    gold, `\boxed{}` is opened. Raises ValueError where the gold is empty.
    """
    return same(answer, gold_answer(gold), prove or (lambda *_: False))


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
