"""The code reward: which text is the program, which output is right, and that no trick makes a wrong program right."""

import json
import math
import random
import resource
import time

import pytest
from cpu_time import cpu_limit

from r1jax.rewards import code
from r1jax.rewards.code import extract_program, parse_tests, passes_tests, same_output, same_value
from r1jax.rewards.example import Example
from r1jax.sandbox import programs
from r1jax.sandbox.namespaces import plain
from r1jax.sandbox.programs import check_isolation

try:
    check_isolation()
except ValueError:
    isolated = pytest.mark.skip(reason="this machine cannot isolate programs")
else:
    isolated = pytest.mark.filterwarnings("default")

DOUBLE = [{"input": f"{n}\n", "output": f"{2 * n}\n"} for n in (3, 0, -1, 10**30)]
SORTED = {"inputs": [[[3, 1, 2]]], "outputs": [[1, 2, 3]], "fn_name": "f"}
MEMOIZED = """
import sys
from functools import cache, lru_cache
sys.setrecursionlimit(10**6)

@{}
def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)

print(depth(int(input())))
"""
DOUBLE_CALL = [{"call": "f", "args": [n], "result": 2 * n} for n in (3, 0, -1, 10**30)]
DOUBLE_ASSERT = [f"assert f({n}) == {2 * n}" for n in (3, 0, -1, 10**30)]


def grade(code, tests, **settings):
    example = Example("?", "", data={"tests": tests})
    return passes_tests(example, f"<think>r</think>\n```python\n{code}\n```", **({"seconds": 30.0} | settings))


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        ("1", "1\n2\n3", False),  # a prefix
        ("1\n2\n3", "1", False),
        ("", "1", False),
        ("1", "", False),
        ("", "", True),
        (" \n\n", "", True),
        ("1 2 3", "1\n2\n3", True),  # white space separates, whichever it is
        ("12 3", "1 2 3", False),
        ("6  \n\n", "6", True),
        ("6\r\n", "6\n", True),
        ("0.333333", "0.333333333333", True),
        ("0.33333", "0.333333333333", False),
        ("0.3333334", "0.3333333", True),
        ("1000000.5", "1000000.9", True),  # within 1e-6 of its size
        ("1000000.5", "1000002.5", False),
        ("0.166667", "0.16666666666666666", True),  # within 1e-6 of 1, as contests allow
        ("0.012345678", "0.012346", True),
        ("1e-07", "0.0", True),
        ("0", "0.0000004", False),  # but three digits have to be right
        ("0.000000", "0.0000004", False),
        ("-0.0000004", "0.0000004", False),
        ("0.00000041", "0.0000004", False),
        ("4e-07", "0.0000004", True),
        ("0.0000004", "0", False),
        ("1.5e+300", "1.5000001e+300", True),
        ("2.5", "2.500000", True),
        ("-0.0", "0.0", True),
        (".5", "0.5", True),
        ("3", "3.0", True),
        ("3.0", "3", True),
        ("3.0000001", "3", False),  # a whole number is exact
        ("1e+16", "10000000000000001", False),
        ("1000001", "1000000", False),
        ("007", "7", False),
        ("10", "010", False),
        ("10.0", "010", False),
        ("+5", "5", False),
        ("1e5", "100000", False),  # as likely a hexadecimal number
        ("nan", "0.5", False),
        ("inf", "1.5", False),
        ("nan", "nan", True),
        ("1e+999", "1.5e+999", False),
        ("9" * 400, "9" * 399 + "8", False),
        ("9" * 5000, "9" * 5000, True),
        ("9" * 5000 + ".0", "1.0", False),
        ("yes", "YES", False),
        ("YES", "YES", True),
        ("1,2", "1, 2", False),
        ("1.5abc", "1.5", False),
        ("é", "é", True),
        ("a\u00a0b", "a b", False),
        ("\0", "", False),
    ],
)
def test_outputs_are_compared_word_by_word(output, expected, same):
    assert same_output(output.encode(), expected) is same


def test_output_that_is_no_text_is_wrong():
    assert not same_output(b"\xff\xfe", "1")
    assert not same_output(b"6\n\xff", "6")


