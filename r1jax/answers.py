"""Pulls the final answer out of a completion and decides what it is worth.

    same_value(final_answer("<think>…</think><answer>1,000</answer>") or "", "1000")  # True

Nothing here runs model text, and nothing takes longer than the text is long.
"""

from __future__ import annotations

import ast
import operator
import re
from fractions import Fraction

MAX_LENGTH = 200  # characters of an answer that are looked at; a longer one is no answer
MAX_DEPTH = 50  # opening parentheses of an expression
_NUMBER = re.compile(r"[+-]?((\d{1,3}(,\d{3})+|\d+)(\.\d*)?|\.\d+)", re.ASCII)
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def final_answer(completion: str, *, prompt_opens_think: bool = False) -> str | None:
    """The text of the last well formed `<answer>…</answer>` after the reasoning is closed; None where there is none.

    The reasoning ends at the last `</think>`; opened by the prompt or anywhere in the completion and not closed, it
    leaves no answer. A completion that has no reasoning has nothing to close. A well formed block has both tags and
    none of them inside; where the last one is blank there is no answer.
    """
    _, closed, rest = completion.rpartition("</think>")
    if "<think>" in rest or (prompt_opens_think and not closed):
        return None
    for block in reversed(rest.split("<answer>")[1:]):
        answer, end, _ = block.partition("</answer>")
        if end:
            return answer.strip() or None
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
