r"""Whether an answer is equivalent to the gold answer, compared by the type of the gold answer alone.

    same_answer(r"x = \frac{1}{2}", "0.5", prove)  # True, without a call of prove
    same_answer(r"\sqrt{8}", r"2\sqrt{2}", prove)  # prove(r"\sqrt{8}", r"2\sqrt{2}")

The first of these types that the gold answer has decides what equals it:

- A date, clock time, ratio or numeral with a base: see `notations.same_notation`.
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
- Any other expression: `prove`. Of an assignment such as y = 2x + 1, the right side is compared.

`prove(answer, gold)` compares two expressions, equations or inequalities. It is given only text that consists of known
macros, function names, runs of at most three letters, and numbers, powers and factorials of moderate size.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from r1jax.answers.latex import plain, split, wrapped
from r1jax.answers.notations import same_notation
from r1jax.answers.quantities import NOT_UNITS, number, quantity, same_quantity

MAX_LENGTH = 1000  # characters of an answer that is compared by its type; a longer one has to be the same text
MAX_MARKUP = 20  # how many times longer than that an answer with its markup may be
MAX_PROVED = 300  # characters of an expression
MAX_ELEMENTS = 64
MAX_DEPTH = 6  # of nested brackets

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
# An underscore that does not begin an index, and a power or factorial that could exhaust the memory.
_RISKY = re.compile(r"__|_[^\w{]|\d{50}|\^ ?\{?[^{}]*[\d)}] ?\^|\^ ?\(|\^ ?\{?[^{}]*\d{4}|\d{5,} ?!(?!=)|[)}!] ?!(?!=)")


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
    return all(w[1:] in _KNOWN_MACROS if w[0] == "\\" else len(w) < 4 or w in _KNOWN for w in letters)


def right_side(text: str) -> str:
    r"""The right side of an assignment, or of arithmetic that is carried out, such as 2+3=5; any other text as it is.

    Of `exact \approx rounded`, it is the exact side.
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


# One function for each type. It returns None where the gold answer is not of that type; `again` compares the parts of
# an answer, and `prove` compares expressions.


def _notation(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    return same_notation(right_side(answer), gold)


def _number(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected = quantity(gold)
    if expected is None:
        return None
    value = right_side(answer)
    given = quantity(value)
    if given is not None:
        return same_quantity(given, expected)
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
    if len(given) != len(expected):
        return "\\cup" in gold and prove(answer, gold)
    left = list(given)
    for g in expected:
        match = next((i for i, a in enumerate(left) if again(a, g)), None)
        if match is None:
            return "\\cup" in gold and prove(answer, gold)
        del left[match]
    return True


def _elements(text: str) -> tuple[bool, list[str]]:
    r"""Whether a text is a set in braces; and its elements, of which a \pm makes two."""
    text = _without_membership(text)
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
    given = _ordered(right_side(answer))
    if given is None:
        chain = _chain(answer)
        given = chain and (interval := _interval(chain)) and _ordered(interval[1])
    if not given or len(given[1]) != len(expected[1]) or (len(given[1]) == 2 and given[0] != expected[0]):
        return False
    return all(map(again, given[1], expected[1]))


def _ordered(text: str) -> tuple[str, list[str]] | None:
    """The two brackets of a tuple, and its elements in order; None where the text is not a tuple."""
    text = _without_membership(text)
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
    value = right_side(answer)
    if value != answer:
        return again(value, gold)
    answer, gold = _without_unit(_unwrapped(answer)), _without_unit(_unwrapped(gold))
    words = [word for word in _LETTERS.findall(gold) if word[0] != "\\" and word not in _KNOWN]
    if _compact(answer).casefold() == _compact(gold).casefold():
        return any(len(word) > 1 for word in words) or _compact(answer) == _compact(gold)
    return all(len(word) < 3 for word in words) and prove(answer, gold)


_TYPES = (_notation, _number, _choice, _matrix, _list, _tuple, _inequality, _equation, _expression)


def _without_membership(text: str) -> str:
    r"""The set in x \in set; any other text as it is."""
    member = _MEMBER.match(text)
    return text[member.end() :] if member else text


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


def _without_unit(text: str) -> str:
    """Removes the words after a number or formula, as in 3\\sqrt{13} inches; other text stays as it is."""
    unit = _UNITS.search(text)
    if unit is None or not re.search(r"[\d\\]", text[: unit.start()]):
        return text
    words = re.findall(r"[A-Za-z]+", unit.group())
    return text if any(word.lower() in NOT_UNITS or word in _KNOWN for word in words) else text[: unit.start()].strip()


def _without_markup(text: str) -> str:
    text = plain(_REALS.sub(r"(-\\infty,\\infty)", text)).lstrip(' ,;:"“”').rstrip(' .,;:"“”')
    return _EMPTY.sub(r"\\emptyset ", text.replace("+\\infty", "\\infty").replace("+ \\infty", "\\infty")).strip()


def _compact(text: str) -> str:
    """Removes spaces beside signs and the braces of one-letter indices and powers: (1, 2) becomes (1,2)."""
    return re.sub(r"([_^])\{(\w|(?<=_\{)\w+)\}", r"\1\2", re.sub(r" ?([^\w\s]) ?", r"\1", text))
