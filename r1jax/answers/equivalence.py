r"""Whether an answer is equivalent to the gold answer, compared by the kind of the gold answer alone.

    same_answer(r"x = \frac{1}{2}", "0.5", prove)  # True, without a call of prove
    same_answer(r"\sqrt{8}", r"2\sqrt{2}", prove)  # prove(r"\sqrt{8}", r"2\sqrt{2}")

The first of these kinds that the gold answer has decides what equals it:

- A value. A clock time, ratio, residue (3 mod 7), date or numeral with a base (101_2) is the same one; 2:4 is 1:2, and
  the modulus or the base may be missing, or a modulus be given where the gold answer has none. A number is exactly the
  same quantity, see `quantities.same_quantity`; a closed form such as \sqrt{4} goes to `prove`.
- A collection. A matrix has the same shape and entries, in any brackets; a tuple, point or interval the same elements
  in order and, if these are two, the same brackets. ]0,1[ is (0,1), and an inequality in one variable is the interval
  it describes. A set in braces has the same elements in any order, a list (a, b; a and b; a or b; a \pm b; A \cup B)
  each as often. Where a list assigns several variables (x = 1, y = 2), the answer assigns the same ones, or is the
  values in the same order.
- A formula. An inequality is the same relation, in either direction; an assignment (x = 5, f(x) = 2x) the same one, or
  its right side alone; any other equation an equivalent one. Text is the same words, without regard to case, white
  space and the punctuation around them. All else goes to `prove`, without a unit.

Of a chain of equations in the answer, the last side is compared.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from typing import Any

from r1jax.answers.latex import FUNCTIONS, depths, plain, split, wrapped
from r1jax.answers.quantities import NOT_UNITS, known_unit, number, quantity, same_quantity

MAX_LENGTH = 1000  # characters of an answer that is compared by its kind; a longer one has to be the same text
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
_UNORDERED = ("", "{}")  # the brackets of lists and sets
_MODULAR = re.compile(r"(?:[a-z] ?\\equiv ?)?(-?\d+) ?\(? ?mod ?[{(]? ?(0*[1-9]\d*) ?[})]?", re.ASCII)
_CODE = re.compile(r"\d+(?:-\d+)+|\d+(?:/\d+){2,}", re.ASCII)  # a date, a range, a score, a phone number
_WITH_UNIT = re.compile(
    rf"(.*?[\d\\].*?(?<=[\w}})])) (?!{NOT_UNITS})((?:(?:square|sq|cubic|cu)\.? )?"
    r"(?:[ckm]m|kg|in(?= ?\^)|min|day|[A-Za-z]{4,})(?: ?/ ?[A-Za-z]+)?)\.?( ?\^\{?[23]\}?)?"
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
# index, a digit after a name, as in A1, a tower of powers, and numbers that could exhaust the memory.
_RISKY = re.compile(
    rf"\\(?!(?:{_MACROS})(?![A-Za-z]))[A-Za-z]|[^0-9A-Za-z+\-*/^_=<>!()\[\]{{}}|,.:;\\ &%]"
    r"|(?<![\\A-Za-z])(?![pb]?matrix|array)(?:(?=[A-Za-z]*[aeiouy])[A-Za-z][a-z]{3,}|[A-Za-z]{9,})(?![A-Za-z])"
    r"|(?<![\\\w])[A-Za-z]+\d|__|_[^\w{]|\d{50}|\^ ?\w ?\^|\^ ?\{[^{}]*[\d)}] ?\^|\^ ?\{?[^{}]*\d{4}"
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
    kinds = (compare(answer, gold, again, proved) for compare in (_values, _collections, _formulas))
    return next(same for same in kinds if same is not None)


def provable(text: str) -> bool:
    """Whether it is safe to give a text, as an expression, equation or inequality, to a computer algebra system."""
    nesting = depths(text)
    return 0 < len(text) <= MAX_PROVED and nesting[-1] == 0 <= min(nesting) and not _RISKY.search(text)


def stated(text: str, same: Prove = lambda a, b: len({number(a), number(b)} - {None}) < 2) -> tuple[str, str]:
    r"""The name and the value in x = 5, 5 = x, x = 2 + 3 = 5, x \approx 5, x \in A or 0 < x < 1.

    In any other text, the name is "", and the value is the last side of a chain of equations, or else the whole text,
    as where a chain is false (2+2 = 5) or not solved: its first side has one more variable (2x = 10). Each side has to
    be the `same` as the last one; by default, no other number. Of `exact \approx rounded`, it is the exact side.
    """
    if "\\approx" in text:
        text = _APPROXIMATELY.sub(r"\1=", text).partition("\\approx")[0].strip(" =")
    if member := _MEMBER.match(text):
        return _compact(member[1]), text[member.end() :]
    *others, last = _sides(text)
    if others and _LABEL.fullmatch(others[0]):
        return _compact(others[0]), last
    if len(others) == 1 and _LABEL.fullmatch(last):
        return _compact(last), others[0]
    chain = _chain(text) if _ORDER.search(text) else []
    if len(chain) == 3:
        chain = ["-\\infty", "<", *chain] if _LABEL.fullmatch(chain[0]) else [*chain, "<", "\\infty"]
    if len(chain) == 5 and {*chain[1::2]} <= {"<", "<="} and _LABEL.fullmatch(chain[2]) and "|" not in chain[2]:
        return chain[2], f"{'(['[chain[1] == '<=']}{chain[0]},{chain[4]}{')]'[chain[3] == '<=']}"
    more = [{*_ONE_LETTER.findall(side)} - {*_ONE_LETTER.findall(last)} for side in others]
    equal = (letters or same(side, last) for side, letters in zip(others, more, strict=True))
    return "", last if [len(letters) for letters in more[:1]] != [1] and all(equal) else text


def _sides(text: str) -> list[str]:
    """The sides of a chain of equations; the text alone where it is none, such as a list or an inequality."""
    sides = split(text, _EQUALS)
    chain = 0 < len(sides) <= MAX_ELEMENTS and not _ORDER.search(text)
    return sides if chain and all(len(split(side, _LIST)) == 1 for side in sides[1:-1]) else [text]


# One function for each kind of gold answer. It returns None where the gold answer is not of that kind; `again` compares
# the parts of an answer, and `prove` compares expressions.
def _values(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    value, expected, meanings = stated(answer)[1], quantity(gold), _meanings(gold)
    if meanings:
        return (_meanings(value) or {value.upper().lstrip("0")}) <= meanings
    if expected is None:
        return None
    if given := quantity(value):
        return same_quantity(given, expected)
    if residue := _MODULAR.fullmatch(value):
        return not expected.unit and expected.value in (int(residue[1]), int(residue[1]) % int(residue[2]))
    if _NO_CONSTANT.search(value) or max(map(abs, expected.value.as_integer_ratio())) > 10**MAX_PROVED:
        return False
    return prove(value, gold if provable(gold) and not expected.unit else str(expected.value))


def _meanings(text: str) -> set[Any]:
    """The values of a clock time (two where it has neither am nor pm), residue, numeral with a base, code or ratio.

    A residue and a numeral are also what they are without their modulus or base.
    """
    if (clock := _CLOCK.fullmatch(text)) and (clock[2] or clock[4]) and int(clock[1]) <= 24:
        halves = clock[4] or ("p" if int(clock[1]) > 12 else "ap" if int(clock[1]) else "a")
        return {(int(clock[1]) % 12, int(clock[2] or 0), int(clock[3] or 0), half) for half in halves.lower()}
    if residue := _MODULAR.fullmatch(text):
        rest = int(residue[1]) % int(residue[2])
        return {str(rest), (rest, "mod", int(residue[2]))}
    if numeral := _BASED.fullmatch(text):
        digits = numeral[1].replace(",", "").lstrip("0").upper()
        return {digits, (digits, _BASES.get(numeral[2], numeral[2]))}
    if _CODE.fullmatch(text):
        return {text}
    terms: list[Any] = [number(term) for term in text.split(":")]
    unit = next(filter(None, terms), 1)
    return {(":", *(term / unit for term in terms))} if len(terms) > 1 and None not in terms else set()


def _collections(answer: str, gold: str, again: Prove, prove: Prove) -> bool | None:
    (name, shape, expected), (given_name, given_shape, given) = _parts(gold), _parts(answer)
    interval, matrix, vector = _ORDER.search(gold), "\\begin" in gold, "\\begin" in answer
    ordered, given_ordered = shape not in _UNORDERED, given_shape not in _UNORDERED
    if (not shape and len(expected) < 2) or (interval and ordered and not given_ordered):
        return None
    if max(len(given), len(expected)) > MAX_ELEMENTS or (interval and ordered and given_name not in ("", name)):
        return False
    if ordered and matrix and not given_ordered:
        return vector and prove(answer, gold)
    if ordered:
        if not given_ordered:  # x = 1, y = 2
            values = dict(map(stated, given))
            given_shape, given = "()", [*values.values()] if sorted(values) == [*filter(None, values)] else []
        same_shape = given_shape == shape or (not matrix and (vector or len(expected) != 2))
        return same_shape and len(given) == len(expected) and all(map(again, given, expected))
    given = [answer] if given_ordered else given
    names, given_names = ({stated(item)[0] for item in items} - {""} for items in (expected, given))
    if len(names) > 1 and names != given_names:
        return not given_names and len(given) == len(expected) and all(map(again, given, expected))
    unions = [{bool(re.match("and", word)) for word in _AND_OR.findall(text)} for text in (answer, gold)]
    if all(unions) and unions[0] != unions[1] and _ORDER.search(answer):  # x < 0 and x > 1 is no union
        return False
    if shape == "{}":
        given = [item for i, item in enumerate(given) if not any(again(item, other) for other in given[:i])]
    for element in expected:
        match = next((item for item in given if again(item, element)), None)
        if match is None:
            return "\\cup" in gold and prove(answer, gold)
        given.remove(match)
    return not given


def _parts(text: str) -> tuple[str, str, list[str]]:
    r"""The name that a text gives a value; the shape of a matrix, its brackets or "" for a list; and its elements.

    A \pm makes two elements of one.
    """
    name, value = stated(text)
    brackets, inside = wrapped(re.sub(r"\[$", ")", re.sub(r"^\]", "(", value)))
    matrix = _MATRIX.fullmatch(inside)
    if matrix and "\\begin" not in matrix[2]:
        rows = [row.split("&") for row in matrix[2].split("\\\\") if row.strip()]
        return name, str([len(row) for row in rows]), [*itertools.chain(*rows)]
    if brackets not in _UNORDERED and len(items := split(inside, re.compile("[,;]"))) > 1:
        return name, brackets, items
    inside = inside if brackets == "{}" else text
    items = split(_THOUSANDS.sub("", inside) if _SPACED_LIST.search(inside) else inside, _LIST)
    signed = ({item.replace("\\pm", a).replace("\\mp", b): None for a, b in ("+-", "-+")} for item in items)
    return name, brackets if brackets == "{}" else "", [*itertools.chain(*signed)]


def _formulas(answer: str, gold: str, again: Prove, prove: Prove) -> bool:
    (given, value), (name, expected) = stated(answer, again), stated(gold)
    if _ORDER.search(gold):
        return _chain(answer) == _chain(gold) or prove(value if "\\in" in answer else answer, gold)
    if len(_sides(gold)) > 1:
        if name and (given == name or len(_sides(answer)) == 1):
            return again(value, expected)
        unsolved = name and number(expected) is not None  # as 2x = 10 for x = 5
        return not unsolved and len(_sides(answer)) > 1 and prove(answer, gold)
    (answer, unit), (gold, expected_unit) = _unit(value), _unit(gold)
    if unit and expected_unit and unit != expected_unit:
        return False
    answer, gold = (wrapped(text)[1] if wrapped(text)[0] in ("()", "{}") else text for text in (answer, gold))
    if _TEXT.fullmatch(gold) or not provable(gold):
        words = [re.sub(r"^(?:an?|the) ", "", _compact(text).casefold()) for text in (answer, gold)]
        return words[0] == words[1]
    return _compact(answer) == _compact(gold) or prove(answer, gold)


def _chain(text: str) -> list[str]:
    """The terms of an inequality and the signs between them, smallest first."""
    parts = [_compact(part.strip()) for part in re.split(f"({_ORDER.pattern})", text)]
    falling = all(sign[0] == ">" for sign in parts[1::2]) or (parts[1:2] == ["!="] and parts[0] > parts[-1])
    return [part.replace(">", "<") for part in reversed(parts)] if falling else parts


def _unit(text: str) -> tuple[str, Any]:
    r"""A formula without the unit or the words after it, as in 3\sqrt{13} inches, and the unit's dimension and size."""
    found = _WITH_UNIT.fullmatch(text)
    return (found[1], known_unit(found[2] + (found[3] or "").strip())) if found else (text, None)


def _without_markup(text: str) -> str:
    text = _BUILDER.sub(r"\1", plain(text)).lstrip(' ,;:"“”=').rstrip(' .,;:"“”')
    return re.sub(r"\\\{ ?\\\}", r"\\emptyset ", re.sub(r"\+ ?\\infty", r"\\infty", text)).strip()


def _compact(text: str) -> str:
    """Removes spaces beside signs and the braces of one-letter indices and powers: (1, 2) becomes (1,2)."""
    return re.sub(r"([_^])\{(\w|(?<=_\{)\w+)\}", r"\1\2", re.sub(r" ?([^\w\s]) ?", r"\1", text))
