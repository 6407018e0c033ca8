r"""Normalizes the LaTeX, Markdown and plain text that models and data sets write, and splits it at its brackets.

    plain(r"$\dfrac{1}{2}\,\text{ cm}$")  # "\frac{1}{2} cm"
    plain("2*sqrt(x**2 + 1)/pi")  # r"2*\sqrt{x^2 + 1}/\pi"

Everything here takes time linear in the length of the text, and evaluates none of it.
"""

from __future__ import annotations

import functools
import itertools
import re

VULGAR_FRACTIONS = dict(zip("½⅓⅔¼¾⅕⅛⅜⅝⅞", ("12", "13", "23", "14", "34", "15", "18", "38", "58", "78"), strict=True))
# Functions that plain text writes without a backslash.
FUNCTIONS = "sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh|log|ln|exp|sqrt|max|min|gcd"
# Unicode signs, and how the rest of this package spells them.
_SIGNS = str.maketrans(
    dict(zip("−–‐‑﹣－×·⋅∙∗÷⁄⟨⟩（），：％＝＋~\u00a0\u202f\u2009", "------*****//()(),:%=+    ", strict=True))
    | {"∞": "\\infty ", "π": "\\pi ", "θ": "\\theta ", "√": "\\sqrt ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in "}
    | {"∅": "\\emptyset ", "≡": "\\equiv ", "≈": "\\approx ", "±": "\\pm ", "∓": "\\mp ", "°": "^\\circ "}
    | {sign: rf"\frac{{{top}}}{{{bottom}}}" for sign, (top, bottom) in VULGAR_FRACTIONS.items()}
    | {"≤": "<=", "≥": ">=", "≠": "!=", "ℝ": "\\mathbb{R}", "¢": " cents", "`": ""}
    | {"或": " or ", "和": " and ", "且": " and "}
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_MEANING: dict[str, str] = {
    **{"dfrac": "\\frac", "tfrac": "\\frac", "cfrac": "\\frac", "dbinom": "\\binom", "tbinom": "\\binom"},
    **dict.fromkeys((*",;: \n()[]", "quad", "qquad", "displaystyle", "textstyle"), " "),
    **dict.fromkeys(("!", "left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "limits"), ""),
    **{"le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "ne": "!=", "neq": "!="},
    **{"cdot": "*", "times": "*", "ast": "*", "div": "/", "lt": "<", "gt": ">", "colon": ":", "pmod": " mod "},
    **{"lor": " or ", "vee": " or ", "land": " and ", "wedge": " and ", "bmod": " mod ", "dots": "\\ldots "},
    **{"mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "langle": "(", "rangle": ")", "lbrack": "[", "rbrack": "]"},
    **{"lbrace": "\\{", "rbrace": "\\}", "varnothing": "\\emptyset ", "O": "\\emptyset ", "simeq": "\\approx "},
    **{"degree": "^\\circ ", "%": "%", "#": "#", "$": "$", '"': '"'},
}
_FONT = r"\\(?:text[a-z]*+|underline|math(?:rm|bf|it|sf|bb)|operatorname|[mhf]box|boxed) *+(?:\{([^{}]*+)\}|(\w)(?!\w))"
# In text, a short unit is no variable.
_UNITS = {"m": "meter", "g": "gram", "s": "second", "h": "hour", "hr": "hour", "L": "liter", "ft": "foot", "mi": "mile"}
_IN_PARENTHESES = functools.reduce(lambda inside, _: rf"(?:[^()]++|\({inside}\))*+", range(6), "")
# What is rewritten, in this order.
_STEPS = [
    (re.compile(pattern, re.DOTALL), new)
    for pattern, new in (
        (f"[{''.join(map(chr, _RAISED))}]+", lambda power: f"^{{{power[0].translate(_RAISED)}}}"),
        (r"\\math(?:bb|bf) *+(?:\{ *+R *+\}|R)|\b[Aa]ll real(?: number)?s\b", r"(-\\infty,\\infty)"),
        (r"(\d) ?!= ?(?=\d)", r"\1! = "),  # 4!=24 is no inequality
        (r" ?(?:\\text)?\{([,:]) ?\}", r"\1"),  # as in 1{,}000
        (r"(?<=[\w)\]}])\*\*(?=[\w(\\-])", "^"),  # the power of Python; any other ** is bold
        (r"\*\*|(?<!\\)\\! *+", ""),  # bold, and a space as in 11,\! 100
        (r"\\\$ ?(\d[\d,]*(?:\.\d+)?)$", r"\1 dollars"),
        (r"€ ?(\d[\d,]*(?:\.\d+)?)", r"\1 euros"),
        # The sign of -$5 stays beside its number; elsewhere, as in US$5, a space keeps the two words apart.
        (r"([+-]?)\\?[$€£]", lambda sign: sign[1] or " "),
        *[(_FONT, lambda font: f" {_UNITS.get((font[1] or '').strip(), font[1] or font[2] or '')} ")] * 2,
        (r"\\(?:left|right)(?![A-Za-z]) *+\.", ""),
        (r"\\([A-Za-z]++|.)", lambda macro: _MEANING.get(macro[1], macro[0])),
        (r"\^ *+(?:\{ *+)?\\circ *+\}?", "°"),
        (r"(\\(?:sin|cos|tan|cot|sec|csc)) *[({]? ?([\d.]+) ?°[)}]?", r"\1(\2*\\pi/180)"),
        (r"°( ?$)?", lambda sign: "" if sign[1] is None else " degrees"),
        (r"\\frac *+(?:([a-zA-Z\d])|\{ *+([^{}]*+)\}) *+(?:([a-zA-Z\d])|\{ *+([^{}]*+)\})", r"\\frac{\1\2}{\3\4}"),
        (r"\{([^{}]*?) ?\\choose(?![a-z]) ?([^{}]*)\}", r"\\binom{\1}{\2}"),
        (rf"(?<![\\A-Za-z_])(?:({FUNCTIONS}|pi)|inf(?:inity|ty)?)(?![A-Za-z])", lambda word: f"\\{word[1] or 'infty'}"),
        (r"(\\sqrt ?|\^ ?)(-\d+|\d{2,})", r"\1{\2}"),
        *[(rf"(\\(?:sqrt|exp) ?|\^ ?)\(({_IN_PARENTHESES})\)", r"\1{\2}")] * 4,  # in each other, as fonts may be
        (r"\\exp ?\{", "e^{"),
    )
]
_ARITHMETIC = re.compile(r"[0-9\s.,:;/()\[\]=+<>-]*")  # without markup
_NESTING = dict.fromkeys("([{", 1) | dict.fromkeys(")]}", -1)


@functools.lru_cache(maxsize=128)  # the answers to one question share their gold answer
def plain(text: str) -> str:
    r"""Removes markup (fonts, `$`, spacing, `\left`, bold, currency signs) and spells each sign in one way.

    `\le`, `\leq` and ≤ become <=, `\times` and × become *, `\dfrac12` becomes `\frac{1}{2}`, `\text{or}` becomes or,
    and functions, powers and roots of plain text become LaTeX.
    """
    if _ARITHMETIC.fullmatch(text):
        return " ".join(text.split())
    text = text.translate(_SIGNS)
    if "\\begin" not in text:  # in which a double backslash ends a row
        text = re.sub(r"\\\\(?=[A-Za-z{}])", r"\\", text)  # in JSON that was escaped twice
    for pattern, new in _STEPS:
        text = pattern.sub(new, text)  # pyright: ignore
    return " ".join(text.split())


def depths(text: str) -> list[int]:
    """How many brackets are open before each character of a text, and at its end."""
    return [*itertools.accumulate((_NESTING.get(character, 0) for character in text), initial=0)]


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Splits a text at the separators outside all brackets; the parts are stripped, and empty ones are dropped."""
    if not separator.search(text):
        return [text.strip()] if text.strip() else []
    nesting = depths(text)
    outer = (cut.span() for cut in separator.finditer(text) if nesting[cut.start()] == 0)
    cuts = [0, *itertools.chain(*outer), len(text)]
    return [part for begin, end in zip(cuts[::2], cuts[1::2], strict=True) if (part := text[begin:end].strip())]


def wrapped(text: str) -> tuple[str, str]:
    r"""The two brackets around a text and its inside; no brackets and the text itself where it is not in any.

    The brackets need not match, as in [0,1). For `\{` and `\}` they are {}.
    """
    whole = re.sub(r"^\\(?=\{)", "", text)
    nesting = depths(whole)
    if len(whole) < 2 or nesting[-1] or min(nesting[1:-1]) < 1:
        return "", text
    return whole[0] + whole[-1], whole[1:-1].removesuffix("\\").strip()