@pytest.mark.parametrize(
    ("value", "expected", "typed", "same"),
    [
        (1, 1, True, True),
        (1, 2, True, False),
        (1, 1.0, True, True),
        (1.0, 1, True, True),
        (1.0000001, 1, True, False),
        (1.0000001, 1.0, True, True),
        (0.1 + 0.2, 0.3, True, True),
        (True, 1, True, True),  # as in Python
        ("1", 1, True, False),
        (1, "1", True, False),
        (None, None, True, True),
        (None, False, True, False),
        (0, False, True, True),
        ("", None, True, False),
        ([1, 2], [1, 2], True, True),
        ([1, 2, 3], [1, 2], True, False),
        ([1], [1, 2], True, False),
        ([2, 1], [1, 2], True, False),
        (0, 4e-7, True, False),
        (4.1e-7, 4e-7, True, False),
        (1e-17, 0.0, True, True),
        ((1, 2), [1, 2], True, False),
        ((1, 2), [1, 2], False, True),  # JSON has no tuples
        ([(1, (2,))], [[1, [2]]], False, True),
        ([1, 2], (1, 2), True, False),
        ({1, 2}, {2, 1}, True, True),
        ({1, 2}, {1.0, 2}, True, True),
        ({1, 2}, [1, 2], False, False),
        ({(1, 2)}, {(1, 2)}, True, True),
        ({frozenset({1, 2})}, {frozenset({2, 1})}, True, True),
        ({1: 2}, {1: 2}, True, True),
        ({1: 2.00000001}, {1: 2.0}, True, True),
        ({1: 2}, {"1": 2}, True, False),
        ({1: 2}, {"1": 2}, False, True),  # nor keys but text
        ({None: 1, True: 2}, {"null": 1, "true": 2}, False, True),
        ({1: 2, 3: 4}, {1: 2}, True, False),
        ({1: 2}, {1: 2, 3: 4}, True, False),
        ({"b": 1, "a": 2}, {"a": 2, "b": 1}, True, True),
        (2**100, 2**100, True, True),
        (2**100 + 1, 2**100, True, False),
        (2.0**100, 2**100, True, True),
        (10**400, 1.5, True, False),
        (math.inf, math.inf, True, True),
        (math.nan, 1.0, True, False),
        (math.nan, math.nan, True, False),
        (b"ab", b"ab", True, True),
        (b"ab", "ab", True, False),
        (1 + 2j, 1 + 2j, True, True),
        (0.1 + 0.2 + 2j, 0.3 + 2j, True, True),
        ("a" * 100, "a" * 100, True, True),
    ],
)
def test_values_are_compared_as_python_does(value, expected, typed, same):
    sent = json.loads(json.dumps(plain(value)))
    assert same_value(sent, plain(expected), typed=typed) is same


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("<think>r</think>\n```python\nprint(1)\n```", "print(1)"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("```py\nprint(1)\n```\n", "print(1)"),
        ("```Python3\nprint(1)\n```", "print(1)"),
        ("```python title=x\nprint(1)\n```", "print(1)"),
        ("``` python\nprint(1)\n```", "print(1)"),
        ("```python\r\nprint(1)\r\n```\r\n", "print(1)"),
        ("````python\nprint('''\n```\n''')\n````", "print('''\n```\n''')"),
        ("- so:\n  ```python\n  if 1:\n      print(1)\n  ```", "if 1:\n    print(1)"),
        ("```python\nprint(1)\n```\nor better\n```python\nprint(2)\n```\nDone.", "print(2)"),
        ("```python\nprint(1)\n```\nIt prints\n```\n1\n```", "print(1)"),
        ("```python\nprint(1)\n```\nIt prints\n```text\n1\n```", "print(1)"),
        ("```python\nprint(1)\n```\nIt prints\n```\n1", "print(1)"),
        ("Input:\n```\n5\n```\n```python\nprint(1)\n```", "print(1)"),
        ("```python\nprint(1)\n```\n```cpp\nint main;\n```", "print(1)"),
        ("<think>r</think><answer>```python\nprint(1)\n```</answer>", "print(1)"),
        ("<think>r</think><answer>\n```python\nprint(1)\n```\n</answer>", "print(1)"),
        ("<think>r</think>\n```python\nprint(1)\n```<|im_end|>", "print(1)"),
        ("<think>```python\nprint(1)\n```</think>\n```python\nprint(2)\n```", "print(2)"),
        ("~~~python\nprint('```')\n~~~\n", "print('```')"),
        ("```python\ns = '''\n~~~\n'''\n```", "s = '''\n~~~\n'''"),
        ("1. ```python\n   if 1:\n       print(1)\n   ```", "if 1:\n    print(1)"),
        ("1. So:\n\n\t```python\n\tif 1:\n\t\tprint(1)\n\t```", "if 1:\n\tprint(1)"),
        ("```python\ns = '''\n  \n'''\n```", "s = '''\n  \n'''"),  # white space in a text is kept
        *((f"```python\nprint('a{c}b')\n```", f"print('a{c}b')") for c in "\v\f\x1c\x1d\x1e\x85\u2028\u2029"),
        ("<think>r</think>\n```\nprint(1)\n```", "print(1)"),  # without a language where no block is marked as Python
        ("```\nprint(1)\n```\nor better\n```\nprint(2)\n```", "print(2)"),
        ("```\nprint(1)\n```\n```text\n1\n```", "print(1)"),
        ("```\nprint(1)\n```\n```\nprint(2)", None),
        ("```\nprint(1)\n```\n```python\nprint(2)", None),
        ("```\nprint(1)", None),
        ("```text\nprint(1)\n```", None),
        ("```python\n```", ""),
        ("```python\nprint('<think>')\n```", None),  # the reasoning seems open
        ("<think>```python\nprint(1)\n```", None),
        ("<think>```python\nprint(1)\n```</think>done", None),
        ("<think>r</think>print(1)", None),
        ("<think>r</think>\n```cpp\nprint(1)\n```", None),
        ("<think>r</think>\n```python\nprint(1)", None),  # cut
        ("<think>r</think>\n```python\nprint(1)\n```\n```python\nprint(2)", None),
        ("<think>r</think> `python print(1)`", None),
        ("", None),
    ],
)
def test_the_program_is_the_last_python_block(completion, code):
    assert extract_program(completion) == code


