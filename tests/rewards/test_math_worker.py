"""Expressions, equations and inequalities compared by math-verify and sympy, as in a worker."""

import json
import os
from pathlib import Path

import pytest

from r1jax.answers.extraction import extract_answer
from r1jax.rewards.accuracy import math_answer
from r1jax.rewards.example import Example
from r1jax.rewards.math_worker import same

PAIRS = Path(__file__).parent / "math_verify_pairs.jsonl"

CASES = [
    # gold, right, wrong
    (r"\frac{\sqrt{3}}{2}", [r"\sqrt{3}/2", r"\frac{1}{2}\sqrt{3}", r"\sqrt{\frac34}", r"\frac{3}{2\sqrt3}", "√3/2"],
     [r"\frac{\sqrt{2}}{2}", r"\sqrt{3}", "0.866", r"-\frac{\sqrt3}{2}", r"\frac{\sqrt{3}}{3}"]),
    (r"2\sqrt{2}", [r"\sqrt{8}", r"\sqrt 8", r"2^{3/2}", r"\frac{4}{\sqrt{2}}", "2.8284271247461903", r"x = \sqrt{8}"],
     [r"\sqrt{2}", r"2\sqrt{3}", "4", "2", "2.83", r"-2\sqrt{2}", r"2\sqrt{2}+0.001"]),
    (r"3\sqrt{13}", [r"\sqrt{117}", r"3\sqrt{13}\text{ cm}"], [r"\sqrt{13}", "3"]),
    (r"\sqrt[3]{2}", ["2^{1/3}", r"2^{\frac13}"], [r"\sqrt{2}", r"\sqrt[3]{3}"]),
    ("5", [r"\sqrt{25}", r"|-5|", r"\log_2 32", r"\frac{\sqrt{100}}{2}", r"\binom{5}{1}", r"25^{1/2}", r"x=\sqrt{25}"],
     [r"\sqrt{5}", r"5\pi", r"\sqrt{26}", "5i", r"\ln 5"]),
    (r"\frac{\pi}{2}", [r"\pi/2", r"0.5\pi", r"\frac12\pi", "π/2", r"\frac{2\pi}{4}"],
     [r"\pi", r"\frac{2}{\pi}", "90", "1.57"]),
    (r"\frac{9}{4}\pi", [r"\frac{9\pi}{4}", r"2.25\pi", r"\frac94\pi \text{ square cm}"], ["9/4", r"\frac{4}{9}\pi"]),
    (r"1+\frac1e", [r"\frac{e+1}{e}", "1+e^{-1}", r"1 + \frac{1}{\mathrm{e}}"],
     [r"1-\frac1e", r"1-\frac{1}{\mathrm{e}}", "1"]),
    (r"\ln 2", [r"\log_e 2", r"-\ln\frac12", r"\frac{\ln 4}{2}"], [r"\ln 3", r"\log_{10} 2", "0.69"]),
    ("e", ["e^1", r"\mathrm{e}"], ["2.718", r"\pi", "e^2"]),
    ("2x+1", ["1+2x", "y=2x+1", "2(x+1)-1", r"2 \cdot x + 1", r"\frac{4x+2}{2}"], ["2x-1", "2y+1", "x+1", "2x", "3"]),
    ("(a+5)(b+2)", ["ab+2a+5b+10", "(b+2)(a+5)"], ["(+5)(b+2)", "(a+2)(b+5)", "ab+10"]),
    (r"\frac{x+2}{7}", [r"\frac{x}{7}+\frac{2}{7}", r"\frac17(x+2)"], [r"\frac{x}{7}+2"]),
    (r"\tan^2(y)+1", [r"\sec^2(y)", r"\frac{1}{\cos^2 y}"], [r"\sec(y)", r"\tan^2(y)"]),
    (r"2 \sin b \cos a", [r"\sin(a+b)-\sin(a-b)"], [r"2\sin a\cos b"]),
    (r"\sqrt{x^2}", ["|x|"], ["x", "-x"]),
    (r"4\sin 2a", [r"8\times\sin a\times\cos a", r"8\sin a\cos a"], [r"8\sin(a\cos a)", r"8\sin a"]),
    (r"2\cdot L\cdot A^2\cdot m", ["2LA^2 m"], ["2LA^2 m^2", "2"]),
    ("|x|y", [r"\sqrt{x^2} y"], ["xy", "x|y|"]),
    ("a+b+|c|", ["|c|+b+a"], ["a+b+c", "a+|b|+c", "|a|+b+c"]),
    (r"\sqrt{xyz}", [r"\sqrt{x}\sqrt{y}\sqrt{z}"], [r"\sqrt{xy}"]),
    (r"2\ln x", [r"\ln x^2", r"\ln(x^2)"], [r"\ln x", r"\ln(2x)"]),
    ("3+4i", ["4i+3", r"(2+i)^2"], ["3-4i", "4+3i", "7", "7i"]),
    (r"\sum_{k=1}^{n} k", [r"\frac{n(n+1)}{2}", r"\sum_{j=1}^{n} j"],
     [r"\sum_{k=1}^{n} k^2", "n", r"\sum_{k=0}^{n+1} k"]),
    (r"\binom{n}{2}", [r"\frac{n(n-1)}{2}"], [r"\binom{n}{3}", "n"]),
    ("2", [r"\sqrt[3]{8}", "8^{1/3}", r"\lfloor 2.5 \rfloor"],
     [r"\sqrt[3]{9}", r"[\sqrt{4}]", r"\{\sqrt{4}\}", r"\sqrt{4}, 3"]),
    ("x^n", ["x^n"], ["n^x", "x^2"]),
    # structure around expressions
    (r"1 \pm \sqrt{19}", [r"1+\sqrt{19}, 1-\sqrt{19}", r"x=1 \pm \sqrt{19}", r"\{1-\sqrt{19}, \sqrt{19}+1\}"],
     [r"1+\sqrt{19}", r"1 \pm \sqrt{17}", r"\sqrt{19} \pm 1"]),
    ("A, C", ["C, A", "A and C"], ["A1, C", "AC", "A, C1"]),
    (r"\{1\pm\sqrt{5},-2\}", [r"\{-2, 1+\sqrt5, 1-\sqrt5\}"], [r"\{-2,1+\sqrt5\}"]),
    (r"(3, \frac{\pi}{2})", [r"\left(3,\pi/2\right)"], [r"(\frac{\pi}{2}, 3)", r"[3,\frac{\pi}{2}]", "(3, 1.57)"]),
    (r"[\sqrt{2}, 2\pi)", [r"[2^{1/2}, 2π)"], [r"(\sqrt2, 2\pi)", r"[\sqrt{2}, \pi)"]),
    (r"\begin{pmatrix} \sqrt{4} & x \\ 0 & 1 \end{pmatrix}", [r"\begin{bmatrix} 2 & x \\ 0 & 1 \end{bmatrix}"],
     [r"\begin{pmatrix} 2 & y \\ 0 & 1 \end{pmatrix}"]),
    (r"\begin{pmatrix}6 & 8 \\ 10 & 12\end{pmatrix}",
     [r"\begin{pmatrix}1 & 2 \\ 3 & 4\end{pmatrix} + \begin{pmatrix}5 & 6 \\ 7 & 8\end{pmatrix}"], []),
    # equations
    ("2x+z=1", ["z = 1-2x", "4x+2z=2", "1=2x+z", "-2x-z=-1"], ["1", "z=1", "2x+z=2", "2x+y=1", "x=1"]),
    ("2x+4y-3=0", [r"y=-\frac{1}{2}x+\frac{3}{4}"], [r"y=\frac12x+\frac34", "0"]),
    (r"x^2/4 + y^2/3 = 1", [r"x^2/16 + y^2/12 = 1/4", "3x^2+4y^2=12"], ["x^2/3+y^2/4=1", "1"]),
    ("y=2x+1", ["2x+1", "2x-y+1=0", "y-1=2x", "y=1+2x"], ["y=2x", "x=2y+1", "2x", "z=2x+1"]),
    ("x-2y+z-1=0", ["x+z=2y+1", "2x-4y+2z-2=0"], ["x-2y+z+1=0"]),
    ("a^2+b=0", ["b=-a^2"], ["0", "a=0"]),
    ("x=5", [], ["2x=10", "x-5=0", "x^2=25", "y=5"]),
    ("x^2+y^2=-1", ["2x^2+2y^2=-2"], ["x^2+y^2=-2", "x^2+y^2=1"]),
    # inequalities
    ("x<1", ["-x>-1", "x-1<0", "2x<2", "1-x>0"], ["x>-1", "-x<-1", "-x>=-1", "2x<1", "y<1"]),
    ("x<=1", ["-x >= -1"], ["-x > -1"]),
    (r"x+y \le 2", ["2 >= y+x", "2x+2y<=4"], ["x+y<2", "x+y>=2", "x-y<=2"]),
    (r"-2<x<2", ["x^2<4", "|x|<2"], ["x^2<=4", "|x|>2"]),
    # unions
    (r"[-1,1]", [], [r"[-1,1)"]),
    (r"[-1, -\frac{1}{2}) \cup (0, \infty)", [r"[-1,-\tfrac12)\cup(0,+\infty)"], [r"[-1,-\tfrac12]\cup(0,\infty)"]),
    (r"\mathbb{R} \setminus \{0\}", [r"\mathbb{R} \setminus \{0\}"], [r"\mathbb{R}"]),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "right", "wrong"), CASES, ids=[gold for gold, _, _ in CASES])
