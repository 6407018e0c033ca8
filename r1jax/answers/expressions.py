"""The exact value of an arithmetic expression, which is parsed and never evaluated as code.

expression_value("(25*3)-7 = 68")  # (Fraction(68), [25, 3, 7])
"""

from __future__ import annotations

import ast
import operator
from fractions import Fraction

MAX_LENGTH = 200  # characters; a longer text is not read
MAX_DEPTH = 50  # opening parentheses
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def expression_value(text: str) -> tuple[Fraction, list[int]] | None:
    """The value of an arithmetic expression and the whole numbers in it, in order; None for anything else.

    Allowed are whole numbers without a sign, + - * / between them (also × · ÷ −), parentheses, and one trailing `= …`,
    which is ignored. A division by zero, more than MAX_LENGTH characters or more than MAX_DEPTH parentheses give None.
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