def test_a_prompt_that_opens_the_reasoning():
    assert extract_program("r</think>```python\nprint(1)\n```", prompt_opens_think=True) == "print(1)"
    assert extract_program("```python\nprint(1)\n```", prompt_opens_think=True) is None


def test_extraction_is_fast_on_hostile_text():
    with cpu_limit(2):
        for text in (
            "`" * 200_000,
            "~" * 200_000,
            "1. " * 50_000,
            "```python\n" * 50_000,
            "```" + " " * 200_000,
            "<answer>" * 50_000,
            "\n" * 200_000,
        ):
            extract_program(text)


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("<think>```python\nprint(6)\n```", "unclosed_think"),
        ("<think>r</think>6", "no_code"),
        ("<think>r</think>```python\nprint(6)", "no_code"),
    ],
)
def test_no_program_scores_0_with_a_reason(completion, reason):
    assert passes_tests(Example("?", "", data={"tests": DOUBLE}), completion) == (0.0, reason)


@pytest.mark.parametrize(
    ("source", "expected", "call"),
    [
        ("assert f(1) == 2", 2, "f(1)"),
        ("assert f(1) == 2, 'message'", 2, "f(1)"),
        ("assert (f(1)) == (2)", 2, "f(1)"),
        ("assert 2 == f(1)", 2, "f(1)"),
        ("assert f([1, 2], k={'a': (1,)}) == [-1, 2.5]", [-1, 2.5], "f([1, 2], k={'a': (1,)})"),
        ("assert set(f((1, 2), (2, 3))) == set((2,))", {2}, "set(f((1, 2), (2, 3)))"),
        ("assert sorted(f(1), reverse=True) == [2, 1]", [2, 1], "sorted(f(1), reverse=True)"),
        ("assert f(1)[0] == 'a'", "a", "f(1)[0]"),
        ("assert round(f(1), 2) == 0.33", 0.33, "round(f(1), 2)"),
        ("assert Solution().f(1) == None", None, "Solution().f(1)"),
        ("assert f([0] * 3, 10**9, range(3), set([1])) == 1", 1, "f([0] * 3, 10 ** 9, range(3), set([1]))"),
        ("assert f(float('inf')) == float('inf')", math.inf, "f(float('inf'))"),
        ("assert f(1)", True, "bool(f(1))"),
        ("assert not f(1)", False, "bool(f(1))"),
    ],
)
def test_assertions_are_read_as_calls(source, expected, call):
    (case,) = parse_tests([source])
    assert (case.expected, case.call, case.typed) == (plain(expected), call, True)


