"""Language consistency: shares counted by hand, in several scripts, and what is no word."""

import random
import sys

import pytest
from cpu_time import cpu_limit

from r1jax.rewards import language
from r1jax.rewards.example import Example
from r1jax.rewards.language import LANGUAGES, check_language, consistency, language_fraction

EXAMPLE, OPENED = Example("", ""), Example("", "", prompt_opens_think=True)
TEXTS = {
    "en": "Okay, so I need to find the sum of the first ten numbers. Wait, let me check that again.",
    "de": "Okay, ich muss die Summe der ersten zehn Zahlen finden. Moment, ich prüfe das noch einmal.",
    "fr": "Bon, je dois trouver la somme des dix premiers nombres. Attendez, vérifions encore une fois.",
    "es": "Tengo que encontrar la suma de los diez primeros números. Espera, voy a comprobarlo otra vez.",
    "it": "Allora, devo trovare la somma dei primi dieci numeri. Aspetta, controllo di nuovo il calcolo.",
    "pt": "Preciso encontrar a soma dos dez primeiros números. Espera, não está certo, vou verificar de novo.",
    "nl": "Ik moet de som van de eerste tien getallen vinden. Wacht, ik controleer het nog een keer.",
    "pl": "Muszę znaleźć sumę pierwszych dziesięciu liczb. Zaraz, sprawdzę to jeszcze raz.",
    "tr": "İlk on sayının toplamını bulmam gerekiyor. Bekle, bunu tekrar kontrol edeyim.",
    "vi": "Tôi cần tìm tổng của mười số đầu tiên. Khoan đã, để tôi kiểm tra lại.",
    "zh": "好的，我需要求前十个数的和。等等，让我再检查一遍。",
    "ja": "まず、最初の十個の数の和を求めます。待って、もう一度確認しましょう。",
    "ko": "먼저 처음 열 개의 수의 합을 구해야 합니다. 잠깐, 다시 확인해 보겠습니다.",
    "ru": "Хорошо, нужно найти сумму первых десяти чисел. Подождите, проверю ещё раз.",
    "ar": "حسنًا، أحتاج إلى إيجاد مجموع الأعداد العشرة الأولى. انتظر، دعني أتحقق مرة أخرى.",
    "he": "אני צריך למצוא את סכום עשרת המספרים הראשונים. רגע, אבדוק שוב.",
    "el": "Πρέπει να βρω το άθροισμα των δέκα πρώτων αριθμών. Περίμενε, θα το ελέγξω ξανά.",
    "hi": "मुझे पहली दस संख्याओं का योग निकालना है। रुको, मैं इसे फिर से जाँचता हूँ।",
    "th": "ผมต้องหาผลรวมของเลขสิบตัวแรก เดี๋ยวก่อน ขอตรวจสอบอีกครั้ง",
    "bn": "আমাকে প্রথম দশটি সংখ্যার যোগফল বের করতে হবে। দাঁড়াও, আবার দেখি।",
    "ta": "முதல் பத்து எண்களின் கூட்டுத்தொகையைக் கண்டுபிடிக்க வேண்டும்.",
    "ka": "უნდა ვიპოვო პირველი ათი რიცხვის ჯამი. მოიცა, კიდევ ერთხელ შევამოწმებ.",
}


def think(text):
    return f"<think>{text}</think>4"


@pytest.mark.parametrize("written", TEXTS)
@pytest.mark.parametrize("wanted", TEXTS)
def test_each_language_against_each(written, wanted):
    assert consistency(EXAMPLE, think(TEXTS[written]), language=wanted) == float(written == wanted)


@pytest.mark.parametrize(
    ("text", "wanted", "share"),
    [
        ("First we add 两个数", "en", 3 / 6),
        ("First we add 两个数", "zh", 3 / 6),
        ("So the answer is 12, 因为三加九等于十二。", "en", 4 / 13),
        ("我们用 substitution 解方程", "zh", 6 / 7),
        ("我们用substitution解方程", "zh", 6 / 7),
        ("设x为苹果数，y为梨数，则x+y=12。", "zh", 1.0),
        ("所以 sin x 最大是 1，max 也是 1。", "zh", 1.0),
        ("Let us think about this step by step. Итак, ответ двенадцать яблок.", "en", 8 / 12),
        ("Итак, ответ twelve яблок.", "ru", 3 / 4),
        ("Let us find the sum of all terms. Also müssen wir die Zahlen addieren.", "en", 8 / 14),
        ("Let us find the sum of all terms. Also müssen wir die Zahlen addieren.", "de", 6 / 14),
        ("Daher ist die Summe gleich zwölf.\nTherefore the sum is equal to twelve.", "de", 6 / 13),
        ("그래서 정답은 twelve 입니다", "ko", 3 / 4),
        ("这个和是十二。したがって答えは十二です。", "zh", 6 / 18),
        ("这个和是十二。したがって答えは十二です。", "ja", 12 / 18),
        ("The angle θ and π are given here", "en", 1.0),
        ("Η γωνία θ είναι 90 μοίρες", "el", 1.0),
        ("We know that ἀρχή means beginning", "en", 5 / 6),
        ("The well-known student's don’t-care rule holds", "en", 1.0),
        ("We say Հայերեն for that one thing", "en", 6 / 7),
        ("We say ᏣᎳᎩ for that one thing", "en", 6 / 7),
    ],
)
def test_shares_counted_by_hand(text, wanted, share):
    assert consistency(EXAMPLE, think(text), language=wanted) == pytest.approx(share)


