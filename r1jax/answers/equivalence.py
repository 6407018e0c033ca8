r"""Whether an answer is the gold, by the type that the gold has; what the answer looks like never chooses the type.

    same(r"x = \frac{1}{2}", "0.5", prove)  # True, without prove
    same(r"\sqrt{8}", r"2\sqrt{2}", prove)  # prove(r"\sqrt{8}", r"2\sqrt{2}")

The types, of which the first that the gold has is taken:

- date, clock time, ratio, numeral with a base: `notations.same`.
- number: `quantities.same_quantity`, exactly; closed forms such as \sqrt{4} are given to `prove`.
- choice, one capital letter or one letter in parentheses: that letter, alone or followed by `)`, `.`, `:` and its text.
- matrix: same shape and entries, whatever the brackets; a row, column and tuple are different.
- set, in braces: same elements in any order. List (a, b; a and b; a or b; a \pm b; A \cup B): the same and as many, in
  any order. Where a list assigns several variables (x = 1, y = 2), the answer names the same, or none in that order.
- tuple, point, interval: same elements in order; of two elements, same brackets too. ]0,1[ is (0,1). For an interval,
  an inequality in one variable may be given, and the other way round.
- inequality: the same relation, either way round, or `prove`.
- assignment (x = 5, f(x) = 2x, y = 2x + 1): the same, or its right side alone. Any other equation: an equivalent
  equation, never one side of it.
- text: words, without regard to case, white space and punctuation beside signs.
- any other expression: `prove`. An assignment's right side, as y = 2x + 1 for the gold 2x + 1, is taken for it.

`prove(answer, gold)` decides about two expressions, equations or inequalities. It is only given text that consists of
known macros, function names, runs of at most three letters, and numbers, powers and factorials of modest size.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from r1jax.answers import notations
from r1jax.answers.latex import plain, split, wrapped
from r1jax.answers.quantities import NOT_UNITS, number, quantity, same_quantity

MAX_LENGTH = 1000  # characters of an answer or gold whose type is looked at; a longer one has to be the same text
MOST_DECORATION = 20  # times what is compared, of an answer that is looked at
MAX_PROVED = 300  # characters of an expression
MAX_ELEMENTS = 64
MAX_DEPTH = 6  # brackets inside one another that are taken apart

Prove = Callable[[str, str], bool]

# Possessive where a space or letter could belong to two parts: "\alpha : \alpha : …" has 2^n ways to be read.
_NAME = r"(?:\\(?!infty|pi|emptyset)[A-Za-z]++ *+|[A-Z]{2,4}|[A-Za-z])(?:_ ?(?:\w++|\{[^{}]*+\}))?'*"
_NAMES = rf"\((?:{_NAME} ?, ?)+{_NAME}\)"
_FUNCTION = rf"{_NAME} ?\([^()=]*\)"
_SEGMENT = rf"\| ?{_NAME} ?\||\\(?:overline|angle|triangle|vec|hat|bar) *(?:\{{[A-Za-z]+\}}|[A-Za-z]+)"
_LABEL = re.compile(rf"{_FUNCTION}|{_SEGMENT}|{_NAME}(?: ?: ?{_NAME})*|{_NAMES}", re.ASCII)
_MEMBER = re.compile(rf"(?:{_NAME}|{_FUNCTION}|{_NAMES}) ?\\in(?![A-Za-z]) *", re.ASCII)
_EQUALS = re.compile(r"(?<![<>!])=")
_ORDER = re.compile(r"<=|>=|<|>|!=")
_LIST = re.compile(r",|;|\\cup(?![A-Za-z])|\band\b|\bor\b")
_CUT = re.compile(r",|;")
_SPACED_LIST = re.compile(r", |;|\band\b|\bor\b")  # where a comma without a space may be inside a number
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))", re.ASCII)
_CHOICE = re.compile(r"\(?([A-Za-z])\)?")
_CHOSEN = re.compile(r"(?:(?:the )?(?:correct )?(?:option|choice|answer)(?: is)?:? )?[(\[]?([a-z])(?:[)\]:.].*)?")
_MATRIX = re.compile(r"\\begin ?\{((?:[pbB]|small)?matrix|array)\}(?: ?\{[lcr| ]*\})?(.*)\\end ?\{\1\}", re.DOTALL)
_UNITS = re.compile(r"(?:(?: |(?<=[\d})]))[A-Za-z]{2,}\.?(?: ?\^\{?[23]\}?)?)+$", re.ASCII)
_FUNCTIONS = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt max min gcd lcm mod det"
_MACROS = (
    "frac binom pi infty sum prod int lim to cup cap in notin setminus emptyset begin end pm mp ldots cdots vec bar "
    "hat overline lfloor rfloor lceil rceil alpha beta gamma delta epsilon varepsilon zeta eta theta lambda mu nu xi "
    "rho sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega"
)
_KNOWN = set(_FUNCTIONS.split()) | {"pmatrix", "bmatrix", "matrix", "array"}
_KNOWN_MACROS = set(_MACROS.split()) | _KNOWN
_LETTERS = re.compile(r"\\?[A-Za-z]+")
_NO_CONSTANT = re.compile(r"[=<>,;]|(?<!\\sqrt)\[|\\\{|\\in(?![a-z])")
_REALS = re.compile(r"\\mathbb *+\{? *+R *+\}?|ℝ")
_EMPTY = re.compile(r"\\\{ ?\\\}")
_SAFE = re.compile(r"[0-9A-Za-z+\-*/^_=<>!()\[\]{}|,.:;\\ &%]*")
# An underscore that does not begin an index; a power or factorial that could fill the memory.
_RISKY = re.compile(r"__|_[^\w{]|\d{50}|\^ ?\{?[^{}]*[\d)}] ?\^|\^ ?\(|\^ ?\{?[^{}]*\d{4}|\d{5,} ?!(?!=)|[)}!] ?!(?!=)")


def same(answer: str, gold: str, prove: Prove, depth: int = 0) -> bool:
    """Whether `answer` is `gold`; both may be in any decoration. The module's docstring has the rules."""
    if len(answer) > MOST_DECORATION * max(len(gold), MAX_LENGTH):
        return False
    answer, gold = _tidy(answer), _tidy(gold)
    if _closed(answer) == _closed(gold):
        return bool(gold)
    if not answer or len(answer) > MAX_LENGTH or len(gold) > MAX_LENGTH or depth > MAX_DEPTH:
        return False

    def again(a: str, g: str) -> bool:
        return same(a, g, prove, depth + 1)

    def proved(a: str, g: str) -> bool:
        return provable(a) and provable(g) and prove(a, g)

    verdicts = (kind(answer, gold, again, proved) for kind in _KINDS)
    return next(verdict for verdict in verdicts if verdict is not None)