@pytest.mark.parametrize(
    "tests",
    [
        "",
        "no json",
        "[]",
        "{}",
        {"inputs": ["1"]},
        {"inputs": ["1"], "outputs": []},
        {"inputs": [], "outputs": []},
        {"inputs": "1", "outputs": "1"},
        {"inputs": [1], "outputs": ["1"]},
        {"inputs": [[1]], "outputs": [1], "fn_name": "f()"},
        {"inputs": [1], "outputs": [1], "fn_name": "f"},
        "3",
        [],
        None,
        [{}],
        [{"input": "1"}],
        [{"input": 1, "output": "1"}],
        [{"input": "1", "output": 1}],
        [{"input": "[3,1,2]\n2", "output": "[1,2]", "testtype": "functional"}],
        [{"fn_name": "f", "input": "[1,2]", "output": "3", "type": "function_call"}],
        [{"call": "f", "args": 1, "result": 1}],
        [{"call": "f(1)", "args": [], "result": 1}],
        [{"call": "__import__('os')", "args": [], "result": 1}],
        [{"call": "f", "args": [math.nan], "result": 1}],
        [{"call": "f", "args": [object()], "result": 1}],
        [3],
        ["f(1) == 2"],
        ["# no assertion"],
        ["assert f(1) ==="],
        ["assert True"],
        ["assert 1 == 1"],
        ["assert f(1) == f(2)"],
        ["assert f(1) == 2 == 2"],
        ["assert f(1) != 2"],
        ["assert f(1) < 2"],
        ["assert f(1) == 2 and f(2) == 3"],
        ["assert (f(1) == 2) == True"],
        ["assert bool(f(1) == 2)"],
        ["assert all([f(1) == 2])"],
        ["assert f(1) - 2 == 0"],
        ["assert abs(f(1) - 2) < 1e-6"],
        ["assert isinstance(f(1), int)"],
        ["assert f(f(1)) == 2"],
        ["assert f(x) == 2"],
        ["assert f(lambda: 1) == 2"],
        ["assert f(*[1]) == 2"],
        ["import os\nassert f(1) == 2"],
        ["assert f(1) == 2\nx = 3"],
        ["assert (" + "(" * 500 + "f(1)" + ")" * 500 + ") == 2"],
    ],
)
def test_other_tests_are_refused(tests):
    with pytest.raises(ValueError, match=r"^[^\n]*test[^\n]*$"):
        parse_tests(tests)


@isolated
@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("print(int(input()) * 2)", {"inputs": ["3\n", "0"], "outputs": ["6\n", "0"]}),
        ("print(int(input()) + int(input()))", json.dumps({"inputs": [["3", "4"]], "outputs": [["7"]]})),
        ("def f(n): return n * 2", {"inputs": [[3], [0]], "outputs": [6, 0], "fn_name": "f"}),
        ("def f(n): return n * 2", {"inputs": [[3], [0]], "outputs": [[6], [0]], "fn_name": "f"}),
        ("def f(n): return [n] * n", {"inputs": [[1], [2]], "outputs": [[1], [2, 2]], "fn_name": "f"}),
        ("class Solution:\n def f(self, n): return n * 2", {"inputs": [[3]], "outputs": [6], "fn_name": "f"}),
    ],
)
def test_tests_as_a_pair_of_lists(code, tests):
    assert grade(code, tests) == 1.0
    assert grade(code.replace("*", "-").replace("+", "-"), tests) != 1.0


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="no column 'tests'; it has cases"):
        passes_tests(Example("?", "", data={"cases": DOUBLE}), "")


