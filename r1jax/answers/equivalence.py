r"""Whether an answer is equivalent to the gold answer, compared by the type of the gold answer alone.

    same_answer(r"x = \frac{1}{2}", "0.5", prove)  # True, without a call of prove
    same_answer(r"\sqrt{8}", r"2\sqrt{2}", prove)  # prove(r"\sqrt{8}", r"2\sqrt{2}")

The first of these types that the gold answer has decides what equals it:

- A clock time: the same time. A ratio: a proportional one. A numeral with a base (101_2): the same digits in the same
  base, or without a base, which the question may give. A date or a score: the same text.
- A number: exactly the same quantity, see `quantities.same_quantity`. A closed form such as \sqrt{4} goes to `prove`.
- A choice, which is one capital letter or one letter in parentheses: the letter alone, or followed by `)`, `.` or `:`
  and the text of the choice.
- A matrix: the same shape and entries, in any brackets. A row, a column and a tuple are different.
- A set in braces: the same elements in any order. A list (a, b; a and b; a or b; a \pm b; A \cup B): the same elements,
  each as often, in any order. Where a list assigns several variables (x = 1, y = 2), the answer assigns the same
  variables, or is the values in the same order.
- A tuple, point or interval: the same elements in the same order; with two elements, also the same brackets. ]0,1[ is
  (0,1). An interval and an inequality in one variable may stand for each other.
- An inequality: the same relation, in either direction, or `prove`.
- An assignment (x = 5, f(x) = 2x, y = 2x + 1): the same assignment, or its right side alone. Any other equation: an
  equivalent equation, but never one side of it.
- Text: the same words, without regard to case, white space and the punctuation around them.
- Any other expression: `prove`, without a unit. Of a chain of equations in the answer, the last side is compared.

`prove(answer, gold)` compares two expressions, equations or inequalities. It is given only text that consists of known
macros, function names, runs of at most three letters, and numbers, powers and factorials of moderate size.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

from r1jax.answers.latex import FUNCTIONS, plain, split, wrapped
from r1jax.answers.quantities import NOT_UNITS, known_unit, number, quantity, same_quantity

MAX_LENGTH = 1000  # characters of an answer that is compared by its type; a longer one has to be the same text
MAX_MARKUP = 20  # how many times longer than that an answer with its markup may be
MAX_PROVED = 300  # characters of an expression
MAX_ELEMENTS = 64
MAX_DEPTH = 6  # of nested brackets
CHOICE = re.compile(r"\(([A-Za-z])\)|([A-Z])")

Prove = Callable[[str, str], bool]

# Quantifiers are possessive where a space or letter could belong to two parts: "\alpha : \alpha : …" could be read in
# 2^n ways.
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
_CHOSEN = re.compile(r"(?:(?:the )?(?:correct )?(?:option|choice|answer)(?: is)?:? )?[(\[]?([a-z])(?:[)\]:.].*)?")
_MATRIX = re.compile(r"\\begin ?\{((?:[pbB]|small)?matrix|array)\}(?: ?\{[lcr| ]*\})?(.*)\\end ?\{\1\}", re.DOTALL)
_CLOCK = re.compile(r"(\d{1,2})(?::([0-5]\d))?(?::([0-5]\d))? ?(?:([ap])\.? ?m\.?)?", re.IGNORECASE | re.ASCII)
_BASED = re.compile(r"(\d[\w,]*) ?_ ?\{? ?(\d+|[a-z]+) ?\}?(?: \(base \w+\))?", re.ASCII)
_BASES: str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_MODULAR = re.compile(r"(?:[a-z] ?\\equiv ?)?(-?\d+) ?\(? ?mod ?[{(]? ?(\d+) ?[})]?", re.ASCII)
_CODE = re.compile(r"\d+(?:-\d+)+|\d+(?:/\d+){2,}", re.ASCII)  # a date, a range, a score, a phone number
_UNIT = re.compile(
    r"(?<=[\w})]) ((?:(?:square|sq|cubic|cu)\.? )?(?:[ckm]m|kg|in(?= ?\^)|[A-Za-z]{3,})(?: ?/ ?[A-Za-z]+)?)\.?"
    r"( ?\^\{?[23]\}?)?$"
)
_MACROS = (
    "frac binom pi infty sum prod int lim to cup cap in notin setminus emptyset begin end pm mp ldots cdots vec bar "
    "hat overline lfloor rfloor lceil rceil alpha beta gamma delta epsilon varepsilon zeta eta theta lambda mu nu xi "
    "rho sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega"
)
KNOWN = {*FUNCTIONS.split(), "lg", "lcm", "mod", "det", "pmatrix", "bmatrix", "matrix", "array"}
_KNOWN_MACROS = {*_MACROS.split(), *KNOWN}
_WORD = re.compile(r"(?=.*[aeiouy].*)[A-Za-z][a-z]{3,}|\w{9,}", re.ASCII)  # and no product of variables
_TEXT = re.compile(r"(?=[A-Za-z]{2})[A-Za-z]*[eiou][A-Za-z]*")
_LETTERS = re.compile(r"\\?[A-Za-z]+")
_NO_CONSTANT = re.compile(r"[=<>,;]|(?<!\\sqrt)\[|\\\{|\\in(?![a-z])")
_BUILDER = re.compile(rf"\\\{{ ?{_NAME} ?[|:] ?(.*)\\\}}", re.ASCII)  # {x | x > 2}
_EMPTY = re.compile(r"\\\{ ?\\\}")
_SAFE = re.compile(r"[0-9A-Za-z+\-*/^_=<>!()\[\]{}|,.:;\\ &%]*")
# An underscore that does not begin an index, a power of a power in an exponent, and what could exhaust the memory.
_RISKY = re.compile(
    r"__|_[^\w{]|\d{50}|\^ ?\w ?\^|\^ ?\{[^{}]*[\d)}] ?\^|\^ ?\{?[^{}]*\d{4}"
    r"|(?:\d{5,}|[}!] ?\)*|\([^()]*(?:\^|\d{3})[^()]*\)) ?!(?!=)"
)


def same_answer(answer: str, gold: str, prove: Prove = lambda answer, gold: False, depth: int = 0) -> bool:
    """Whether two answers, with any markup, are equivalent by the rules in the module's docstring.

    Without `prove`, two expressions that are not written alike are different.
    """
    if len(answer) > MAX_MARKUP * max(len(gold), MAX_LENGTH):
        return False
    answer, gold = _without_markup(answer), _without_markup(gold)
    if _compact(answer) == _compact(gold):
        return bool(gold)
    if not answer or len(answer) > MAX_LENGTH or len(gold) > MAX_LENGTH or depth > MAX_DEPTH:
        return False

    def again(a: str, g: str) -> bool:
        return same_answer(a, g, prove, depth + 1)

    def proved(a: str, g: str) -> bool:
        return provable(a) and provable(g) and prove(a, g)

    results = (compare(answer, gold, again, proved) for compare in _TYPES)
    return next(result for result in results if result is not None)


def provable(text: str) -> bool:
    """Whether it is safe to give a text, as an expression, equation or inequality, to a computer algebra system."""
    if len(text) > MAX_PROVED or not _SAFE.fullmatch(text) or _RISKY.search(text):
        return False
    depths = list(itertools.accumulate({"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(c, 0) for c in text))
    if not text or depths[-1] or min(depths) < 0:
        return False
    letters = _LETTERS.findall(text)
    return all(w[1:] in _KNOWN_MACROS if w[0] == "\\" else w in KNOWN or not _WORD.fullmatch(w) for w in letters)


def right_side(text: str) -> str:
    r"""What a chain of equations says: its last side, or its first where that is the value of a name, as in 5 = x.

    Any other text is returned as it is, and so are a false equation of numbers, as 2+2=5, and an equation that is not
    solved, which has one variable in its left side, as 2x = 10. Of `exact \approx rounded`, it is the exact side.
    """
    exact, approximate, rounded = text.partition("\\approx")
    if approximate:
        text = f"{exact}={rounded}" if _is_label(exact.strip()) else exact.strip()
    sides = split(text, _EQUALS)
    if not 1 < len(sides) <= MAX_ELEMENTS:
        return text
    if assigned := _assignment(sides):
        return assigned[1]
    variables = {word for word in _LETTERS.findall(sides[0]) if len(word) == 1}
    value, *values = [number(side) for side in reversed(sides)]
    wrong = any(other not in (None, value) for other in values)
    return text if len(variables) == 1 or (wrong and value is not None) else sides[-1]


# One function for each type. It returns None where the gold answer is not of that type; `again` compares the parts of
# an answer, and `prove` compares expressions.


def _notation(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    given = right_side(answer)
    if times := _times(gold):
        return bool(_times(given)) and _times(given) <= times
    if ratio := _ratio(gold):
        other = _ratio(given)
        return len(other) == len(ratio) and all(a * ratio[0] == g * other[0] for a, g in zip(other, ratio, strict=True))
    if residue := _residue(gold):
        return _residue(given) == residue or (number(given) == residue[0] and "\\equiv" not in gold)
    numeral, other = _numeral(gold), _numeral(given)
    if numeral:
        return other == numeral if other else _digits(given) == numeral[0]
    return False if _CODE.fullmatch(gold) or (other and number(gold) is not None) else None


def _times(text: str) -> set[int]:
    """The seconds since midnight that a clock time may mean: two of them where it has neither am nor pm."""
    parts = _CLOCK.fullmatch(text)
    if parts is None or not (parts[2] or parts[4]) or int(parts[1]) > 24:
        return set()
    hour, rest = int(parts[1]), 60 * int(parts[2] or 0) + int(parts[3] or 0)
    halves = (hour // 12 % 2,) if not 1 <= hour <= 12 else (0, 1) if parts[4] is None else (parts[4] in "pP",)
    return {3600 * (hour % 12 + 12 * half) + rest for half in halves}


def _ratio(text: str) -> list[Any]:
    terms = [number(term) for term in text.split(":")]
    return terms if len(terms) > 1 and None not in terms else []


def _residue(text: str) -> tuple[int, int] | None:
    parts = _MODULAR.fullmatch(text)
    return (int(parts[1]) % int(parts[2]), int(parts[2])) if parts and int(parts[2]) else None


def _numeral(text: str) -> tuple[str, int] | None:
    parts, names = _BASED.fullmatch(text), _BASES.split()
    if parts is None:
        return None
    base = int(parts[2]) if parts[2].isdigit() else names.index(parts[2]) if parts[2] in names else 0
    return (_digits(parts[1]), base) if 2 <= base <= 36 else None


def _digits(text: str) -> str:
    return text.replace(",", "").lstrip("0").upper()


def _number(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected = quantity(gold)
    if expected is None:
        return None
    value = right_side(answer)
    given = quantity(value)
    if given is not None:
        return same_quantity(given, expected)
    letters = [word for word in _LETTERS.findall(value) if word[0] != "\\" and word not in KNOWN]
    if set(letters) - {"e", "i"} or _NO_CONSTANT.search(value):
        return False
    return prove(value, gold if provable(gold) and not expected.unit else str(expected.value))


def _choice(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected = CHOICE.fullmatch(gold)
    if expected is None:
        return None
    chosen = _CHOSEN.fullmatch(answer.casefold())
    return chosen is not None and chosen[1] == (expected[1] or expected[2]).casefold()


def _matrix(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected = _entries(gold)
    if expected is None:
        return None
    given = _entries(right_side(answer))
    if given is None:
        return "\\begin" in answer and prove(answer, gold)
    return [len(row) for row in given] == [len(row) for row in expected] and all(
        again(a, g) for row, other in zip(given, expected, strict=True) for a, g in zip(row, other, strict=True)
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
    _, given = _elements(answer)
    if max(len(given), len(expected)) > MAX_ELEMENTS:
        return False
    names, given_names = ([_name(item) for item in items] for items in (expected, given))
    if len(set(names) - {None}) > 1:
        if not any(given_names):
            return len(given) == len(expected) and all(map(again, given, expected))
        if set(names) != set(given_names):
            return False
    if braced:
        return all(any(again(a, g) for a in given) for g in expected) and all(
            any(again(a, g) for g in expected) for a in given
        )
    left = list(given)
    for g in expected:
        match = next((i for i, a in enumerate(left) if again(a, g)), None)
        if match is not None:
            del left[match]
    return (len(given) == len(expected) and not left) or ("\\cup" in gold and prove(answer, gold))


def _elements(text: str) -> tuple[bool, list[str]]:
    r"""Whether a text is a set in braces; and its elements, of which a \pm makes two."""
    bracket = wrapped(_assigned(text))
    braced = bracket is not None and bracket[0] + bracket[2] == "{}"
    inside = bracket[1] if bracket and braced else _without_membership(text)
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
    given = _ordered(right_side(answer))
    if given is None and (rows := _entries(answer)):  # a vector
        given = expected[0], [entry for row in rows for entry in row]
    if given is None and (chain := _chain(answer)):
        given = (interval := _interval(chain)) and _ordered(interval[1])
    if given is None:  # x = 1, y = 2
        values = [_assignment(split(item, _EQUALS)) or ("", "") for item in _elements(answer)[1]]
        names = [name for name, _ in values]
        given = "()" if sorted({*names} - {""}) == names else "", [value for _, value in values]
    if not given or len(given[1]) != len(expected[1]) or (len(given[1]) == 2 and given[0] != expected[0]):
        return False
    return all(map(again, given[1], expected[1]))


def _ordered(text: str) -> tuple[str, list[str]] | None:
    """The two brackets of a tuple, and its elements in order; None where the text is not a tuple."""
    text = _assigned(text)
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
    interval, given = _interval(expected), _chain(answer)
    if given is None:
        return again(answer, interval[1]) if interval and _ordered(answer) else prove(_without_membership(answer), gold)
    other = _interval(given)
    if interval and other:
        return _compact(interval[0]) == _compact(other[0]) and again(other[1], interval[1])
    if given[1] == expected[1] and len(given[0]) == len(expected[0]):
        orders = [given[0], given[0][::-1]] if set(given[1]) == {"!="} else [given[0]]
        if any(all(_compact(a) == _compact(g) for a, g in zip(terms, expected[0], strict=True)) for terms in orders):
            return True
    return prove(answer, gold)


def _chain(text: str) -> tuple[list[str], list[str]] | None:
    """The terms of an inequality, smallest first, and the signs between them; None where the text is not one."""
    terms = split(text, _ORDER)
    signs = _ORDER.findall(text)
    if not signs or len(signs) != len(terms) - 1 or len(split(text, _LIST)) > 1:
        return None
    if all(sign[0] == ">" for sign in signs):
        return terms[::-1], [sign.replace(">", "<") for sign in signs[::-1]]
    return terms, signs


def _interval(chain: tuple[list[str], list[str]]) -> tuple[str, str] | None:
    """The variable of an inequality and the interval it lies in; None where the inequality has no single variable."""
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
    sides, given_sides = split(gold, _EQUALS), split(answer, _EQUALS)
    if len(sides) < 2:
        return None
    assigned, given = _assignment(sides), _assignment(given_sides)
    if assigned is None:
        return len(given_sides) > 1 and prove(answer, gold)
    name, value = assigned
    if len(given_sides) < 2:
        return again(answer, value)
    if given is not None and _compact(given[0]) == _compact(name):
        return again(given[1], value)
    return number(value) is None and prove(answer, gold)  # 2x = 10 is not solved yet


def _assignment(sides: list[str]) -> tuple[str, str] | None:
    """The name and the value in x = 5, 5 = x or x = 2 + 3 = 5."""
    if len(sides) > 1 and _is_label(sides[0]):
        return sides[0], sides[-1]
    return (sides[1], sides[0]) if len(sides) == 2 and _is_label(sides[1]) else None


def _expression(answer: str, gold: str, again: Prove, prove: Prove) -> bool:
    (answer, unit), (gold, expected) = _unit(split(answer, _EQUALS)[-1]), _unit(gold)
    if unit and expected and unit != expected:
        return False
    answer, gold = _unwrapped(answer), _unwrapped(gold)
    if _compact(answer) == _compact(gold):
        return True
    if _TEXT.fullmatch(gold) or not gold.isascii() or any(map(_WORD.fullmatch, set(_LETTERS.findall(gold)) - KNOWN)):
        return _article(answer) == _article(gold)
    return prove(answer, gold)


_TYPES = (_notation, _number, _choice, _matrix, _list, _tuple, _inequality, _equation, _expression)


def _unit(text: str) -> tuple[str, Any]:
    r"""A formula without the unit or the words after it, as in 3\sqrt{13} inches, and the unit's dimension and size."""
    unit = _UNIT.search(text)
    if unit is None or not re.search(r"[\d\\]", text[: unit.start()]) or unit[1].lower() in NOT_UNITS:
        return text, None
    known = known_unit(unit[1] + (unit[2] or "").strip())
    words = re.fullmatch(r"(?:square |cubic )?(?:units?|[A-Za-z]{4,})", unit[1])
    return (text[: unit.start()], known) if known or words else (text, None)


