r"""Finds the final answer in a completion, and the gold answer in a data set's text.

    final_answer("<think>…</think><answer>1,000</answer>")  # "1,000"
    extract_answer(r"<think>…</think>It is \boxed{72\text{ dollars}}.")  # r"72\text{ dollars}"

`final_answer` is strict; `extract_answer` also reads what models write without being asked to. Nothing here evaluates
the text, and the time is linear in its length.
"""

from __future__ import annotations

import re

from r1jax.answers.equivalence import right_side
from r1jax.answers.latex import VULGAR_FRACTIONS, plain
from r1jax.answers.quantities import number

MAX_TAIL = 1000  # characters after "the answer is" that are read
MAX_CUES = 20  # occurrences of "the answer is" that are tried, from the last, until an answer follows one
MAX_LINES = 1000  # lines with a digit that are tried, from the last, until one has a number
MAX_LINE = 20_000  # characters of a line that are read, from its end
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_CUE = re.compile(r"\banswer\b[*_`]*(?: to [^.:\n]{0,80}?| here| so far)?(?:\s?:[*_`]*| is\b:?|\s?=)", re.IGNORECASE)
_MARK = re.compile(r"\$\$|\$|\\.", re.DOTALL)
_CLOSING = {"$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_WORD = re.compile(r"(?<![\\A-Za-z])(?!and\b|or\b)[A-Za-z]{2,}")
# A number inside a text, with its power, so that 10^5 is not read as 10. A sign belongs to it only where no operand
# precedes the sign, unlike in 10-5. The digits of a name and of a power, as in x_1 and m^2, are not numbers.
_IN_TEXT = re.compile(
    r"(?:(?<![\w)\]}%])[+-])?(?<![A-Za-z_^])(?<!\^\{)(?:\d{1,3} \d+(?=/\d)|\d+(?:,\d{3}(?!\d))*(?:\.\d+)?|(?<!\w)\.\d+)"
    r"(?:/\d+(?!\d|\.\d)|\^\{?-?\d+|[eE][+-]?\d+)?(?: ?(?:%|percent(?:age)?\b|pct\b))?",
    re.ASCII,
)
_DIGIT = re.compile(f"[0-9{''.join(VULGAR_FRACTIONS)}]")
_FRACTION = re.compile(r"(?:(\d) ?)?\\frac\{([^{}]*+)\}\{([^{}]*+)\}(?! *+\d)")


def final_answer(completion: str, *, prompt_opens_think: bool = False) -> str | None:
    """The text of the last well-formed `<answer>…</answer>` after the reasoning; None where there is none.

    The reasoning ends at the last `</think>`. Where the prompt or the completion opens it and nothing closes it, there
    is no answer; a completion without reasoning need not close any. A well-formed block has both tags and neither of
    them inside. Where the last one is blank there is no answer.
    """
    rest = after_reasoning(completion, prompt_opens_think)
    return None if rest is None else _last_block(rest)


def extract_answer(completion: str, *, prompt_opens_think: bool = False, numeric: bool = True) -> str | None:
    r"""The final answer by the first of these rules that applies to the text after the reasoning; None where none does.

    1. The reasoning has to be closed, as in `final_answer`.
    2. `<answer>`: the last well-formed block, or the content of a `\boxed{}` in it. A block that is not closed means
       that there is no answer.
    3. `\boxed{}` or `\fbox{}`: the content of the last one, or the word after it. Braces that are not closed mean that
       there is no answer.
    4. `####`: the rest of the line after the last one.
    5. "answer is" or "answer:": the rest of the sentence after the last one, if that is a number, a choice, mathematics
       or words without digits; else the formula that it begins with; else rule 6, applied to the sentence.
    6. The last number of the last line that has one; or the formula around that number, or the whole line, where these
       are one expression. Where the gold answer is not `numeric`: the last formula (`$…$`, `\(…\)`, `\[…\]`), or else
       the last line with text.
    """
    rest = after_reasoning(completion, prompt_opens_think)
    if rest is None:
        return None
    if "<answer>" in rest:
        block = _last_block(rest)
        return _last_box(block) if block and _BOX.search(block) else block
    if _BOX.search(rest):
        return _last_box(rest)
    _, marked, tail = rest.rpartition("####")
    if marked:
        return tail.partition("\n")[0].strip() or None
    for cue in list(_CUE.finditer(rest))[: -MAX_CUES - 1 : -1]:
        if answer := _answer_in(rest[cue.end() : cue.end() + MAX_TAIL].lstrip(" *_\n"), numeric):
            return answer
    return _last_number(rest) if numeric else _last_formula(rest) or _last_line(rest)


def after_reasoning(completion: str, prompt_opens_think: bool = False) -> str | None:
    """The text after the reasoning; None where the reasoning was opened and not closed."""
    _, closed, rest = completion.rpartition("</think>")
    return None if "<think>" in rest or (prompt_opens_think and not closed) else rest


def gold_answer(gold: str) -> str:
    r"""The gold answer, or the content of a `\boxed{}` in it. Raises ValueError where that is empty."""
    opened = gold
    if _BOX.search(gold):
        opened = _last_box(gold) or ("" if re.search(r"\{\s*\}\W*$", gold) else gold)
    if not plain(opened):
        raise ValueError(f"the gold answer is empty: {gold!r:.80}; need a number, a formula or a text")
    return opened


def _last_block(text: str) -> str | None:
    for block in reversed(text.split("<answer>")[1:]):
        answer, end, _ = block.partition("</answer>")
        if end:
            return answer.strip() or None
    return None


def _last_box(text: str) -> str | None:
    start = [match.end() for match in _BOX.finditer(text)][-1]
    if text[start : start + 1] != "{":
        word = re.match(r"[^\s$]*", text[start:])
        return word.group() or None if word else None
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):  # an escaped brace does not count
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0 and brace.group() == "}":
            return text[start + 1 : start + brace.start()].strip() or None
    return None