@isolated
@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("print(int(input()) * 2)", DOUBLE),
        ("print(int(input()) * 2)", json.dumps(DOUBLE)),
        ("import sys\nsys.stdout.buffer.write(b'%d\\n' % (2 * int(sys.stdin.buffer.read())))", DOUBLE),
        ("import os\nos.write(1, str(2 * int(os.read(0, 100))).encode())\nos._exit(0)", DOUBLE),
        ("n = int(input())\nif n == 0:\n    print(0)\n    exit()\nprint(2 * n)", DOUBLE),
        ("import sys\nprint(2 * int(input()), end='   \\n\\n')\nsys.exit(0)", DOUBLE),
        ("import sys\nprint(2 * int(input()))\nprint('noise', file=sys.stderr)", DOUBLE),
        ("def main():\n    print(int(input()) * 2)\nif __name__ == '__main__':\n    main()", DOUBLE),
        ("print(1 / 3)", [{"input": "", "output": "0.333333333333"}]),
        ("print(len('a\u2028\f\x1e\x85b'))", [{"input": "", "output": "6"}]),
        ("print(round(1 / 3, 6))", [{"input": "", "output": "0.333333333333"}]),
        ("print(10 ** 5000)", [{"input": "", "output": "1" + "0" * 5000}]),
        ("pass", [{"input": "", "output": ""}]),
        ("def f(x): return x * 2", DOUBLE_CALL),
        ("def f(x): return x * 2", DOUBLE_ASSERT),
        ("def f(x): return x * 2", DOUBLE_CALL + DOUBLE_ASSERT),
        ("def f(x): return x * 2", ["\n".join(DOUBLE_ASSERT)]),
        ("def f(x):\n    print('thinking')\n    return x * 2", DOUBLE_CALL),
        ("class Solution:\n    def f(self, x): return x", [{"call": "Solution().f", "args": [[1]], "result": [1]}]),
        ("f = lambda *a: a", [{"call": "f", "args": [1, [2]], "result": [1, [2]]}]),
        ("f = lambda: {1: (2, 3)}", [{"call": "f", "args": [], "result": {"1": [2, 3]}}]),
        ("f = lambda x: {x: {x}}", ["assert f(1) == {1: {1}}"]),
        ("f = lambda x: 'yes'", ["assert f(1)"]),
        ("f = lambda x: []", ["assert not f(1)"]),
        ("f = lambda x: x == x", ["assert f(1) == True"]),
        ("import collections\nf = collections.Counter", ["assert f('aab') == {'a': 2, 'b': 1}"]),
        # As in LeetCode's starter code, and with recursion as deep as answers to APPS have.
        ("class Solution:\n    def f(self, x: List[int]) -> List[int]: return sorted(x)", SORTED),
        ("def f(x):\n    h = list(x); heapify(h)\n    return [heappop(h) for _ in x]", SORTED),
        ("def f(x):\n    List = sorted\n    return List(x)", SORTED),
        (MEMOIZED.format("lru_cache(None)"), [{"input": "3000", "output": "3000"}]),
        (MEMOIZED.format("cache"), [{"input": "3000", "output": "3000"}]),
    ],
)
def test_a_right_program_passes(code, tests):
    assert grade(code, tests) == 1.0
    assert grade(code, tests, fraction=True) == 1.0


@isolated
@pytest.mark.parametrize(
    ("code", "tests", "reason"),
    [
        ("print(1)", [{"input": "", "output": "1\n2\n3"}], "wrong_output"),
        ("print(input())", DOUBLE, "wrong_output"),
        ("raise ValueError", [{"input": "", "output": ""}], "runtime_error"),
        ("exit(1)", [{"input": "", "output": ""}], "runtime_error"),
        ("print(int(input()) * 2)\nraise ValueError", DOUBLE, "runtime_error"),
        ("print(int(input()) * 2)\nimport os; os.abort()", DOUBLE, "runtime_error"),
        ("print(int(input()) * 2, flush=True)\nwhile True: pass", DOUBLE, "time_limit"),
        ("print(int(input()) * 2, flush=True)\nwhile True: print('x' * 10000)", DOUBLE, "output_limit"),
        ("syntax error", DOUBLE, "runtime_error"),
        ("def f(x): return x", DOUBLE_CALL, "wrong_result"),
        ("def g(x): return 2 * x", DOUBLE_CALL, "runtime_error"),
        ("def f(x): print(2 * x)", DOUBLE_CALL, "wrong_result"),
        ("def f(x): return str(2 * x)", DOUBLE_CALL, "wrong_result"),
        ("def f(x): return [2 * x]", DOUBLE_CALL, "wrong_result"),
        ("def f(x): raise ValueError", DOUBLE_CALL, "runtime_error"),
        ("f = lambda x: [x]", ["assert f(1) == (1,)"], "wrong_result"),
        ("f = lambda x: ''", ["assert f(1)"], "wrong_result"),
    ],
)
def test_a_wrong_program_fails(code, tests, reason):
    assert grade(code, tests, seconds=0.5 if reason == "time_limit" else 10.0) == (0.0, reason)