def provable(text: str) -> bool:
    """Whether a text is an expression, equation or inequality that may be given to a computer algebra system."""
    if len(text) > MAX_PROVED or not _SAFE.fullmatch(text) or _RISKY.search(text):
        return False
    depths = list(itertools.accumulate({"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(c, 0) for c in text))
    if not text or depths[-1] or min(depths) < 0:
        return False
    letters = _LETTERS.findall(text)
    return all(w[1:] in _KNOWN_MACROS if w[0] == "\\" else len(w) < 4 or w in _KNOWN for w in letters)


def right_side(text: str) -> str:
    r"""The right side of an assignment, and of arithmetic that is carried out, as 2+3=5; else the text.

    Of `exact \approx rounded` the exact side counts.
    """
    exact, approximate, rounded = text.partition("\\approx")
    if approximate:
        text = f"{exact}={rounded}" if _is_label(exact.strip()) else exact.strip()
    sides = split(text, _EQUALS)
    if len(sides) < 2:
        return text
    if assigned := _assignment(sides):
        return assigned[1]
    if len(sides) > MAX_ELEMENTS:
        return text
    values = [number(side) for side in sides]
    return sides[-1] if values[0] is not None and all(value == values[0] for value in values) else text


# Each kind gives None where the gold is not of it. `again` compares parts, `prove` expressions.


def _notation(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    return notations.same(right_side(answer), gold)


def _number(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected = quantity(gold)
    if expected is None:
        return None
    value = right_side(answer)
    said = quantity(value)
    if said is not None:
        return same_quantity(said, expected)
    letters = [word for word in _LETTERS.findall(value) if word[0] != "\\" and word not in _KNOWN]
    if set(letters) - {"e", "i"} or _NO_CONSTANT.search(value):
        return False
    return prove(value, gold if provable(gold) and not expected.unit else str(expected.value))


def _choice(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected = _CHOICE.fullmatch(gold)
    if expected is None:
        return None
    chosen = _CHOSEN.fullmatch(answer.casefold())
    if chosen is not None and chosen[1] == expected[1].casefold():
        return True
    return None if gold.islower() and len(gold) == 1 else False  # a lower-case letter may be a variable


def _matrix(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected = _entries(gold)
    if expected is None:
        return None
    said = _entries(right_side(answer))
    if said is None:
        return "\\begin" in answer and prove(answer, gold)
    return [len(row) for row in said] == [len(row) for row in expected] and all(
        again(a, g) for row, other in zip(said, expected, strict=True) for a, g in zip(row, other, strict=True)
    )


def _entries(text: str) -> list[list[str]] | None:
    if (bracket := wrapped(text)) and bracket[1].startswith("\\begin"):
        text = bracket[1]
    matrix = _MATRIX.fullmatch(text)
    if matrix is None or "\\begin" in matrix[2]:
        return None
    return [row.split("&") for row in matrix[2].split("\\\\") if row.strip()]


def _list(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    braced, expected = _elements(gold)
    if not braced and len(expected) < 2:
        return None
    _, said = _elements(answer)
    if max(len(said), len(expected)) > MAX_ELEMENTS:
        return False
    names, own = ([_name(item) for item in items] for items in (expected, said))
    if len(set(names) - {None}) > 1:
        if not any(own):
            return len(said) == len(expected) and all(map(again, said, expected))
        if set(names) != set(own):
            return False
    if braced:
        return all(any(again(a, g) for a in said) for g in expected) and all(
            any(again(a, g) for g in expected) for a in said
        )
    if len(said) != len(expected):
        return "\\cup" in gold and prove(answer, gold)
    left = list(said)
    for g in expected:
        match = next((i for i, a in enumerate(left) if again(a, g)), None)
        if match is None:
            return "\\cup" in gold and prove(answer, gold)
        del left[match]
    return True


def _elements(text: str) -> tuple[bool, list[str]]:
    r"""Whether braces make a text a set, and its elements, of which a \pm makes two."""
    text = _of_member(text)
    sides = split(text, _EQUALS)
    bracket = wrapped(sides[-1]) if len(sides) == 2 and _is_label(sides[0]) else wrapped(text)
    braced = bracket is not None and bracket[0] + bracket[2] == "{}"
    inside = bracket[1] if bracket and braced else text
    if _SPACED_LIST.search(inside):
        inside = _THOUSANDS.sub("", inside)
    items = []
    for item in split(inside, _LIST):
        if "\\pm" in item:
            items += [item.replace("\\pm", s).replace("\\mp", t).strip() for s, t in ("+-", "-+")]
        else:
            items.append(item)
    return braced, items


def _tuple(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected = _ordered(gold)
    if expected is None:
        return None
    said = _ordered(right_side(answer))
    if said is None:
        chain = _chain(answer)
        said = chain and (interval := _interval(chain)) and _ordered(interval[1])
    if not said or len(said[1]) != len(expected[1]) or (len(said[1]) == 2 and said[0] != expected[0]):
        return False
    return all(map(again, said[1], expected[1]))


def _ordered(text: str) -> tuple[str, list[str]] | None:
    """The two brackets, and what is between them in order."""
    text = _of_member(text)
    sides = split(text, _EQUALS)
    text = sides[-1] if len(sides) == 2 and _is_label(sides[0]) else text
    if text[:1] == "]":
        text = "(" + text[1:]
    if text[-1:] == "[":
        text = text[:-1] + ")"
    bracket = wrapped(text)
    if bracket is None or bracket[0] == "{":
        return None
    items = split(bracket[1], _CUT)
    return (bracket[0] + bracket[2], items) if len(items) > 1 else None


def _inequality(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected = _chain(gold)
    if expected is None:
        return None
    interval, said = _interval(expected), _chain(answer)
    if said is None:
        return again(answer, interval[1]) if interval and _ordered(answer) else prove(_of_member(answer), gold)
    other = _interval(said)
    if interval and other:
        return _closed(interval[0]) == _closed(other[0]) and again(other[1], interval[1])
    if said[1] == expected[1] and len(said[0]) == len(expected[0]):
        turned = [said[0], said[0][::-1]] if set(said[1]) == {"!="} else [said[0]]
        if any(all(_closed(a) == _closed(g) for a, g in zip(terms, expected[0], strict=True)) for terms in turned):
            return True
    return prove(answer, gold)


def _chain(text: str) -> tuple[list[str], list[str]] | None:
    """The terms of an inequality from the small end, and the signs between them; None where it is none."""
    terms = split(text, _ORDER)
    signs = _ORDER.findall(text)
    if not signs or len(signs) != len(terms) - 1 or len(split(text, _LIST)) > 1:
        return None
    if all(sign[0] == ">" for sign in signs):
        return terms[::-1], [sign.replace(">", "<") for sign in signs[::-1]]
    return terms, signs


def _interval(chain: tuple[list[str], list[str]]) -> tuple[str, str] | None:
    """The variable of an inequality, and the interval it leaves; None where it bounds no single variable."""
    terms, signs = chain
    if any(sign[0] != "<" for sign in signs) or len(terms) > 3:
        return None
    opening, closing = "[" if signs[0] == "<=" else "(", "]" if signs[-1] == "<=" else ")"
    if len(terms) == 3:
        return (terms[1], f"{opening}{terms[0]},{terms[2]}{closing}") if _is_variable(terms[1]) else None
    if _is_variable(terms[0]) and not _is_variable(terms[1]):
        return terms[0], f"(-\\infty,{terms[1]}{closing}"
    return (terms[1], f"{opening}{terms[0]},\\infty)") if _is_variable(terms[1]) else None


def _equation(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    sides, said = split(gold, _EQUALS), split(answer, _EQUALS)
    if len(sides) < 2:
        return None
    assigned, given = _assignment(sides), _assignment(said)
    if assigned is None:
        return len(said) > 1 and prove(answer, gold)
    name, value = assigned
    if len(said) < 2:
        return again(answer, value)
    if given is not None and _closed(given[0]) == _closed(name):
        return again(given[1], value)
    return number(value) is None and prove(answer, gold)  # 2x = 10 is yet to be solved


def _assignment(sides: list[str]) -> tuple[str, str] | None:
    """The name and its value, of x = 5, 5 = x, and x = 2 + 3 = 5."""
    if len(sides) > 1 and _is_label(sides[0]):
        return sides[0], sides[-1]
    return (sides[1], sides[0]) if len(sides) == 2 and _is_label(sides[1]) else None


def _expression(answer: str, gold: str, again: Prove, prove: Prove) -> bool:
    value = right_side(answer)
    if value != answer:
        return again(value, gold)
    answer, gold = _without_unit(_unwrapped(answer)), _without_unit(_unwrapped(gold))
    words = [word for word in _LETTERS.findall(gold) if word[0] != "\\" and word not in _KNOWN]
    if _closed(answer).casefold() == _closed(gold).casefold():
        return any(len(word) > 1 for word in words) or _closed(answer) == _closed(gold)
    return all(len(word) < 3 for word in words) and prove(answer, gold)


_KINDS = (
    _notation,
    *(_number, _choice, _matrix, _list, _tuple, _inequality, _equation, _expression),
)


def _of_member(text: str) -> str:
    r"""The set of x \in set; else the text."""
    member = _MEMBER.match(text)
    return text[member.end() :] if member else text


def _name(text: str) -> str | None:
    assigned = _assignment(split(text, _EQUALS))
    return assigned and _closed(assigned[0])


def _is_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None


def _is_variable(text: str) -> bool:
    return "|" not in text and _is_label(text)


def _unwrapped(text: str) -> str:
    bracket = wrapped(text)
    return bracket[1] if bracket and bracket[0] + bracket[2] in ("()", "{}") else text


def _without_unit(text: str) -> str:
    """Without the words after a number or formula, as in 3\\sqrt{13} inches; text stays as it is."""
    unit = _UNITS.search(text)
    if unit is None or not re.search(r"[\d\\]", text[: unit.start()]):
        return text
    words = re.findall(r"[A-Za-z]+", unit.group())
    return text if any(word.lower() in NOT_UNITS or word in _KNOWN for word in words) else text[: unit.start()].strip()


def _tidy(text: str) -> str:
    text = plain(_REALS.sub(r"(-\\infty,\\infty)", text)).lstrip(' ,;:"“”').rstrip(' .,;:"“”')
    return _EMPTY.sub(r"\\emptyset ", text.replace("+\\infty", "\\infty").replace("+ \\infty", "\\infty")).strip()


def _closed(text: str) -> str:
    """Without the spaces beside a sign and the braces of an index or power of one letter: (1, 2) as (1,2)."""
    return re.sub(r"([_^])\{(\w|(?<=_\{)\w+)\}", r"\1\2", re.sub(r" ?([^\w\s]) ?", r"\1", text))