def _answer_in(tail: str, numeric: bool) -> str | None:
    """Rule 5, applied to the text after "the answer is"."""
    formulas = _formulas(tail)
    ends = (end.start() for end in _SENTENCE_END.finditer(tail))
    stop = next((end for end in ends if not any(begin < end < close for begin, _, close in formulas)), len(tail))
    sentence = tail[:stop].strip(" *_`")
    text = plain(sentence)
    if number(text) is not None or not _WORD.search(text) or not re.search(r"\d", text):
        return text or None
    if re.match(r"\(?[A-Z][).:](?: |$)", text):
        return text
    if formulas and not tail[: formulas[0][0]].strip(" *_`"):
        return plain(formulas[0][1])
    return _last_number(sentence) if numeric else _last_formula(sentence) or text


def _last_number(text: str) -> str | None:
    """Rule 6, where the gold answer is a number."""
    lines = [line[-MAX_LINE:] for line in text.split("\n") if _DIGIT.search(line)]
    for line in lines[: -MAX_LINES - 1 : -1]:
        if numbers := _IN_TEXT.findall(_slashed(line)):
            if number(line) not in (None, number(numbers[-1])):
                return plain(line)
            return _formula_of_last(line, numbers[-1]) or numbers[-1]
    return None


def _formula_of_last(line: str, last: str) -> str | None:
    """The formula that contains the last number of a line, unless it is that number itself."""
    formulas = _formulas(line)
    if not formulas or _IN_TEXT.search(_slashed(line[formulas[-1][2] :])):
        return None
    formula = plain(formulas[-1][1])
    itself = number(right_side(formula)) == number(last) or not _IN_TEXT.search(_slashed(formula))
    return None if itself else formula


def _slashed(text: str) -> str:
    """The plain form, with fractions written a/b and mixed numbers n a/b."""
    return _FRACTION.sub(lambda f: f"{f[1] + ' ' if f[1] else ''}{f[2].strip()}/{f[3].strip()}", plain(text))


def _last_formula(text: str) -> str | None:
    formulas = _formulas(text)
    return formulas[-1][1] if formulas else None


def _formulas(text: str) -> list[tuple[int, str, int]]:
    """The formulas in `$…$`, `\\(…\\)` or `\\[…\\]`, with where they begin and end. Words between two dollar signs are
    not a formula but stand between sums of money."""
    found = []
    opened: re.Match[str] | None = None
    for mark in _MARK.finditer(text):
        if opened is not None and mark.group() == _CLOSING[opened.group()]:
            formula = text[opened.end() : mark.start()].strip()
            if opened.group() not in ("$", "\\(") or "\n" not in formula:
                if formula and ("\\" in formula or not _WORD.search(formula)):
                    found.append((opened.start(), formula, mark.end()))
                opened = None
                continue
            opened = None  # the text up to here would be part of every later formula too
        if mark.group() in _CLOSING:
            opened = mark
    return found


def _last_line(text: str) -> str | None:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return lines[-1] if lines else None
