r"""1.0 for the right letter of a multiple-choice question, else 0.0.

    letter(example, r"<think>r</think>So it is \boxed{\text{B}}.")  # 1.0 where the gold answer is "B" or "(B)"
    letter(example, "<answer>A or B</answer>")  # (0.0, "several_choices")

The answer is what `text_match.answer_text` finds: the marked answer, or else all of the text after the reasoning, which
is also read where a box holds no choice, as in `\boxed{x=2}`. The last statement of a choice in the last line that has
one counts. A choice is stated by

- its letter at the start of the line, alone or with the choice's text: `B`, `(B)`, `**B**`, `option B`, `So, (B).`,
  `B) text`, `b. text`, `B: text`, `B - text`. Where several lines begin with different letters, they list the choices
  and state none, unless the last of them repeats a letter;
- its letter after an announcement: `Answer: B`, `the correct option is (B) text`, `I choose B`, `it matches option B`,
  `Respuesta: B`, 答案是 B, 故选 B;
- its letter before a judgement, at the start of a clause: `B is correct`, `only option B works`; or at the end: `so B`;
- where the example has data["choices"], the full text of one, without regard to case, alone in the line or announced.

A statement of two letters (`A or B`, `(A), (C)`), or of a letter with the text of another choice, is wrong. Letters are
capitals, since `a` is an article, unless they are in parentheses or end with the line, a period, a parenthesis or a
colon. A capital that continues as a phrase, as in `the answer is A good one`, is not a letter either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from r1jax.answers.extraction import after_reasoning
from r1jax.rewards.example import Example, RewardResult
from r1jax.rewards.format import strip_end
from r1jax.rewards.text_match import answer_text, normalize_unicode

MAX_ANSWER = 8_000  # characters of an answer that are read, from its end
MAX_LINES = 1000  # of an answer that are read, from its end
MAX_STATEMENT = 1000  # characters after an announcement that are read, beyond the length of the longest choice
_GOLD = re.compile(r"\(?([A-Za-z])(?:\)?[.:]?|\)?[).:] .+)")
# What is removed before a line is read: the markup of LaTeX and Markdown, quotation marks, bullets.
_MARKUP = re.compile(
    r"\\(?:text|math)[a-z]*|\\(?:mbox|boldsymbol|left|right|bf|rm)(?![a-z])|\\[()\[\]]"
    r"|[{}$*`_\"“”«»]|(?<!\w)['‘’]|['‘’](?!\w)"
)
_SPACE = re.compile(r"\\[ ,;:!]|\\q?quad|~")
_BULLET = re.compile(r"\A(?:[>#•\-–—]+ )+")
_WORD = r"[^\W\u3040-\u9fff\uac00-\ud7a3]"  # Chinese, Japanese and Korean words may touch a letter
_BARE = r"[A-HJ-Z]|I(?=[).:]|$)|[a-hj](?=[).:]* ?$|[).:] )"
_LETTER = rf"(?:[(\[] ?([A-Za-z]) ?[)\]]|(?<!{_WORD})({_BARE}))(?!{_WORD}|['’+#]|-\w)"
_NOUN = r"(?:answer|choice|option|letter|alternative|opción|opção|opzione|lettre|letra|lettera|buchstabe)"
_NAME = rf"(?:(?:the |l?a |l['’]|die |der )?(?:correct |right |best )?(?:{_NOUN} )+)"
_IS = r"(?: is| was| (?:must|should|would|will) be| has to be| ist| lautet| est?| é| è|['’]s)\b"
_SO = r"(?:(?:so|thus|hence|therefore|then|finally|clearly|definitely|indeed|simply),?)"
_LEAD = rf"(?:(?:{_SO}|only|both|either|it{_IS}|i (?:think|believe|guess|would say)(?: that)?) ){{0,4}}+{_NAME}?"
_NOT = "".join(f"(?<!{word})" for word in ("不", "不能", "不应", "不應", "不会", "不會", "不可", "不该", "别", "勿"))
_NOT_WRONG = "(?<!错误的)(?<!錯誤的)(?<!不正确的)"
_ANNOUNCED = re.compile(
    rf"(?i:\b(?:{_NOUN}|solution|(?:correct|right|best) \w+|antwort|réponse|respuesta|resposta|risposta|ответ)"
    rf"(?: choice| option| letter| here| to [^.:]{{1,80}}?| correct[ae]?| corret?ta| finale?)?"
    rf"(?:{_IS}(?: {_SO})?:?| ?[:=⇒→]| [-–—]) ?{_LEAD}"
    rf"|\b(?:(?:i|we)(?:['’](?:ll|d))?|would|should|must|to) (?:choose|select|pick|go with) {_LEAD}"
    rf"|\b(?:matches|corresponds to|is) {_NAME})"
    rf"|(?:(?:答案|{_NOT_WRONG}选项)(?:应[该当])?[是为為选選]?|(?:答え|正解|정답)[は은]?|{_NOT}[故应應]?[选選][择擇]?)"
    r" ?:? ?(?:选项 ?)?"
)
_OPENING = re.compile(rf"\A(?i:{_LEAD})")
# A judgement of a choice, or a conclusion at the end of the line.
_RIGHT = re.compile(
    rf"(?:^|[.,;:!] )(?i:(?:({_SO}|it{_IS}) ){{0,3}}+(only )?{_NAME}?){_LETTER}\)?(?:(?(1)\W*$|(?!))|"
    r"(?(2) (?:satisfies|works|fits|matches|remains|holds|meets|is true)\b|(?!))|"
    rf"(?i:{_IS}(?: {_SO})? (?:the )?(?:only |most |best )?"
    r"(?:(?:correct|right|best|appropriate|accurate)(?: answer| choice| option| one)?|answer)"
    r"(?=\W*$| ?[.,;:!)]| because| since| as)))"
)
# What may follow a bare letter after an announcement, and at the start of a line. Before any other word it states none.
_AFTER_ANNOUNCED = re.compile(
    rf"\W*$| ?[.,;:!?)。、/&](?!{_WORD})| [-–—(\[]| ?(?:です|である|だ|입니다|이다|项|項)"
    r"| (?:because|since|as|for|due|with|based|given|and|not|which)\b"
)
_AFTER_OPENING = re.compile(rf"\W*$|[).:](?!{_WORD})| [-–—] |, (?:because|since|as)\b")
# A further letter after a letter: `A or B`, `A, B`, `A/B`, `(A)(B)`, `A B`.
_ALSO = re.compile(
    r"(?:[ ).\]]*,? ?\b(?:and/or|or|and|nor)\b|[ )\]]*[,;/&+、或和]|[ )\]]*(?=[(\[])|(?<=[A-Z]) (?=[A-Z]\W*$)) ?"
    rf"(?:(?:or|and|also|maybe|possibly|perhaps|even) )*(?i:{_NAME}?){_LETTER}"
    rf"(?=\W*$| ?[.,;:!?)/&、](?!{_WORD})|/[A-Z]\b| (?:or|and|are)\b)"
)


def letter(example: Example, completion: str) -> RewardResult:
    """The completion states the choice that is the gold answer, a letter such as `B`, `(B)` or `B) text`.

    The reasons of a 0.0 are no_answer, no_choice and several_choices; a wrong choice has no reason. Raises ValueError
    for a gold answer that is not a letter, or not the letter of one of data["choices"].
    """
    choices = [_words(str(text)) for text in example.data.get("choices", ())]
    named = _GOLD.fullmatch(_plain(example.answer))
    if named is None:
        raise ValueError(f"the gold answer {example.answer!r} is not a choice; need a letter such as B or (B)")
    gold = _name(named)
    if choices and ord(gold) - ord("A") >= len(choices):
        raise ValueError(f"the gold answer {example.answer!r} is not one of the {len(choices)} choices of the example")
    answer = answer_text(example, completion)
    if answer is None:
        return 0.0, "no_answer"
    stated = _stated(answer, choices)
    text = after_reasoning(strip_end(completion)) or ""
    if not stated and "<answer>" not in text:  # a formula in the box, before or after the choice
        stated = _stated(text, choices)
    if len(stated) != 1:
        return 0.0, "several_choices" if stated else "no_choice"
    return float(stated == {gold})


def _stated(answer: str, choices: Sequence[str]) -> set[str]:
    """The letters in the last statement of a choice."""
    text = normalize_unicode("NFKC", answer[-MAX_ANSWER:])[-MAX_ANSWER:]  # which may be 18 times as long
    lines = [line for line in map(_plain, text.split("\n")[-MAX_LINES:]) if line]
    announced = [_announced(line, choices) for line in lines]
    stated = [found or _opening(line, choices) for line, found in zip(lines, announced, strict=True)]
    begun = [found for found, other in zip(stated, announced, strict=True) if found and not other]
    if begun and begun[-1] not in begun[:-1] and any(found != begun[-1] for found in begun):
        stated = announced  # the other lines list the choices
    return next(filter(None, reversed(stated)), set())


def _announced(line: str, choices: Sequence[str]) -> set[str]:
    found = [(match.start(), {_name(match)}) for match in _RIGHT.finditer(line)]
    longest = MAX_STATEMENT + max(map(len, choices), default=0)
    for match in _ANNOUNCED.finditer(line):
        rest = line[match.end() : match.end() + longest]
        found.append((match.start(), _letters(rest, choices) or _same_text(rest, choices)))
    return max((each for each in found if each[1]), default=(0, set()), key=lambda each: each[0])[1]


def _opening(line: str, choices: Sequence[str]) -> set[str]:
    rest = _OPENING.sub("", line)
    return _letters(rest, choices, opening=True) or _same_text(rest, choices) or _same_text(line, choices)


def _letters(text: str, choices: Sequence[str], *, opening: bool = False) -> set[str]:
    """The letters at the start of a text; none where the text after the first shows that it states no choice."""
    match = re.match(_LETTER, text)
    if match is None:
        return set()
    also, end = _ALSO.match(text, match.end()), match.end()
    while more := _ALSO.match(text, end):
        end = more.end()
    if also and (not opening or re.fullmatch(r"\W*", text[end:])):  # "A, B and C lie on a line" states no choice
        return {_name(match), _name(also)}
    if match.group(2) and not (_AFTER_OPENING if opening else _AFTER_ANNOUNCED).match(text, match.end()):
        return set()
    rest = re.sub(r"\A[).:\]]* ?(?:[-–—] )?", "", text[match.end() :])
    return {_name(match)} | _same_text(rest, choices)


def _name(match: re.Match[str]) -> str:
    return match[match.lastindex or 0].upper()


def _same_text(text: str, choices: Sequence[str]) -> set[str]:
    words = _words(text) if len(text) <= max(map(len, choices), default=-11) + 10 else ""
    return {chr(ord("A") + index) for index, choice in enumerate(choices) if choice and choice == words}


def _words(text: str) -> str:
    return _plain(text).removesuffix(".").strip().casefold()


def _plain(text: str) -> str:
    text = _MARKUP.sub("", _SPACE.sub(" ", normalize_unicode("NFKC", text)))
    return _BULLET.sub("", " ".join(text.split()))
