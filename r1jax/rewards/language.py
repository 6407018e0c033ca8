r"""R1's language consistency reward: the fraction of the reasoning's words that are in the target language.

    consistency(example, "<think>First we add 两个数。</think>5")  # 3 of 6 words: 0.5
    consistency(example, "<think>先把两个数相加。</think>5", language="zh")  # 1.0

The reward is Num(Words_target) / Num(Words) over the chain of thought (DeepSeek-R1 2501.12948, section 2.3.2). The
paper does not say what a word is and how its language is detected. Here:

- Code, LaTeX, URLs, numbers, names with digits or underscores, single Latin or Greek letters and the names of
  mathematical functions (sin, gcd) belong to no language and are not counted as words.
- A word is a run of letters of one script. In scripts without spaces between words (Chinese, Japanese, Thai, Lao,
  Khmer, Burmese) every letter is a word.
- Where only one language of LANGUAGES has a script, all words in that script are in that language. Han characters are
  Japanese in a sentence that has kana, and Chinese in any other.
- Languages in Latin script are distinguished by py3langid, a deterministic naive Bayes model of 4 MB, for each
  sentence: its Latin words are in the target language where the model gives that language a probability of
  MIN_PROBABILITY.

Limits: where there is no detector, another language in the same script passes (Ukrainian for Russian, Persian for
Arabic). A sentence has only one language in Latin script. Names and loanwords count as the language of their sentence.
Text in code or between dollar signs is not seen. A sentence of fewer than MIN_WORDS words, or of less than a thousandth
of the text, is joined with the next.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from r1jax.rewards.example import Example, RewardResult
from r1jax.rewards.format import reasoning, strip_end
from r1jax.rewards.text_match import normalize_unicode

MIN_WORDS = 5  # of a sentence; the detector guesses on fewer
MAX_SENTENCES = 1000  # of a text, so that the detector takes at most 0.2 s; in a longer text several are joined
# Among the 21 languages in Latin script. In the answers of GSM8K's test set, 0.1% of the words are not accepted as
# English; with English as the argmax it would be 0.4%.
MIN_PROBABILITY = 0.1
MAX_LETTERS = 50  # of a word that the detector sees, because its time is quadratic in the accents on a letter

# The letters and marks of each script, as the inside of a character class, without its digits and punctuation.
SCRIPTS = {
    "latin": "A-Za-zªºÀ-ÖØ-öø-ʯ\u0300-\u036fḀ-ỿ",
    "greek": "\u0370-\u0373\u0376-\u037d\u0386\u0388-\u03ff\u1f00-\u1fff",
    "cyrillic": "\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f",
    "hebrew": "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u05d0-\u05f2",
    "arabic": "\u0610-\u061a\u0620-\u065f\u066e-\u06d3\u06d5-\u06dc\u06df-\u06e8\u06ea-\u06ef\u06fa-\u06ff"
    "\u0750-\u077f",
    "devanagari": "\u0900-\u0963\u0971-\u097f",
    "bengali": "\u0980-\u09e3\u09f0\u09f1",
    "gurmukhi": "\u0a01-\u0a5e\u0a70-\u0a75",
    "gujarati": "\u0a81-\u0ae3",
    "tamil": "\u0b82-\u0bd7",
    "telugu": "\u0c00-\u0c63",
    "kannada": "\u0c80-\u0ce3",
    "malayalam": "\u0d00-\u0d63\u0d7a-\u0d7f",
    "georgian": "\u10a0-\u10fa\u10fc-\u10ff\u1c90-\u1cbf",
    "armenian": "\u0531-\u0556\u0561-\u0587",
    "hangul": "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7fb",
}
# The same for scripts without spaces between words: the letters, and the marks that belong to the letter before them.
LETTERS = {
    "han": ("\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af", ""),
    "kana": ("\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff", ""),
    "thai": ("\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46", "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"),
    "lao": ("\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf", "\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece"),
    "khmer": ("\u1780-\u17b3", "\u17b4-\u17d3"),
    "burmese": ("\u1000-\u102a\u103f\u1050-\u1055", "\u102b-\u103e\u1056-\u1059"),
}
UNSPACED = "".join(letters for letters, _ in LETTERS.values())
LANGUAGES = {
    "ca": "latin", "cs": "latin", "da": "latin", "de": "latin", "en": "latin", "es": "latin", "fi": "latin",
    "fr": "latin", "hr": "latin", "hu": "latin", "id": "latin", "it": "latin", "nl": "latin", "no": "latin",
    "pl": "latin", "pt": "latin", "ro": "latin", "sk": "latin", "sv": "latin", "tr": "latin", "vi": "latin",
    "zh": "han", "ja": "kana", "ko": "hangul", "ru": "cyrillic", "ar": "arabic", "he": "hebrew", "el": "greek",
    "hi": "devanagari", "bn": "bengali", "pa": "gurmukhi", "gu": "gujarati", "ta": "tamil", "te": "telugu",
    "kn": "kannada", "ml": "malayalam", "th": "thai", "lo": "lao", "km": "khmer", "my": "burmese",
    "ka": "georgian", "hy": "armenian",
}  # fmt: skip

# Code, formulas and URLs. Each alternative also ends where its block cannot continue, so that an unclosed block is not
# scanned again.
_NO_LANGUAGE = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*+`"
    r"|\$\$.*?(?:\$\$|\n\s*\n|\Z)|\\\[.*?(?:\\\]|\n\s*\n|\Z)|\\\(.*?(?:\\\)|\n|\Z)"
    r"|\\begin\{.*?(?:\\end\{[^{}\n]*+\}|\n\s*\n|\Z)"
    r"|(?<!\\)\$(?![\s\d])[^$\n]*+(?<![\s\\])\$|(?<!\\)\$\d[^$\n]*+(?<![\s\\])\$(?!\d)"
    r"|\\[A-Za-z]++|https?://\S++",
    re.DOTALL,
)
_FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "ln", "log", "lg",
    "exp", "lim", "max", "min", "sup", "inf", "mod", "gcd", "lcm", "det", "dim", "ker", "deg", "arg",
}  # fmt: skip
_SENTENCE = re.compile(r"(?:(?<![.!?])[.!?]++(?=\s)|[。！？।॥؟۔;\n]++)++")
_NAMING = SCRIPTS["latin"] + SCRIPTS["greek"]
# A symbol is matched from its first letter only, so that each letter is scanned once.
_TOKEN = re.compile(
    rf"(?P<symbol>(?:(?<![{_NAMING}])[{_NAMING}]++)?[\d_][{_NAMING}\d_]*+)|"
    + "|".join(rf"(?P<{name}>[{inside}]++(?:['’\-][{inside}]++)*+)" for name, inside in SCRIPTS.items())
    + "|"
    + "|".join(rf"(?P<{name}>[{letters}]" + (rf"[{marks}]*+)" if marks else ")")
               for name, (letters, marks) in LETTERS.items())
    + r"|(?P<other>[^\W\d_]++)"
)  # fmt: skip


def consistency(example: Example, completion: str, *, language: str = "en") -> RewardResult:
    """The fraction of the reasoning's words that are in `language`, a code that `check_language` accepts.

    A completion without reasoning scores 0.0 with the reason no_reasoning, and reasoning without words 0.0 with the
    reason no_words, so that it does not pay to write none.
    """
    thought = reasoning(strip_end(completion), example.prompt_opens_think)
    if thought is None or not thought.strip():
        return 0.0, "no_reasoning"
    fraction = language_fraction(thought, language)
    return (0.0, "no_words") if fraction is None else fraction


def check_language(language: str) -> None:
    """Loads the detector. Raises ValueError unless LANGUAGES has the ISO 639-1 code and its detector is installed."""
    if language not in LANGUAGES:
        raise ValueError(f"language {language!r} is not known; need one of {', '.join(sorted(LANGUAGES))}")
    if LANGUAGES[language] == "latin":
        _detector()


def language_fraction(text: str, language: str) -> float | None:
    """The fraction of the text's words that are in `language`; None where it has no words."""
    target = total = 0
    for counts, latin in _sentences(text):
        total += counts.total()
        target += _target(counts, latin, language)
    return target / total if total else None