def test_same(gold, right, wrong):
    assert same(gold, gold)
    assert [answer for answer in right if not same(answer, gold)] == []
    assert [answer for answer in wrong if same(answer, gold)] == []


def test_nothing_runs(tmp_path):
    file = tmp_path / "made"
    for payload in (
        rf"\pi*__import__('os').system('touch {file}')",
        rf"__import__('os').system('touch {file}')",
        rf"\sqrt{{open('{file}','w')}}",
        rf"x+exec(\"open('{file}','w')\")",
        rf"\operatorname{{__import__('os').system('touch {file}')}}",
    ):
        for gold in ("7", r"\pi", "x", "x=1", r"\{1\}", "(1,2)", "x<1"):
            assert not same(payload, gold)
            assert not same(f"{payload}, {payload}", f"{gold}, {gold}")
    assert not os.path.exists(file)


def test_what_math_verify_expects_of_its_own_pairs():
    """The pairs of its tests, long completions cut to their end; each disagreement is in the file, with the reason.

    A gold that is a worked solution is read as a completion, as it is there.
    """
    rows = [json.loads(line) for line in PAIRS.read_text().splitlines()]
    results = []
    for row in rows:
        gold = row["gold"]
        if len(gold) > 60 or "boxed" in gold:
            gold = extract_answer(gold, kind="formula") or gold
        result = math_answer(Example("", gold), row["answer"])
        results.append(int(result[0] if isinstance(result, tuple) else result))
    assert len(rows) > 300
    assert [(row, v) for row, v in zip(rows, results, strict=True) if v != row.get("ours", row["expected"])] == []
    assert all(row.get("why") for row in rows if row.get("ours", row["expected"]) != row["expected"])
