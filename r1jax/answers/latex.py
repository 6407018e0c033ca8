r"""Normalizes the LaTeX and Markdown that models and data sets write, and splits it at its brackets.

    plain(r"$\dfrac{1}{2}\,\text{ cm}$")  # "\frac{1}{2} cm"

Everything here takes time linear in the length of the text, and evaluates none of it.
"""

from __future__ import annotations

import re

VULGAR_FRACTIONS = {
    "½": "12", "⅓": "13", "⅔": "23", "¼": "14", "¾": "34", "⅕": "15", "⅛": "18", "⅜": "38", "⅝": "58", "⅞": "78",
}  # fmt: skip
# Unicode signs, and how the rest of this package spells them.
_SIGNS = str.maketrans(
    dict.fromkeys("−–‐‑﹣－", "-")
    | dict.fromkeys("×·⋅∙∗", "*")
    | dict(zip("÷⁄≤≥≠≈", ("/", "/", "<=", ">=", "!=", "\\approx "), strict=True))
    | {"∞": "\\infty ", "π": "\\pi ", "√": "\\sqrt ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ", "∅": "\\emptyset "}
    | {"±": "\\pm ", "∓": "\\mp ", "θ": "\\theta ", "⟨": "(", "⟩": ")"}
    | dict(zip("（），：％＝＋", "(),:%=+", strict=True))
    | {sign: rf"\frac{{{top}}}{{{bottom}}}" for sign, (top, bottom) in VULGAR_FRACTIONS.items()}
    | {"²": "^2", "³": "^3", "\u00a0": " ", "\u202f": " ", "\u2009": " "}
)
_MEANING = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), "\\frac"),
    **dict.fromkeys((",", ";", ":", " ", "\n", "(", ")", "[", "]", "quad", "qquad", "displaystyle", "textstyle"), " "),
    **dict.fromkeys(("!", "left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "limits"), ""),
    **dict.fromkeys(("le", "leq", "leqslant"), "<="),
    **dict.fromkeys(("ge", "geq", "geqslant"), ">="),
    **dict.fromkeys(("ne", "neq"), "!="),
    **dict.fromkeys(("cdot", "times", "ast"), "*"),
    **dict.fromkeys(("lor", "vee"), " or "),
    **dict.fromkeys(("land", "wedge"), " and "),
    **dict.fromkeys(("varnothing", "O"), "\\emptyset "),
    **dict(zip(("lt", "gt", "div", "colon", "lbrack", "rbrack", "%", "#"), "<>/:[]%#", strict=True)),
    **dict(zip(("langle", "rangle"), "()", strict=True)),
    **{"lbrace": "\\{", "rbrace": "\\}", "degree": "°", "$": "$", "simeq": "\\approx ", "dots": "\\ldots "},
}
_MACRO = re.compile(r"\\(?:left|right)(?![A-Za-z]) *+\.|\\([A-Za-z]++|.)", re.DOTALL)
_FONTS = "text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mathbb|operatorname|mbox|hbox"
_TEXT = re.compile(rf"\\(?:{_FONTS}) *+\{{([^{{}}]*+)\}}")
_DEGREES = re.compile(r"\^ *+(?:\{ *+)?\\circ *+\}?|°")
_BOLD = re.compile(r"(?<!\d)\*\*|\*\*(?!\d)")  # but not the power in 2**3
_BRACED = re.compile(r" ?\{([,:]) ?\}")  # as in 1{,}000
_ESCAPED = re.compile(r"\\\\(?=[A-Za-z{}])")  # in JSON that was escaped twice
_NO_SPACE = re.compile(r"(?<!\\)\\! *+")  # as in 11,\! 100
_CURRENCY = re.compile(r"\\?[$€£]")
_SHORT_FRACTION = re.compile(r"\\frac *+(?:(\w)|\{ *+([^{}]*+)\}) *+(?:(\w)|\{ *+([^{}]*+)\})", re.ASCII)
_OPEN, _CLOSE = "([{", ")]}"


def plain(text: str) -> str:
    r"""Removes markup (fonts, `$`, spacing, `\left`, bold, currency and degree signs) and spells each sign in one way.

    `\le`, `\leq` and ≤ become <=, `\times` and × become *, `\dfrac12` becomes `\frac{1}{2}`, `\text{or}` becomes or.
    """
    text = _BRACED.sub(r"\1", text.translate(_SIGNS).replace("`", ""))
    if "\\begin" not in text:  # in which a double backslash ends a row
        text = _ESCAPED.sub(r"\\", text)
    text = _NO_SPACE.sub("", _BOLD.sub("", text))
    # The sign of -$5 stays beside its number; elsewhere, as in US$5, a space keeps the two words apart.
    text = _CURRENCY.sub(" ", re.sub(r"([+-])\\?[$€£]", r"\1", text))
    for _ in range(2):  # for a font inside another font
        text = _TEXT.sub(r" \1 ", text)
    text = _DEGREES.sub("", _MACRO.sub(_meaning, text).replace("~", " "))
    text = _SHORT_FRACTION.sub(r"\\frac{\1\2}{\3\4}", text)
    return " ".join(text.split())


def _meaning(macro: re.Match[str]) -> str:
    return macro.group() if macro[1] and macro[1] not in _MEANING else _MEANING.get(macro[1] or "left", "")


def split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Splits a text at the separators outside all brackets; the parts are stripped, and empty ones are dropped."""
    parts, depth, begin = [], 0, 0
    for token in re.finditer(rf"[(\[{{]|[)\]}}]|{separator.pattern}", text):
        if token.group() in _OPEN:
            depth += 1
        elif token.group() in _CLOSE:
            depth -= 1
        elif depth == 0:
            parts.append(text[begin : token.start()])
            begin = token.end()
    return [part.strip() for part in [*parts, text[begin:]] if part.strip()]


def wrapped(text: str) -> tuple[str, str, str] | None:
    r"""The opening bracket, the inside and the closing bracket of a text in brackets; None for any other text.

    The brackets need not match, as in [0,1). For `\{` and `\}` the brackets are given as { and }.
    """
    start = 1 if text.startswith("\\{") else 0
    depth = 0
    for bracket in re.finditer(r"[(\[{]|[)\]}]", text):
        depth += 1 if bracket.group() in _OPEN else -1
        if depth <= 0:
            if depth or bracket.end() != len(text) or not text[start : start + 1] or text[start] not in _OPEN:
                return None
            inner = text[start + 1 : bracket.start()]
            return text[start], inner.removesuffix("\\").strip(), bracket.group()
    return None
