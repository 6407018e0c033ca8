r"""1.0 for the right letter of a multiple-choice question, else 0.0.

    letter(example, r"<think>r</think>So it is \boxed{\text{B}}.")  # 1.0 where the gold answer is "B" or "(B)"
    letter(example, "<answer>A or B</answer>")  # (0.0, "several_choices")

The answer is what `text_match.answer_text` finds: the marked answer, or else all of the text after the reasoning. The
last statement of a choice in the last line that has one counts. A choice is stated by

- its letter at the start of the line, alone or with the choice's text: `B`, `(B)`, `**B**`, `option B`, `So, (B).`,
  `B) text`, `B. text`, `B: text`, `B - text`. Where several lines begin with different letters, they list the choices
  and state none, unless the last of them repeats a letter;
- its letter after an announcement: `Answer: B`, `the correct option is (B) text`, `I choose B`, 答案是 B, 故选 B;
- its letter before a judgement, at the start of a line or clause: `B is correct`, `option (B) is the right answer`;
- where the example has data["choices"], the texts of the choices in order: the full text of one, without regard to
  case, alone in the line or after an announcement.

A statement of two letters (`A or B`, `(A), (C)`), or of a letter with the text of another choice, is wrong. Letters are
capitals, since `a` is an article, unless they are in parentheses or are the whole answer. A capital that continues as a
phrase, as in `the answer is A good one`, is not a letter either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

from r1jax.rewards.example import Example, RewardResult
from r1jax.rewards.text_match import answer_text, normalize_unicode

MAX_ANSWER = 20_000  # characters of an answer that are read, from its end
MAX_STATEMENT = 1000  # characters after an announcement that are read, beyond the length of the longest choice
_GOLD = re.compile(r"\(?([A-Za-z])(?:\)?[.:]?|\)?[).:] .+)")
# What is removed before a line is read: the markup of LaTeX and Markdown, quotation marks, bullets.
_MARKUP = re.compile(
    r"\\(?:text|math)[a-z]*|\\(?:mbox|boldsymbol|left|right|bf|rm)(?![a-z])|\\[()\[\]]"
    r"|[{}$*`_\"“”«»]|(?<!\w)['‘’]|['‘’](?!\w)"
)
_SPACE = re.compile(r"\\[ ,;:!]|\\q?quad|~")
_BULLET = re.compile(r"\A(?:[>#•\-–—]+ )+")

_LETTER = r"(?:[(\[] ?([A-Za-z]) ?[)\]]|(?<!\w)([A-HJ-Z]|I(?=[).:]|$))(?![\w'’+#]|-\w))"
_NAME = r"(?:(?:the )?(?:correct |right |best )?(?:option|choice|letter|answer|alternative) )?"
_IS = r"(?: is| was| must be| should be| would be| will be| has to be|'s|’s)"
_SO = r"(?:so|thus|hence|therefore|then|finally|clearly|definitely|indeed|simply|only),?"
_ANNOUNCED = re.compile(
    r"(?i:\b(?:answer|choice|option|letter|solution)(?: choice| option| letter)?"
    rf"(?:{_IS}(?: {_SO})?:?|:| ?[=⇒→]| [-–—]) ?(?:both |either )?{_NAME}"
    rf"|\b(?:i|we|i'll|we'll|i’ll|we’ll|would|should|must|to) (?:choose|select|pick|go with) {_NAME})"
    r"|(?:答案(?:应该|应当)?[是为选]?|[故应]选择?|选择?) ?:? ?(?:选项 ?)?"
)
_OPENING = re.compile(rf"(?i:(?:{_SO} )?(?:it{_IS} )?{_NAME})")
_CHOICE = re.compile(_LETTER)
_RIGHT = re.compile(
    rf"(?:^|[.,;:!] )(?i:(?:{_SO} ){{0,3}}{_NAME}){_LETTER}\)?(?i:{_IS}(?: {_SO})? (?:the )?(?:only |most |best )?"
    r"(?:(?:correct|right|best|appropriate|accurate)(?: answer| choice| option| one)?|answer)"
    r"(?=\W*$| ?[.,;:!)]| because| since| as))"
)
# What may follow a bare letter after an announcement, and at the start of a line. Before any other word it states none.
_AFTER_ANNOUNCED = re.compile(
    r"\W*$| ?[.,;:!?)。、/&](?!\w)| [-–—(\[]| (?:because|since|as|for|due|with|based|given|and|or|not|which)\b"
)
_AFTER_OPENING = re.compile(r"\W*$|[).:](?!\w)| [-–—] |, (?:because|since|as)\b")
# A further letter after a letter: `A or B`, `A, B`, `A/B`, `(A)(B)`, `A B`.
_ALSO = re.compile(
    r"(?:[ ).\]]*,? ?\b(?:and/or|or|and|nor)\b|[ )\]]*[,;/&+、或和]|[ )\]]*(?=[(\[])|(?<=[A-Z]) (?=[A-Z]\W*$)) ?"
    rf"(?:(?:or|and|also|maybe|possibly|perhaps|even) )*(?i:{_NAME}){_LETTER}"
    r"(?=\W*$| ?[.,;:!?)/&、](?!\w)|/[A-Z]\b| (?:or|and|are)\b)"
)
_END = re.compile(r"\W*$")
_BETWEEN = re.compile(r"[).:\]]* ?(?:[-–—] )?")  # a letter and the text of its choice


def letter(example: Example, completion: str) -> RewardResult:
    """The completion states the choice that is the gold answer, a letter such as `B`, `(B)` or `B) text`.

    The reasons of a 0.0 are no_answer, no_choice and several_choices; a wrong choice has no reason. Raises ValueError
    for a gold answer that is not a letter, or not the letter of one of data["choices"].
    """
    choices = [_words(str(text)) for text in example.data.get("choices", ())]
    gold = _gold_letter(example.answer, len(choices))
    answer = answer_text(example, completion)
    if answer is None:
        return 0.0, "no_answer"
    stated = _stated(answer[-MAX_ANSWER:], choices)
    if len(stated) != 1:
        return 0.0, "several_choices" if stated else "no_choice"
    return float(stated == {gold})


def _gold_letter(gold: str, choices: int) -> str:
    match = _GOLD.fullmatch(_plain(gold))
    if match is None:
        raise ValueError(f"the gold answer {gold!r} is not a choice; need a letter such as B or (B)")
    name = match.group(1).upper()
    if choices and ord(name) - ord("A") >= choices:
        raise ValueError(f"the gold answer {gold!r} is not one of the {choices} choices of the example")
    return name


def _stated(answer: str, choices: Sequence[str]) -> set[str]:
    """The letters in the last statement of a choice."""
    lines = [line for line in map(_plain, answer.split("\n")) if line]
    if len(lines) == 1 and re.fullmatch(r"[a-z][.)]?", lines[0]):
        return {lines[0][0].upper()}
    announced = [_announced(line, choices) for line in lines]
    opening = [set() if found else _opening(line, choices) for line, found in zip(lines, announced, strict=True)]
    begun = [found for found in opening if found]
    if begun and begun[-1] not in begun[:-1] and any(found != begun[-1] for found in begun):
        opening = []  # the lines list the choices
    for found in reversed([one or other for one, other in zip_longest(announced, opening, fillvalue=set())]):
        if found:
            return found
    return set()


def _announced(line: str, choices: Sequence[str]) -> set[str]:
    found = [(match.start(), {_name(match)}) for match in _RIGHT.finditer(line)]
    longest = MAX_STATEMENT + max(map(len, choices), default=0)
    for match in _ANNOUNCED.finditer(line):
        rest = line[match.end() : match.end() + longest]
        found.append((match.start(), _letters(rest, choices) or _same_text(rest, choices)))
    return max((each for each in found if each[1]), default=(0, set()), key=lambda each: each[0])[1]


def _opening(line: str, choices: Sequence[str]) -> set[str]:
    match = _OPENING.match(line)
    rest = line[match.end() :] if match else line
    return _letters(rest, choices, opening=True) or _same_text(rest, choices) or _same_text(line, choices)


def _letters(text: str, choices: Sequence[str], *, opening: bool = False) -> set[str]:
    """The letters at the start of a text; none where the text after the first shows that it states no choice."""
    match = _CHOICE.match(text)
    if match is None:
        return set()
    also, end = _ALSO.match(text, match.end()), match.end()
    while more := _ALSO.match(text, end):
        end = more.end()
    if also and (not opening or _END.match(text, end)):  # "A, B and C lie on a line" states no choice
        return {_name(match), _name(also)}
    if match.group(2) and not (_AFTER_OPENING if opening else _AFTER_ANNOUNCED).match(text, match.end()):
        return set()
    rest = _BETWEEN.sub("", text[match.end() :], count=1)
    return {_name(match)} | _same_text(rest, choices)


def _name(match: re.Match[str]) -> str:
    return (match.group(1) or match.group(2)).upper()


def _same_text(text: str, choices: Sequence[str]) -> set[str]:
    if not choices or len(text) > max(map(len, choices)) + 10:
        return set()
    words = _words(text)
    return {chr(ord("A") + index) for index, choice in enumerate(choices) if choice and choice == words}


def _words(text: str) -> str:
    return _plain(text).removesuffix(".").strip().casefold()


def _plain(text: str) -> str:
    text = _MARKUP.sub("", _SPACE.sub(" ", normalize_unicode("NFKC", text)))
    return _BULLET.sub("", " ".join(text.split()))
