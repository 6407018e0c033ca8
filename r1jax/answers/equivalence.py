r"""Whether an answer is equivalent to the gold answer, compared by the type of the gold answer alone.

    same_answer(r"x = \frac{1}{2}", "0.5", prove)  # True, without a call of prove
    same_answer(r"\sqrt{8}", r"2\sqrt{2}", prove)  # prove(r"\sqrt{8}", r"2\sqrt{2}")

The first of these types that the gold answer has decides what equals it:

- A clock time, ratio, residue (3 mod 7), date or numeral with a base (101_2): the same one. 2:4 is the same as 1:2, and
  the modulus or the base may be missing.
- A number: exactly the same quantity, see `quantities.same_quantity`. A closed form such as \sqrt{4} goes to `prove`.
- A matrix: the same shape and entries, in any brackets. A tuple, point or interval: the same elements in order; with
  two elements, also the same brackets. ]0,1[ is (0,1). An inequality in one variable is the interval it describes.
- A set in braces: the same elements in any order. A list (a, b; a and b; a or b; a \pm b; A \cup B): the same elements,
  each as often, in any order. Where a list assigns several variables (x = 1, y = 2), the answer assigns the same ones,
  or is the values in the same order.
- An inequality: the same relation, in either direction, or `prove`.
- An assignment (x = 5, f(x) = 2x): the same one, or its right side alone. Any other equation: an equivalent equation.
- Text: the same words, without regard to case, white space and the punctuation around them.
- Any other expression: `prove`, without a unit. Of a chain of equations in the answer, the last side is compared.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from typing import Any

from r1jax.answers.latex import FUNCTIONS, depths, plain, split, wrapped
from r1jax.answers.quantities import NOT_UNITS, known_unit, number, quantity, same_quantity

MAX_LENGTH = 1000  # characters of an answer that is compared by its type; a longer one has to be the same text
MAX_MARKUP = 20  # how many times longer than that an answer with its markup may be
MAX_PROVED = 300  # characters of an expression
MAX_ELEMENTS = 64
MAX_DEPTH = 6  # of nested brackets

Prove = Callable[[str, str], bool]

# Quantifiers are possessive where a space or letter could belong to two parts: "\alpha : \alpha : …" could be read in
# 2^n ways.
_NAME = r"(?:\\(?!infty|pi|emptyset)[A-Za-z]++ *+|[A-Z]{2,4}|[A-Za-z])(?:_ ?(?:\w++|\{[^{}]*+\}))?'*"
_VARIABLE = (
    rf"{_NAME} ?\([^()=]*\)|\\(?:overline|angle|triangle|vec|hat|bar) *(?:\{{[A-Za-z]+\}}|[A-Za-z]+)"
    rf"|{_NAME}|\((?:{_NAME} ?, ?)+{_NAME}\)"
)
_LABEL = re.compile(rf"{_VARIABLE}|\| ?{_NAME} ?\||{_NAME}(?: ?: ?{_NAME})*", re.ASCII)
_MEMBER = re.compile(rf"({_VARIABLE}) ?\\in(?![A-Za-z]) *", re.ASCII)
_BUILDER = re.compile(rf"\\\{{ ?{_NAME} ?[|:] ?(.*)\\\}}", re.ASCII)  # {x | x > 2}
_APPROXIMATELY = re.compile(rf"^((?!\\(?:{FUNCTIONS})(?![a-z]))(?:{_LABEL.pattern})|) ?\\approx", re.ASCII)
_EQUALS = re.compile(r"(?<![<>!])=")
_ORDER = re.compile(r"<=|>=|<|>|!=")
_LIST = re.compile(r",|;|\\cup(?![A-Za-z])|\band\b|\bor\b")
_SPACED_LIST = re.compile(r", |;|\band\b|\bor\b")  # where a comma without a space may be inside a number
_AND_OR = re.compile(r"\band\b|\bor\b|\\cup")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))", re.ASCII)
_MATRIX = re.compile(r"\\begin ?\{((?:[pbB]|small)?matrix|array)\}(?: ?\{[lcr| ]*\})?(.*)\\end ?\{\1\}", re.DOTALL)
_CLOCK = re.compile(r"(\d{1,2})(?::([0-5]\d))?(?::([0-5]\d))? ?(?:([ap])\.? ?m\.?)?", re.IGNORECASE | re.ASCII)
_BASES = dict(two="2", three="3", four="4", five="5", six="6", seven="7", eight="8", nine="9", ten="10", twelve="12")
_BASED = re.compile(r"(\d[\w,]*) ?_ ?\{? ?(\d+|[a-z]+) ?\}?(?: \(base \w+\))?", re.ASCII)
_BASE_OR_MODULUS = re.compile(r" ?(?:_|\(? ?mod).*")
_MODULAR = re.compile(r"(?:[a-z] ?\\equiv ?)?(-?\d+) ?\(? ?mod ?[{(]? ?(0*[1-9]\d*) ?[})]?", re.ASCII)
_CODE = re.compile(r"\d+(?:-\d+)+|\d+(?:/\d+){2,}", re.ASCII)  # a date, a range, a score, a phone number
_UNIT = re.compile(
    rf"(?<=[\w}})]) (?!{NOT_UNITS})((?:(?:square|sq|cubic|cu)\.? )?(?:[ckm]m|kg|in(?= ?\^)|min|day|[A-Za-z]{{4,}})"
    r"(?: ?/ ?[A-Za-z]+)?)\.?( ?\^\{?[23]\}?)?$"
)
_MACROS = (
    rf"{FUNCTIONS}|det|frac|binom|pi|infty|sum|prod|int|lim|to|cup|cap|in|notin|setminus|emptyset|begin|end"
    "|pm|mp|ldots|cdots|vec|bar|hat|overline|lfloor|rfloor|lceil|rceil|alpha|beta|gamma|delta|epsilon|varepsilon|zeta"
    "|eta|theta|lambda|mu|nu|xi|rho|sigma|tau|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega"
)
_TEXT = re.compile(r"(?=[A-Za-z]{2})[A-Za-z]*[eiou][A-Za-z]*")
_ONE_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])")
_NO_CONSTANT = re.compile(
    r"\d ?_|[=<>,;:]|\\ldots|(?<!\\sqrt)\[|\\\{|\\in(?![a-z])|(?<![\\A-Za-z])(?!(?:e|i|[pb]?matrix)\b)[A-Za-z]"
)
# What no computer algebra system is given: other macros and characters, words, an underscore that does not begin an
# index, a tower of powers, and numbers that could exhaust the memory.
_RISKY = re.compile(
    rf"\\(?!(?:{_MACROS})(?![A-Za-z]))[A-Za-z]|[^0-9A-Za-z+\-*/^_=<>!()\[\]{{}}|,.:;\\ &%]"
    r"|(?<![\\A-Za-z])(?![pb]?matrix|array)(?:(?=[A-Za-z]*[aeiouy])[A-Za-z][a-z]{3,}|[A-Za-z]{9,})(?![A-Za-z])"
    r"|__|_[^\w{]|\d{50}|\^ ?\w ?\^|\^ ?\{[^{}]*[\d)}] ?\^|\^ ?\{?[^{}]*\d{4}"
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

    def proved(a: str, g: str) -> bool:
        return provable(a) and provable(g) and prove(a, g)

    again = functools.partial(same_answer, prove=prove, depth=depth + 1)
    return next(result for compare in _TYPES if (result := compare(answer, gold, again, proved)) is not None)


def provable(text: str) -> bool:
    """Whether it is safe to give a text, as an expression, equation or inequality, to a computer algebra system."""
    if not text or len(text) > MAX_PROVED or _RISKY.search(text):
        return False
    nesting = depths(text)
    return nesting[-1] == 0 <= min(nesting)


def right_side(text: str) -> str:
    r"""What a chain of equations says: its last side, or its first where that is the value of a name, as in 5 = x.

    Any other text is returned as it is, and so are a false equation of numbers, as 2+2=5, and an equation that is not
    solved, which has one variable in its left side, as 2x = 10. Of `exact \approx rounded`, it is the exact side.
    """
    name, text = _named(text)
    sides = [] if name else split(text, _EQUALS)
    if not 1 < len(sides) <= MAX_ELEMENTS:
        return text
    last, *others = [number(side) for side in reversed(sides)]
    wrong = last is not None and any(other not in (None, last) for other in others)
    return text if len({*_ONE_LETTER.findall(sides[0])}) == 1 or wrong else sides[-1]


# One function for each type. It returns None where the gold answer is not of that type; `again` compares the parts of
# an answer, and `prove` compares expressions.
def _notation(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected, given, bare = _meanings(gold), right_side(answer), _BASE_OR_MODULUS.sub("", gold)
    unmarked = given.upper().lstrip("0") == bare.upper().lstrip("0") != ""
    return (unmarked or set() < _meanings(given) <= expected) if expected else None


def _meanings(text: str) -> set[Any]:
    """The values of a clock time (two where it has neither am nor pm), residue, numeral with a base, code or ratio."""
    if (clock := _CLOCK.fullmatch(text)) and (clock[2] or clock[4]) and int(clock[1]) <= 24:
        halves = clock[4] or ("p" if int(clock[1]) > 12 else "ap" if int(clock[1]) else "a")
        return {(int(clock[1]) % 12, int(clock[2] or 0), int(clock[3] or 0), half) for half in halves.lower()}
    if residue := _MODULAR.fullmatch(text):
        return {(int(residue[1]) % int(residue[2]), "mod", int(residue[2]))}
    if numeral := _BASED.fullmatch(text):
        return {(numeral[1].replace(",", "").lstrip("0").upper(), _BASES.get(numeral[2], numeral[2]))}
    if _CODE.fullmatch(text):
        return {text}
    terms: list[Any] = [number(term) for term in text.split(":")]
    unit = next(filter(None, terms), 1)
    return {(":", *(term / unit for term in terms))} if len(terms) > 1 and None not in terms else set()


def _number(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected = quantity(gold)
    if expected is None:
        return None
    value = right_side(answer)
    given = quantity(value)
    if given is not None:
        return same_quantity(given, expected)
    if _NO_CONSTANT.search(value) or max(map(abs, expected.value.as_integer_ratio())) > 10**MAX_PROVED:
        return False
    return prove(value, gold if provable(gold) and not expected.unit else str(expected.value))


def _ordered(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    expected, given = _in_order(gold), _in_order(answer if _ORDER.search(answer) else right_side(answer))
    inequality, matrix, vector = _ORDER.search(gold), "\\begin" in gold, "\\begin" in answer
    if expected is None or (given is None and inequality):
        return None
    if inequality and _named(answer)[0] not in ("", _named(gold)[0]):
        return False
    if given is None and matrix:
        return vector and prove(answer, gold)
    if given is None:  # x = 1, y = 2
        named = dict(map(_named, _elements(answer)[1]))
        given = "()", [*named.values()] if sorted(named) == [*filter(None, named)] else []
    any_shape = not matrix and (vector or len(expected[1]) != 2)
    same_shape = len(given[1]) == len(expected[1]) and (any_shape or given[0] == expected[0])
    return same_shape and all(map(again, given[1], expected[1]))


def _in_order(text: str) -> tuple[str, list[str]] | None:
    """The shape of a matrix, or the brackets of a tuple or interval, and its elements; None where it is neither."""
    text = re.sub(r"\[$", ")", re.sub(r"^\]", "(", _named(text)[1]))
    brackets, inside = wrapped(text)
    matrix = _MATRIX.fullmatch(inside)
    if matrix and "\\begin" not in matrix[2]:
        rows = [row.split("&") for row in matrix[2].split("\\\\") if row.strip()]
        return str([len(row) for row in rows]), [*itertools.chain(*rows)]
    items = split(inside, re.compile(",|;"))
    return (brackets, items) if brackets not in ("", "{}") and len(items) > 1 else None


def _list(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    (braced, expected), (_, given) = _elements(gold), _elements(answer)
    if not braced and len(expected) < 2:
        return None
    if max(len(given), len(expected)) > MAX_ELEMENTS:
        return False
    names, given_names = ({_named(item)[0] for item in items} for items in (expected, given))
    if len(names - {""}) > 1 and names != given_names:
        return given_names == {""} and len(given) == len(expected) and all(map(again, given, expected))
    unions = [{bool(re.match("and", word)) for word in _AND_OR.findall(text)} for text in (answer, gold)]
    if all(unions) and unions[0] != unions[1] and _ORDER.search(answer):  # x < 0 and x > 1 is no union
        return False
    if braced and not all(any(again(a, g) for g in expected) for a in given):
        return False
    left = list(given)
    for g in expected:
        match = next((a for a in left if again(a, g)), None)
        if match is None:
            return "\\cup" in gold and prove(answer, gold)
        if not braced:
            left.remove(match)
    return braced or not left


def _elements(text: str) -> tuple[bool, list[str]]:
    r"""Whether a text is a set in braces; and its elements, of which a \pm makes two."""
    brackets, inside = wrapped(_named(text)[1])
    text = inside if brackets == "{}" else text
    if _SPACED_LIST.search(text):
        text = _THOUSANDS.sub("", text)
    items = split(text, _LIST)
    signed = ({item.replace("\\pm", a).replace("\\mp", b): None for a, b in ("+-", "-+")} for item in items)
    return brackets == "{}", [*itertools.chain(*signed)]


def _inequality(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    if not _ORDER.search(gold) or len(split(gold, _LIST)) > 1:
        return None
    return _chain(answer) == _chain(gold) or prove(_named(answer)[1] if "\\in" in answer else answer, gold)


def _chain(text: str) -> list[str]:
    """The terms of an inequality and the signs between them, smallest first."""
    parts = [_compact(part.strip()) for part in re.split(f"({_ORDER.pattern})", text)]
    falling = all(sign[0] == ">" for sign in parts[1::2]) or (parts[1:2] == ["!="] and parts[0] > parts[-1])
    return [part.replace(">", "<") for part in reversed(parts)] if falling else parts


def _equation(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    if len(split(gold, _EQUALS)) < 2:
        return None
    (given, value), (name, expected) = _named(answer), _named(gold)
    equation = len(split(answer, _EQUALS)) > 1
    if name and (given == name or not equation):
        return again(value, expected)
    return equation and (not name or number(expected) is None) and prove(answer, gold)  # 2x = 10 is not solved yet


def _expression(answer: str, gold: str, again: Prove, prove: Prove) -> bool:
    name, value = _named(answer)
    *others, last = [value] if name else split(value, _EQUALS) or [value]
    variables = {*_ONE_LETTER.findall(last)}  # m + n = 2\sqrt{3}, but x + 1 = 2 is not solved
    if not all(len({*_ONE_LETTER.findall(side)} - variables) > 1 or again(side, last) for side in others):
        return False
    (answer, unit), (gold, expected) = _unit(last), _unit(gold)
    if unit and expected and unit != expected:
        return False
    answer, gold = (wrapped(text)[1] if wrapped(text)[0] in ("()", "{}") else text for text in (answer, gold))
    if _TEXT.fullmatch(gold) or not provable(gold):
        words = [re.sub(r"^(?:an?|the) ", "", _compact(text).casefold()) for text in (answer, gold)]
        return words[0] == words[1]
    return _compact(answer) == _compact(gold) or prove(answer, gold)


_TYPES = (_notation, _number, _ordered, _list, _inequality, _equation, _expression)


def _unit(text: str) -> tuple[str, Any]:
    r"""A formula without the unit or the words after it, as in 3\sqrt{13} inches, and the unit's dimension and size."""
    unit = _UNIT.search(text)
    if unit is None or not re.search(r"[\d\\]", text[: unit.start()]):
        return text, None
    return text[: unit.start()], known_unit(unit[1] + (unit[2] or "").strip())