def _article(text: str) -> str:
    return re.sub(r"^(?:an?|the) ", "", _compact(text).casefold())


def _without_membership(text: str) -> str:
    r"""The set in x \in set; any other text as it is."""
    member = _MEMBER.match(text)
    return text[member.end() :] if member else text


def _assigned(text: str) -> str:
    """What a name is or lies in; any other text as it is."""
    text = _without_membership(text)
    sides = split(text, _EQUALS)
    return sides[-1] if len(sides) == 2 and _is_label(sides[0]) else text


def _name(text: str) -> str | None:
    assigned = _assignment(split(text, _EQUALS))
    return assigned and _compact(assigned[0])


def _is_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None


def _is_variable(text: str) -> bool:
    return "|" not in text and _is_label(text)


def _unwrapped(text: str) -> str:
    bracket = wrapped(text)
    return bracket[1] if bracket and bracket[0] + bracket[2] in ("()", "{}") else text


def _without_markup(text: str) -> str:
    text = _BUILDER.sub(r"\1", plain(text)).lstrip(' ,;:"“”').rstrip(' .,;:"“”')
    return _EMPTY.sub(r"\\emptyset ", text.replace("+\\infty", "\\infty").replace("+ \\infty", "\\infty")).strip()


def _compact(text: str) -> str:
    """Removes spaces beside signs and the braces of one-letter indices and powers: (1, 2) becomes (1,2)."""
    return re.sub(r"([_^])\{(\w|(?<=_\{)\w+)\}", r"\1\2", re.sub(r" ?([^\w\s]) ?", r"\1", text))
