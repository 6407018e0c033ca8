"""Pulls the final answer out of a completion and decides what it is worth. Nothing here evaluates model text.

    exact_value(final_answer("<think>…</think><answer>1,000</answer>"))  # Fraction(1000, 1)
"""

from __future__ import annotations

import ast
import operator
import re
from fractions import Fraction

MAX_LENGTH = 200  # characters of an answer that are looked at; a longer one is no answer
_NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?")
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def final_answer(completion: str, *, prompt_opens_think: bool = False) -> str | None:
    """The text of the last `<answer>…</answer>` after the reasoning has ended; None where there is none.

    Reasoning that was opened (by the prompt or in the completion) and never closed has no answer after it.
    """
    reasoning, closed, rest = completion.rpartition("</think>")
    if not closed and (prompt_opens_think or "<think>" in completion):
        return None
    rest = rest if closed else completion
    before, end, _ = rest.rpartition("</answer>")
    _, start, answer = before.rpartition("<answer>")
    return answer.strip() if end and start else None


def exact_value(text: str) -> Fraction | None:
    """The number that `text` is: whole, decimal, or a fraction a/b; sign and thousands separators allowed. Else None.

    Leading zeros are read as the same number ("03" is 3).
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        return None
    parts = [part.strip() for part in text.split("/")]
    if len(parts) > 2 or not all(_NUMBER.fullmatch(part) and part[-1:].isdecimal() and part.isascii() for part in parts):
        return None
    values = [Fraction(part.replace(",", "")) for part in parts]
    if len(values) == 1:
        return values[0]
    return values[0] / values[1] if values[1] else None


def expression_value(text: str) -> tuple[Fraction, list[int]] | None:
    """The exact value of an arithmetic expression and the whole numbers in it, in order.

    Allowed are non-negative whole numbers, + - * / and parentheses (× · ÷ − too), and one trailing `= …`, which is
    ignored. Anything else, a division by zero, or more than MAX_LENGTH characters gives None. The text is parsed to a
    syntax tree whose node types are checked one by one; it is never evaluated as Python.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH or text.count("(") > 50 or text.count("=") > 1:
        return None
    text = text.partition("=")[0].translate(str.maketrans("×·÷−", "**/-")).strip()
    if not text or set(text) - set("0123456789+-*/() "):
        return None
    try:
        tree = ast.parse(text, mode="eval").body
        numbers: list[int] = []
        return _value(tree, numbers), numbers
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