def _named(text: str) -> tuple[str, str]:
    r"""The name and the value in x = 5, 5 = x, x = 2 + 3 = 5, x \in A or 0 < x < 1; "" and the text of any other."""
    if "\\approx" in text:
        text = _APPROXIMATELY.sub(r"\1=", text).partition("\\approx")[0].strip(" =")
    if member := _MEMBER.match(text):
        return _compact(member[1]), text[member.end() :]
    sides = split(text, _EQUALS)
    if len(sides) > 1 and _LABEL.fullmatch(sides[0]) and all(len(split(side, _LIST)) == 1 for side in sides[1:-1]):
        return _compact(sides[0]), sides[-1]
    if len(sides) == 2 and _LABEL.fullmatch(sides[1]):
        return _compact(sides[1]), sides[0]
    chain = _chain(text) if _ORDER.search(text) else []
    if len(chain) == 3:
        chain = ["-\\infty", "<", *chain] if _LABEL.fullmatch(chain[0]) else [*chain, "<", "\\infty"]
    if len(chain) != 5 or {*chain[1::2]} - {"<", "<="} or not _LABEL.fullmatch(chain[2]) or "|" in chain[2]:
        return "", text
    return chain[2], f"{'(['[chain[1] == '<=']}{chain[0]},{chain[4]}{')]'[chain[3] == '<=']}"


def _without_markup(text: str) -> str:
    text = _BUILDER.sub(r"\1", plain(text)).lstrip(' ,;:"“”=').rstrip(' .,;:"“”')
    return re.sub(r"\\\{ ?\\\}", r"\\emptyset ", re.sub(r"\+ ?\\infty", r"\\infty", text)).strip()


def _compact(text: str) -> str:
    """Removes spaces beside signs and the braces of one-letter indices and powers: (1, 2) becomes (1,2)."""
    return re.sub(r"([_^])\{(\w|(?<=_\{)\w+)\}", r"\1\2", re.sub(r" ?([^\w\s]) ?", r"\1", text))