# Each would score where answers lay in the program's reach, or the program decided what passes.
TRICKS = {
    "exit": "import sys\nsys.exit(0)",
    "exit without clean-up": "import os\nos._exit(0)",
    "exit in the function": "import os\ndef f(x): os._exit(0)",
    "quit in the function": "def f(x): quit()",
    "right output, wrong end": "x = int(input())\nprint(2 * x, flush=True)\nimport os\nos._exit(1)",
    "end by exec": "import os\nos.execv('/bin/true', ['true'])",
    "printed success": "print('[true, null]\\nOK\\nPASSED\\n1.0\\nTrue')\ndef f(x): print('PASSED'); return True",
    "equal to all": "class E:\n    def __eq__(self, other): return True\n    __hash__ = None\ndef f(x): return E()",
    "int equal to all": "class E(int):\n    def __eq__(self, other): return True\n"
    "    def __ne__(self, other): return False\n"
    "    __hash__ = int.__hash__\ndef f(x): return E(5)",
    "list equal to all": "class E(list):\n    def __eq__(self, other): return True\ndef f(x): return E([1])",
    "float equal to all": "class E(float):\n    def __eq__(self, o): return True\n    def __sub__(self, o): return 0\n"
    "    __rsub__ = __sub__\ndef f(x): return E('nan')",
    "not a number": "def f(x): return float('nan')\nprint('nan')",
    "infinite": "def f(x): return float('inf')\nprint('inf')",
    "patched json": "import json\njson.dumps = json.dump = lambda *a, **k: 'true'\n"
    "json.loads = lambda *a: True\ndef f(x): return x + 1",
    "patched builtins": "import builtins\nbuiltins.print = lambda *a: None\nbuiltins.eval = lambda *a: True\n"
    "builtins.isinstance = lambda *a: True\ndef f(x): return x + 1",
    "patched namespaces.py": "import sys, os\nfor m in list(sys.modules.values()):\n"
    "    for n in ('plain', '_run', 'same_value', 'same_output'):\n"
    "        setattr(m, n, lambda *a, **k: True)\ndef f(x): return x + 1",
    "patched frames": "import sys\nframe = sys._getframe()\nwhile frame:\n    for name in list(frame.f_globals):\n"
    "        if name in ('plain', 'exec', 'compile'): frame.f_globals[name] = lambda *a: 6\n    frame = frame.f_back\n"
    "def f(x): return x + 1",
    "patched stdout": "import sys, io\nsys.stdout = io.StringIO()\nprint(1)\nf = print",
    "trace": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef f(x): return x + 1",
    "at exit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return x + 1",
    "patched arguments": "def f(x):\n    import sys\n    sys._getframe(1).f_locals['arguments'][:] = [0]\n    return 0",
    "audit hook": "import sys, os\nsys.addaudithook(lambda *a: None)\ndef f(x): return x + 1",
    "answers in memory": "import gc\n"
    "found = [o for o in gc.get_objects() if isinstance(o, dict) and {'output', 'result', 'expected'} & set(o)]\n"
    "for o in found: print(o.get('output', o.get('result', o.get('expected'))))\ndef f(x): return found and found[0]",
    "answers in frames": "import sys\nframe = sys._getframe()\nwhile frame:\n    for o in frame.f_locals.values():\n"
    "        if isinstance(o, dict):\n"
    "            print(*[o[k] for k in ('output', 'result', 'expected', 'tests') if k in o])\n"
    "    frame = frame.f_back\ndef f(x): return None",
    "answers in arguments": "import sys\nprint(*sys.argv, *sys.orig_argv)\ndef f(x): return sys.argv",
    "answers in files": "import os\nfor folder, _, files in os.walk('/tmp'):\n    for name in files:\n"
    "        print(open(os.path.join(folder, name)).read())\ndef f(x): return open('main.py').read()",
    "answers in descriptors": "import os\nfor fd in range(3, 64):\n"
    "    try: print(os.read(fd, 10000))\n    except OSError: pass\n"
    "def f(x): return 0",
    "all answers": "for i in range(10000): print(i)\ndef f(x): return list(range(100))",
    "forged result": "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'6')\n"
    "    except OSError: pass\nos._exit(0)",
    "forged value": "import os\ndef f(x):\n    for fd in range(3, 64):\n"
    "        try: os.write(fd, b'true')\n        except OSError: pass\n"
    "    os._exit(0)",
    "two results": "import os\ndef f(x):\n    for fd in range(3, 64):\n"
    "        try: os.write(fd, b'6 ')\n        except OSError: pass\n"
    "    return 6 if x == 3 else 1",
    "result too deep": "def f(x):\n    y = []\n    for _ in range(100000): y = [y]\n    return y",
    "result without end": "def f(x):\n    y = []\n    y.append(y)\n    return y",
    "result too long": "def f(x): return 'x' * (20 << 20)",
    "crafted set": "import os\ndef f(x):\n    for fd in range(3, 64):\n"
    '        try: os.write(fd, b\'{"set": [{"number": "x"}]}\')\n        except OSError: pass\n    os._exit(0)',
    "garbage": "import os\nfor fd in range(64):\n    try: os.write(fd, os.urandom(100_000))\n"
    "    except OSError: pass\nos._exit(0)",
    "closed descriptors": "import os\nos.closerange(0, 64)\ndef f(x): return 2 * x",
    "odd status": "import os\nos._exit(254)",
    "killed": "import os, signal\nos.killpg(0, signal.SIGRTMIN + 5)",
    "stopped": "import os, signal\nos.kill(-1, signal.SIGKILL)\nos.kill(os.getpid(), signal.SIGSTOP)",
    "no builtins": "import builtins\nvars(builtins).clear()\ndef f(x): return 2 * x",
    "no globals": "import sys\nframe = sys._getframe()\nwhile frame:\n"
    "    frame.f_globals.clear()\n    frame = frame.f_back",
    "hostile exception": "class E(SystemExit):\n    def __str__(self): raise E\n    __repr__ = __str__\n"
    "    __getattribute__ = __str__\nraise E",
    "interrupt": "def f(x): raise KeyboardInterrupt\nf(1)",
    "hostile value": "class E(set):\n    def __iter__(self): raise SystemExit(0)\n    def __len__(self): return -1\n"
    "    def __eq__(self, other): return True\n    def __hash__(self): raise SystemExit\n"
    "    __repr__ = __reduce__ = __hash__\ndef f(x): return E()",
    "value that writes": 'class E(float):\n    def __repr__(self): return \'{"set": [{"number": []}]}\'\n'
    "def f(x): return {E(1.5)}",
    "crash": "import ctypes\nctypes.string_at(0)",
    "no parents' signal": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\ndef f(x): return x + 1",
    "other thread": "import threading, os, time\n"
    "threading.Thread(target=lambda: (time.sleep(0.05), os._exit(0))).start()\n"
    "def f(x): time.sleep(1)",
}