def _target(counts: Counter[str], latin: list[str], language: str) -> int:
    script = LANGUAGES[language]
    if script == "latin":
        accepted = latin and dict(_detector().rank(" ".join(latin)))[language] >= MIN_PROBABILITY
        return counts["latin"] if accepted else 0
    if language == "zh":
        return 0 if counts["kana"] else counts["han"]
    if language == "ja":
        return counts["kana"] + counts["han"] if counts["kana"] else 0
    return counts[script]


def _sentences(text: str) -> Iterator[tuple[Counter[str], list[str]]]:
    """For each sentence, or run of short ones: the number of words by script, and the Latin words in lower case."""
    text = _NO_LANGUAGE.sub(" ", text)
    text = normalize_unicode("NFKC", text)[: 2 * len(text)]  # one ligature may become 18 characters
    min_length = len(text) // MAX_SENTENCES
    counts, latin, length = Counter(), [], 0
    for sentence in _SENTENCE.split(text):
        length += len(sentence)
        for match in _TOKEN.finditer(sentence):
            script = match.lastgroup or "other"
            if script == "symbol":
                continue
            if script in ("latin", "greek"):
                word = match.group().lower()
                if len(word) == 1 or word in _FUNCTIONS:
                    continue
                if script == "latin":
                    latin.append(word[:MAX_LETTERS])
            counts[script] += 1
        if length >= min_length and counts.total() >= MIN_WORDS:
            yield counts, latin
            counts, latin, length = Counter(), [], 0
    if counts:
        yield counts, latin


@functools.cache
def _detector() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            'detecting languages in Latin script needs py3langid; install it with: pip install "r1jax[language]"'
        ) from None
    detector = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    detector.set_languages([language for language, script in LANGUAGES.items() if script == "latin"])
    return detector