@pytest.mark.parametrize(
    "nothing",
    [
        "12 + 30 = 42", "3.14", "x_1 and_x a2b", "$\\text{some words}$", "$$\nsome words\n$$", "\\(some words\\)",
        "\\[some\nwords\\]", "\\begin{align}some words\\end{align}", "\\frac{1}{2}\\alpha", "`some words`",
        "```python\nprint('some words')\n```", "~~~\nsome words\n~~~", "```\nnever closed", "https://example.org/words",
        "x + y = z", "sin x", "!?…—·→≤", "𝑥² ≥ 𝑦",
    ],
)  # fmt: skip
def test_what_is_no_word(nothing):
    assert language_fraction(nothing, "zh") is None
    assert consistency(EXAMPLE, think(nothing), language="zh") == (0.0, "no_words")
    assert language_fraction(f"我们看 {nothing}", "zh") == 1.0


def test_money_is_no_formula():
    text = "Each apple costs $5 and each pear costs $3, so 苹果 is dearer"
    assert language_fraction(text, "en") == pytest.approx(10 / 12)


@pytest.mark.parametrize(
    ("example", "completion", "result"),
    [
        (EXAMPLE, "因为三加九等于十二", (0.0, "no_reasoning")),
        (EXAMPLE, "", (0.0, "no_reasoning")),
        (EXAMPLE, "<think> \n</think>十二", (0.0, "no_reasoning")),
        (EXAMPLE, "<think></think>十二", (0.0, "no_reasoning")),
        (OPENED, "因为三加九等于十二</think>twelve", 1.0),
        (OPENED, "因为三加九等于十二", 1.0),
        (EXAMPLE, "<think>因为三加九等于十二", 1.0),
        (EXAMPLE, "<think>十二<|im_end|>", 1.0),
        (EXAMPLE, "<think>十二</think>The answer, in English, does not count.", 1.0),
    ],
)
def test_the_reasoning_is_what_counts(example, completion, result):
    assert consistency(example, completion, language="zh") == result


@pytest.mark.parametrize("unknown", ["", "xx", "EN", "english", "zh-CN"])
def test_an_unknown_language_is_refused(unknown):
    with pytest.raises(ValueError, match=r"is not known; need one of ar, bn, .* zh"):
        check_language(unknown)


def test_without_the_detector_only_latin_languages_are_refused(monkeypatch):
    language._detector.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(ValueError, match=r'pip install "r1jax\[language\]"'):
        check_language("en")
    assert consistency(EXAMPLE, think("我们 add"), language="zh") == pytest.approx(2 / 3)
    language._detector.cache_clear()


def test_the_detector_knows_every_latin_language():
    latin = {code for code, script in LANGUAGES.items() if script == "latin"}
    assert set(language._detector().labels) >= latin


def test_the_fraction_is_bounded_and_grows_with_the_words_of_its_language():
    chance = random.Random(0)
    words = [*"因为三加九等于", "ответ", "twelve", "の", "x", "12", "\n", "。", "$", "\\(", "```"]
    for _ in range(500):
        text = "".join(chance.choices(words, k=30))
        shares = [language_fraction(text, code) for code in ("zh", "ja", "ru", "ko", "en")]
        assert all(share is None for share in shares) or (min(shares) >= 0 and sum(shares) <= 1 + 1e-9)
    grown = [
        language_fraction("twelve apples are left here。\n" + "因为三加九等于十二。\n" * n, "zh") for n in range(9)
    ]
    assert grown == sorted(grown) and grown[0] == 0 < grown[1]


def test_the_same_text_gets_the_same_share():
    text = " ".join(TEXTS.values())
    assert len({language_fraction(text, "en") for _ in range(3)}) == 1


def test_long_and_hostile_texts_take_time_in_proportion():
    with cpu_limit(5):
        assert language_fraction("因为三加九等于十二。" * 2000, "zh") == 1.0
        for piece in ("\\(", "\\[", "$", "$ x", "```", "`", "a" * 50, "a-", "\\begin{", "$$\n", "1", "。"):
            language_fraction(piece * 20_000, "zh")