@isolated
@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_scores(trick):
    assert grade(TRICKS[trick], DOUBLE, seconds=0.5)[0] == 0.0
    assert grade(TRICKS[trick], DOUBLE_CALL, seconds=0.5)[0] == 0.0


FORGE = (
    "import os\ndef f():\n    for fd in range(3, 64):\n"
    "        try: os.write(fd, {!r})\n        except OSError: pass\n    os._exit(0)"
)


@isolated
@pytest.mark.parametrize(
    ("sent", "result"),
    [
        (b"", None),
        (b"\xff", ""),
        (b"6 6", 6),
        (b"{}", {}),
        (b'{"a": 1, "b": 2}', {"a": 1}),
        (b'{"set": 5}', [1]),
        (b'{"dict": [1]}', {"a": 1}),
        (b'{"dict": [[{}, 1]]}', {"a": 1}),
        (b'{"int": "zz"}', 1),
        (b'{"int": 5}', 5),
        (b'{"number": "x"}', 1.5),
        (b'{"number": [1]}', 1.5),
        (b"NaN", 1.5),
        (b"[" * 100000, [1]),
    ],
)
def test_forged_results_are_no_results(sent, result):
    """Whatever a program writes in place of its result is compared, at most, as data."""
    case = {"call": "f", "args": [], "result": result}
    assert grade(FORGE.format(sent), [case]) == (0.0, "wrong_result")


