r"""Finds the final answer in a completion, and the gold answer in a data set's text.

    extract_answer(r"<think>…</think>It is \boxed{72\text{ dollars}}.")  # r"72\text{ dollars}"
    extract_answer("The answer is 42 because there are 3 groups.")  # "42"

Nothing here evaluates the text, and the time is linear in its length.
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import Literal

from r1jax.answers.equivalence import stated
from r1jax.answers.latex import FUNCTIONS, VULGAR_FRACTIONS, plain
from r1jax.answers.quantities import CHANGES, KNOWN_UNITS, number

Kind = Literal["number", "choice", "text", "formula"]

MAX_TAIL = 1000  # characters after "the answer is" that are read
MAX_CUES = 20  # occurrences of "the answer is" that are tried, from the last, until an answer follows one
MAX_HEADING = 200  # characters after #### in which a heading is told from an answer
MAX_DEPTH = 8  # of braces in the braces of a box
MAX_END = 20_000  # characters at the end of a text in which its last number is looked for
_CUE = (
    r"(?<!this )(?<!that )\banswer\b[*_`]*(?: to [^.:\n]{0,80}?| here| so far)?(?:\s?:[*_`]*| is\b:?|\s?=)"
    r"|^[#*_ ]*(?:final )?answer[*_ ]*\n|答案[是为]?:?："
)
_HEADING = r" *[*_]*(?:Step|Part|Case|Section|Conclusion|Solution)\b| *[*_]*\d+[.)] +[A-Za-z]"
# What may be in braces: braces in braces, and escaped ones, which do not count.
_IN_BRACES = functools.reduce(lambda inside, _: rf"(?:[^{{}}\\]++|\\.|\{{{inside}\}})*+", range(MAX_DEPTH), "")
_MARK = re.compile(
    rf"(?im)\\(?:boxed|fbox)(?![A-Za-z])\s*(?:\{{(?P<box>(?s:{_IN_BRACES}))\}}|(?P<bare>[^\s${{][^\s$]*))?"
    rf"|(?P<hashes>####(?!#)(?!{_HEADING}| *[*_]*(?:final )?answer[*_: ]*\n))|(?P<cue>{_CUE})"
)
# Before "the answer:" where it is the subject of a check, and no answer follows.
_CHECKED = re.compile(r"(?i)\b(?:check|verif|confirm|substitut|test|plug)[a-z]*[^.:!?\n]{0,40}$")
# Where a turn begins that the model makes up: anywhere, or at the start of a line, or there after an answer.
_TURN = re.compile(
    r"(?m)<\|\w{1,40}\|>|<｜[^｜\n]{1,40}｜>|</s>|^[ *#]*(?:User|Human|Assistant)\b[*]* ?:"
    r"|(?P<question>^[ *#]*(?:Question|Problem|Q|Instructions?)(?: \d+)?[*]* ?:|^### (?:Instruction|Question|Problem))"
)
_FORMULA = re.compile(
    r"(?s)\$\$((?:[^$\\]++|\\.|\$(?!\$))++)\$\$|\$\s*+((?:[^$\n\\]++|\\[^\n])++)\s*\$"
    r"|\\\(\s*+((?:[^\\\n]++|\\[^()\n])++)\s*\\\)|\\\[((?:[^\\]++|\\[^\[\]])++)\\\]|\\."
)
# Up to the end of the sentence, which is not in a formula.
_SENTENCE = re.compile(
    r"(?s)(?:\$\$(?:(?!\$\$).)*+\$\$|\$(?:(?![.?]\s)[^$\n])++\$|\\[(\[](?:(?!\\[)\]]).)*+\\[)\]]|(?![.!?](?:\s|$)|\n).)*+"
)
# Where an answer ends and its sentence goes on.
_CLAUSE = re.compile(
    r"(?s),? (?:because|since|as|so|which|where|when|if|for|due|given|after|but|(?:and |but )?not|rather|instead)\b.*"
    r"|;.*| [-–—(] ?(?!base )[A-Za-z]{2}.*"
)
_COMMA = re.compile(r", (?=[A-Za-z]{2}).*", re.DOTALL)
_WORD = re.compile(rf"(?<![\\A-Za-z])(?!(?:and|or|mod|{FUNCTIONS})\b)[A-Za-z]{{2,}}")
_MODULUS = re.compile(r"(?: \(| |\()\bmod(?:ulo)?\b ?[({]?\d+[)}]?\)?")
_NO_ANSWER = re.compile(r"\b(?:cannot|can't|no|not|none|unknown|undefined|impossible|infinite)\b", re.IGNORECASE)
# Between two boxes that are one answer.
_JOINT = re.compile(r"[} $,;/]*(?:(?:\\text\{ ?)?(?:and|or)(?: else| possibly| maybe| also)?[} $]*)?(?:\w{1,9} ?= ?)?")
# Words beside a number or formula that say something else of it than that it is the answer.
_ALTERED = re.compile(
    r"(?i)(?:\b(?:not|never|except|than|at (?:least|most)|over|under|up to|twice|double|half of|minus|negative"
    r"|root(?: of)?|plus|out of|remainder)|n't|cannot be) *[$({\\]*$"
)
_DENIED = re.compile(
    rf"(?i)[}})$ ]*(?:{CHANGES}|am|pm|or (?:more|fewer|less)|and a half|is (?:wrong|false|incorrect|extraneous))\b"
)
# Between two numbers of which neither is the answer: anywhere, and where nothing but the answer should be.
_HEDGE = re.compile(r"[^.;:=]{0,30}\bor\b[^.;:=]{0,20}|[^.;:=]{0,30},? (?:and |but )?not [^.;:=]{0,20}")
_LISTED = re.compile(r"\d[^\d.;:=]{0,30}\band\b[^\d.;:=]{0,20}[\d.,/]+\D*\Z")

# A number inside a plain text, with its power, so that 10^5 is not read as 10. A sign belongs to it only where no
# operand precedes the sign, unlike in 10-5. The digits of a name and of a power, as in x_1 and m^2, are not numbers.
_IN_TEXT = re.compile(
    r"(?a)(?:(?<![\w)\]}%])[+-])?(?<![A-Za-z_^])(?<!\^\{)(?:(?:\d+ ?)?\\frac\{[-\d. ]+\}\{[-\d. ]+\}(?! *\d)"
    r"|\d{1,3} \d+(?=/\d)|\d+(?:,\d{3}(?!\d))*(?:\.\d+)?|(?<!\w)\.\d+)"
    r"(?:/\d+(?!\d|\.\d)|\^(?:\{-?\d+\}|\d)|[eE][+-]?\d+)?"
    r"(?: ?(?:%|percent(?:age)?\b|pct\b)| (?:dozen|hundred|[mbtr]+illion|thousand)\b)?"
    rf"(?: ?(?!in\b)(?:{KNOWN_UNITS})(?:/[A-Za-z]+)?(?: ?\^\{{?[23]\}}?)?(?![A-Za-z]))?"
)
_DIGIT = re.compile(f"[0-9{''.join(VULGAR_FRACTIONS)}]")
# A number that may be an answer, after those that count steps.
_FIRST_NUMBER = re.compile(
    r"(?im)\b(?:step|part|case|question|problem|section|example) \d+|^[ *#(]{0,8}\d+[.)] "
    rf"|(?P<number>{_DIGIT.pattern})"
)


def extract_answer(completion: str, *, prompt_opens_think: bool = False, kind: Kind = "number") -> str | None:
    r"""The final answer of the text after the reasoning; None where there is none. `kind` is `kind_of` the gold answer.

    It is looked for in the last well-formed `<answer>` block, or where there is none, in the text `after_reasoning`:

    1. The last explicit answer: the content of `\boxed{}` or `\fbox{}`, the rest of the line after `####`, or what "the
       answer is" and "answer:" are followed by, if that is of the kind.
    2. Without one, the last number of the last line that has a number, or the formula around it. Where the gold answer
       is not a number: the last formula (`$…$`, `\(…\)`, `\[…\]`), or else the last line with text.

    The text in a block, a box or after a mark is read by the same rules where it is a sentence. There is no answer
    where the last block is blank, or the only block or the last brace is not closed. A sentence that ends with a choice
    between two numbers has no answer among them, and is returned whole.
    """
    rest = after_reasoning(completion, prompt_opens_think)
    if rest is None:
        return None
    blocks = [block.partition("</answer>") for block in rest.split("<answer>")[1:]]
    closed = [answer.strip() for answer, end, _ in blocks if end]
    if blocks and not any(closed[-1:]):
        return None
    answer = _explicit(closed[-1] if closed else rest, kind)
    if answer is not None:
        return answer or None
    if closed or kind == "number":
        return _place(closed[-1], kind) if closed else _last_number(rest)
    formulas = [formula for _, formula, _ in _formulas(rest)]
    return [*rest.strip().split("\n"), *formulas][-1].strip() or None


def after_reasoning(completion: str, prompt_opens_think: bool = False) -> str | None:
    """The text after the reasoning, up to a turn that the model makes up; None where the reasoning was not closed.

    Such a turn begins with a chat marker or another question, after some answer.
    """
    _, closed, text = completion.partition("</think>")
    text = text if closed else completion
    if turns := list(_TURN.finditer(text)):
        number = next((found for found in _FIRST_NUMBER.finditer(text) if found["number"]), None)
        answered = min((first.end() for first in (number, _MARK.search(text)) if first), default=len(text))
        starts = (turn.start() for turn in turns if not turn["question"] or turn.start() >= answered)
        text = text[: next((start for start in starts if text[:start].strip()), None)]
    rest = text.rpartition("</think>")[2]
    return None if "<think>" in rest or (prompt_opens_think and not closed) else rest


@functools.lru_cache(maxsize=128)  # the answers to one question share their gold answer
def kind_of(gold: str) -> Kind:
    """The kind of a gold answer, which decides what can be one in a completion."""
    text = plain(_explicit(gold, "text") or gold)
    if number(re.sub(r"^[A-Za-z]\w* ?= ?", "", text)) is not None:
        return "number"
    if re.fullmatch(r"\([A-Za-z]\)|[A-Z]", text):
        return "choice"
    return "text" if re.fullmatch(r"[^\W\d_][^\d\\=+*/^_<>(){}\[\]]+", text) else "formula"


@functools.lru_cache(maxsize=128)
def gold_answer(gold: str) -> str:
    r"""The gold answer, or what is marked in it by `\boxed{}`, `####` or "the answer is", as in a worked solution.

    Raises ValueError where that is empty.
    """
    answer, closed = _explicit(gold, "text"), gold.count("{") <= gold.count("}")
    answer = gold if answer is None or not (answer or closed) else answer
    if not plain(answer):
        raise ValueError(f"the gold answer is empty: {gold!r:.80}; need a number, a formula or a text")
    return answer


def _explicit(text: str, kind: Kind) -> str | None:
    """The last explicit answer of the kind; "" where it is empty or not closed, None where there is none."""
    marks = list(_MARK.finditer(text))
    boxed = any(mark["box"] for mark in marks)
    marks = [mark for mark in marks if not (mark["hashes"] and _is_heading(text, mark.end(), kind, boxed))]
    *others, last = [None, *(mark for mark in marks if not mark["cue"])]
    for mark in itertools.takewhile(lambda mark: mark["cue"], marks[: -MAX_CUES - 1 : -1]):
        tail = text[mark.end() : mark.end() + MAX_TAIL].lstrip(" *_\n")
        if _CHECKED.search(text[max(0, mark.start() - 60) : mark.start()]):
            continue
        if answer := _announced(tail, kind, sure=last is None, named=mark.group().endswith((":", "*", "\n"))):
            return answer
    if last is None:
        return None
    answer = (text[last.end() :].partition("\n")[0] if last["hashes"] else last["box"] or last["bare"] or "").strip()
    for mark in filter(None, reversed(others[-MAX_CUES:])):  # boxes that are one answer, as \boxed{3} or \boxed{-2}
        box = (mark["box"] or "").strip()
        if last["hashes"] or not box or box == answer or not _JOINT.fullmatch(text, mark.end(), last.start()):
            break
        answer, last = f"{box}, {answer}", mark
    return answer and _place(answer, kind)


def _is_heading(text: str, start: int, kind: Kind, boxed: bool) -> bool:
    """Whether what follows `####` is a heading in Markdown, which states no answer of the kind."""
    line = text[start : start + MAX_HEADING].partition("\n")[0].strip(" *_:")
    if not line or _DIGIT.search(line) or "$" in line or "\\" in line:
        return False
    if kind == "number":
        return not _NO_ANSWER.search(line)
    if kind == "choice":
        return not re.search(r"\b[A-Z]\b", line)
    return bool(_WORD.search(line)) if kind == "formula" else boxed


def _announced(tail: str, kind: Kind, *, sure: bool, named: bool) -> str | None:
    """What follows "the answer is", if that is of the kind. After a box (not `sure`) it has to be nothing else."""
    sentence = _SENTENCE.match(tail)[0].strip(" *_`")  # pyright: ignore[reportOptionalSubscript]
    if kind == "number":
        answer = plain(_place(sentence, kind))
        readable = number(stated(answer)[1]) is not None or (answer != plain(sentence) and not _WORD.search(answer))
        if not sure:
            return answer if readable and plain(sentence).startswith(answer) else None
        return answer if readable or _DIGIT.search(answer) or _NO_ANSWER.search(answer) else None
    answer = plain(_place(_CLAUSE.sub("", sentence).strip(" *_`"), kind))
    return answer if sure or named or (kind == "formula" and not _WORD.search(answer)) else None


def _place(text: str, kind: Kind) -> str:
    """The answer in a text that should be nothing else: the text, or the number that a sentence states."""
    if kind != "number":
        formulas = _formulas(text) or [(0, text, 0)]
        formula = formulas[-1 if formulas[0][0] else 0][1]  # what a sentence begins with, or its last formula
        worded = kind == "formula" and _WORD.search(text.replace(formula, ""))
        return formula if worded and not _ALTERED.search(text[: text.rindex(formula)]) else text
    for part in (text, clause := _CLAUSE.sub("", plain(text)), _COMMA.sub("", clause)):
        if part and (not _WORD.search(plain(part)) or number(stated(plain(part))[1]) is not None):
            return part
    return text if _LISTED.search(text) else _last_number(text) or text


def _last_number(text: str) -> str | None:
    """The last number of the last line that has one, or the formula around it."""
    for line in reversed(text[-MAX_END:].split("\n")):
        whole = _MODULUS.sub("", plain(line)) if _DIGIT.search(line) else ""
        numbers = list(_IN_TEXT.finditer(whole))
        if not numbers:
            continue
        last, value = numbers[-1].group(), number(numbers[-1].group())
        if number(line) not in (None, value):
            return whole
        between = whole[numbers[-2].end() : numbers[-1].start()] if len(numbers) > 1 else ""
        if _HEDGE.fullmatch(between) and number(numbers[-2].group()) != value:
            return numbers[-2].group() if re.search(r"\bnot\b", between) else whole
        if _ALTERED.search(whole[: numbers[-1].start()]) or _DENIED.match(whole, numbers[-1].end()):
            return whole
        *_, (_, formula, end) = [(0, "", 0), *_formulas(line)]
        if _IN_TEXT.search(plain(formula)) and not _IN_TEXT.search(plain(line[end:])):
            return plain(formula)
        return last
    return None


def _formulas(text: str) -> list[tuple[int, str, int]]:
    r"""The formulas in `$…$`, `\(…\)` or `\[…\]`, with where they begin and end; no words between two sums of money."""
    return [
        (found.start(), formula, found.end())
        for found in _FORMULA.finditer(text)
        if found.lastindex and (formula := found[found.lastindex].strip())
        if "\\" in formula or not _WORD.search(formula)
    ]
