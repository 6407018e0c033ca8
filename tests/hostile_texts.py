"""Texts made to hurt a parser, for the tests of `r1jax.answers`."""


def hostile():
    return {
        "deep parentheses": "(" * 10_000 + "1" + ")" * 10_000,
        "deep but short": "(" * 99 + "1" + ")" * 99,
        "open parentheses": "(" * 10_000,
        "tower": "9**9**9**9",
        "long number": "9" * 100_000,
        "long sum": "+".join("1" * 50_000),
        "long product": "*".join(["99999"] * 34),
        "signs": "-" * 199 + "1",
        "spaces": " " * 100_000,
        "separators": "1" + ",000" * 49 + ",00",
        "tags": "<answer>" * 20_000 + "<think>" * 20_000,
        "closing tags": "</think>" * 20_000 + "<answer>1" * 20_000,
        "null": "\0" * 100,
        "surrogate": "\ud800",
    }


def hostile_markup():
    return {
        "boxes": "\\boxed{" * 20_000,
        "boxes without braces": "\\boxed" * 20_000 + " " * 20_000,
        "fractions": "\\frac{1" * 20_000 + "\\frac " * 20_000,
        "wide fractions": "\\frac" + " " * 50_000 + "{1}" + " " * 50_000,
        "texts": "\\text{" * 20_000 + "\\text" + " " * 50_000,
        "powers": "^" * 20_000 + "^" + " " * 50_000 + "{" + " " * 50_000,
        "fraction tower": "1/" * 50_000,
        "powers of powers": "5^{" * 50_000 + "5" + "}" * 50_000,
        "slash": "1/" + "1" * 100_000 + ".1",
        "stars": "*" * 100_000,
        "hashes": "#" * 100_000,
        "lines": "x\n" * 50_000,
        "questions": "x\n" + "Q:\n" * 50_000,
        "groups": "1" + ",000" * 25_000 + ",00",
        "spaced groups": "1" + " 000" * 25_000 + " 00",
        "dollars": "$" * 100_000,
        "words": "5" + " a" * 50_000 + " 5",
        "payload": "\\pi*__import__('os').system('touch here')",
    }