@isolated
@pytest.mark.parametrize(
    "sent", [b'{"set": [{"number": "x"}, 1]}', b'{"set": [{"number": []}, {"set": 5}]}', b'{"set": 5}']
)
def test_forged_sets_are_no_sets(sent):
    assert grade(FORGE.format(sent), ["assert f() == {1, 2}"]) == (0.0, "wrong_result")


def test_no_reply_of_a_program_raises():
    chance = random.Random(0)
    kinds = ("int", "tuple", "set", "dict", "bytes", "complex", "number", "list", "str", "")
    leaves = (0, 1, 2, 1.5, math.nan, math.inf, "x", "0x1", None, True, 10**30, "\ud800", [], {})

    def reply(depth):
        if depth == 0 or chance.random() < 0.2:
            return chance.choice(leaves)
        items = [reply(depth - 1) for _ in range(chance.randrange(4))]
        return items if chance.random() < 0.3 else {chance.choice(kinds): items}

    for expected in (
        1,
        1.5,
        [1],
        (1, "a"),
        {1, 2},
        {(1, 2)},
        {1: 2},
        {"a": [1.5]},
        {1: {1}},
        b"ab",
        1 + 2j,
        2**100,
        "x",
    ):
        for _ in range(2000):
            sent = bytearray(json.dumps(reply(4)).encode())
            if chance.random() < 0.3:
                sent[chance.randrange(len(sent))] = chance.randrange(256)
            for typed in (True, False):
                assert code._difference(bytes(sent), code.Case(plain(expected), call="f()", typed=typed)) in (
                    None,
                    "wrong_result",
                )


def test_results_made_to_hash_slowly_do_not_hold_up_the_trainer():
    modulus = (1 << 61) - 1
    numbers = [{"int": hex(modulus * i)} for i in range(1, 30_000)]
    with cpu_limit(3):
        assert not same_value({"set": numbers}, plain({1, 2}), typed=True)
        assert not same_value({"dict": [[number, 1] for number in numbers]}, plain({1: 2}), typed=True)
        assert not same_value({"set": [1] * 2_000_000}, plain({1, 2}), typed=True)


@isolated
def test_fraction_is_the_fraction_of_tests_that_passed():
    program = "x = int(input())\nprint(2 * x if x > 0 else 1)"
    assert grade(program, DOUBLE, fraction=True) == (0.5, "wrong_output")
    assert grade(program, DOUBLE) == (0.0, "wrong_output")
    assert grade("def f(x): return 6 if x == 3 else 1 / 0", DOUBLE_CALL, fraction=True) == (0.25, "runtime_error")


@isolated
def test_the_first_failure_ends_it_and_all_tests_share_a_time_limit(monkeypatch):
    slow = [{"input": "", "output": ""}] * 20
    start = time.monotonic()
    assert grade("import time\ntime.sleep(60)", slow, seconds=0.3) == (0.0, "time_limit")
    assert time.monotonic() - start < 30
    monkeypatch.setattr(code, "TOTAL_SECONDS", 0.3)
    assert grade("import time\ntime.sleep(60)", slow) == (0.0, "time_limit")
    monkeypatch.setattr(code, "TOTAL_SECONDS", 4.0)
    fraction, reason = grade("import time\ntime.sleep(0.6)", slow, fraction=True)
    assert 0 < fraction < 0.5 and reason == "time_limit"


@isolated
def test_state_does_not_pass_from_test_to_test():
    code = "n = []\ndef f():\n    n.append(1)\n    return len(n)"
    assert grade(code, ["assert f() == 1"] * 2) == 1.0


def test_a_sandbox_that_does_not_start_is_no_failure_of_the_program(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "_probe", lambda: "not here")
    check_isolation.cache_clear()
    assert grade("print(6)", DOUBLE) == (None, "sandbox_unreachable")
    monkeypatch.setattr(programs, "SCRIPT", tmp_path / "none.py")
    assert grade("print(6)", DOUBLE, sandbox="unsafe") == (None, "sandbox_unreachable")
    assert grade("print(6)", DOUBLE, sandbox="unsafe", fraction=True) == (None, "sandbox_unreachable")
    check_isolation.cache_clear()


@isolated
def test_five_easy_tests_take_well_under_a_second():
    check_isolation()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert grade("print(int(input()) * 2)", (DOUBLE * 2)[:5]) == 1.0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert 0 < after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
