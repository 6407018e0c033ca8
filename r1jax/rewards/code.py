"""1.0 for a Python program that passes its tests in `r1jax.sandbox.programs`, else 0.0 with the reason.

    example = Example("Double it.", "", data={"tests": [{"input": "3\\n", "output": "6\\n"}]})
    passes_tests(example, "<think>r</think>```python\\nprint(int(input()) * 2)\\n```")  # 1.0

Outputs are compared in this process. The program never has access to an expected output, so it has to compute it.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import itertools
import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1jax.answers.extraction import after_reasoning
from r1jax.rewards.example import Example, RewardResult
from r1jax.rewards.format import strip_end
from r1jax.sandbox.namespaces import plain
from r1jax.sandbox.programs import SandboxError, run_program

TOTAL_SECONDS = 60.0  # the time limit of all tests of one program together
TOLERANCE = 1e-6
MIN_PRECISION = 1e-3  # the relative error that a float may have at most, however small it is
LANGUAGES = ("python", "python3", "py")
TEST_FORMATS = '{"input": …, "output": …}, {"call": "f", "args": […], "result": …} or "assert f(…) == …"'
_OPENING = re.compile(r"\s*+(?:<answer>\s*+)?(?:(?:[-*+]|\d+[.)])\s++)?(`{3,}+|~{3,}+)\s*+([\w+-]*+)[^`]*+")
_CLOSING = re.compile(r"\s*+(`{3,}+|~{3,}+)\s*+(?:</answer>.*)?")
_TOKEN = re.compile(rb"\S+")
# Without leading zeros, which make a text ("007"), and with an exponent as programs print it, since "1e5" may be
# hexadecimal.
_NUMBER = re.compile(rb"[+-]?(?:(?:0|[1-9]\d*)(\.\d*)?|(\.\d+))([eE][+-]\d+)?")


@dataclass(frozen=True)
class Case:
    """One test: the expected output for `stdin`; or, with a `call`, its expected value as `namespaces.plain` writes it.

    `typed` distinguishes tuples from lists and the key 1 from the key "1", which values from JSON cannot.
    """

    expected: Any
    stdin: str = ""
    call: str | None = None
    arguments: Sequence[Any] = ()
    typed: bool = False


def passes_tests(
    example: Example, completion: str, *, seconds: float = 5.0, fraction: bool = False, sandbox: str = "auto"
) -> RewardResult:
    """1.0 where the program passes all tests in data["tests"]; with `fraction`, the fraction of tests that it passes.

    `extract_program` finds the program, `parse_tests` reads the tests, `same_output` and `same_value` compare. Each
    test runs in a new process with a limit of `seconds`; tests that have not run after TOTAL_SECONDS fail. An exit
    status other than 0 fails a test, even where no output is expected. Without `fraction`, grading ends at the first
    failure. The reason is that of the first failure: unclosed_think, no_code, time_limit, output_limit, runtime_error,
    wrong_output or wrong_result. Where the sandbox does not start, the result is None and sandbox_unreachable. Raises
    ValueError as `parse_tests` does.
    """
    if "tests" not in example.data:
        raise ValueError(f"the example has no column 'tests'; it has {', '.join(example.data) or 'none'}")
    cases = parse_tests(example.data["tests"])
    if after_reasoning(completion, example.prompt_opens_think) is None:
        return 0.0, "unclosed_think"
    code = extract_program(completion, prompt_opens_think=example.prompt_opens_think)
    if code is None:
        return 0.0, "no_code"
    passed, reason, left = 0, None, TOTAL_SECONDS
    for case in cases:
        if left <= 0:
            reason = reason or "time_limit"
            break
        try:
            run = run_program(code, case.stdin, case.call, case.arguments, seconds=min(seconds, left), sandbox=sandbox)
        except (SandboxError, ValueError):  # the program did not start
            return None, "sandbox_unreachable"
        left -= run.seconds
        failure = run.reason or _difference(run.output, case)
        passed += failure is None
        reason = reason or failure
        if reason and not fraction:
            break
    if reason is None:
        return 1.0
    return (passed / len(cases) if fraction else 0.0), reason


def extract_program(completion: str, *, prompt_opens_think: bool = False) -> str | None:
    """The last code block after the reasoning that is marked as Python; where none is, the last without a language.

    The reasoning ends at the last `</think>`, as in `extraction.final_answer`. A block is Markdown's: from a line that
    begins with three or more backticks or tildes, and python, python3 or py, in any case, to a line of at least as
    many. A list's marker or `<answer>` may precede and `</answer>` follow it. A last block that is not closed was
    truncated; then there is no program.
    """
    text = after_reasoning(strip_end(completion), prompt_opens_think)
    if text is None:
        return None
    blocks, block, fence, language = {}, [], "", ""
    for line in re.split(r"\r\n?|\n", text):  # the only line ends of Python and of Markdown
        if fence:
            closing = _CLOSING.fullmatch(line)
            if closing and closing[1].startswith(fence):
                blocks[language], fence = block, ""
            else:
                block.append(line)
        elif opening := _OPENING.fullmatch(line):
            block, fence = [], opening[1]
            language = "python" if opening[2].lower() in LANGUAGES else opening[2]
    if fence:
        blocks[language] = None
    block = blocks.get("python", blocks.get(""))
    if block is None:
        return None
    indents = (line[: len(line) - len(line.lstrip(" \t"))] for line in block if line.strip())
    margin = min(indents, key=len, default="")
    return "\n".join(line.removeprefix(margin) for line in block)


def parse_tests(tests: str | Sequence[Any] | Mapping[str, Any]) -> list[Case]:
    """Reads tests from a data set: a list, or its JSON text, of the following. Raises ValueError for anything else.

    - `{"input": text, "output": text}`: a program that reads stdin and prints.
    - `{"call": "f", "args": [...], "result": value}`: a function; a method is written "Solution().f".
    - `"assert f(1) == 2"`, as in MBPP: a call with plain data, which may be indexed or inside one of WRAPPERS, compared
      with a literal. `assert f(1)` and `assert not f(1)` test its truth. The comparison happens in this process, so
      assertions that only the program's process could decide are refused.

    Instead of a list, as in APPS and TACO: `{"inputs": [...], "outputs": [...]}` with texts or lists of lines; or, with
    `"fn_name": "f"`, the arguments and values of f, or of Solution().f where the program has that class. Where every
    output is a list of one element, as in these data sets, the element is the value.
    """
    if isinstance(tests, str):
        try:
            tests = json.loads(tests)
        except ValueError as error:
            raise ValueError(f"need a list of tests or its JSON text, got {_short(tests)}: {error}") from None
    name = None
    if isinstance(tests, Mapping) and {"inputs", "outputs"} <= tests.keys():
        tests, name = _listed(tests), tests.get("fn_name")
    if not isinstance(tests, list | tuple) or not tests:
        raise ValueError(f"need a list of at least one test, got {_short(tests)}; write tests as {TEST_FORMATS}")
    cases = [case for number, test in enumerate(tests, 1) for case in _parse(test, number)]
    if isinstance(name, str) and name.isidentifier():
        call = f"(Solution().{name} if 'Solution' in globals() else {name})(*arguments)"
        cases = [dataclasses.replace(case, call=call) for case in cases]
    return cases


def same_output(output: bytes, expected: str) -> bool:
    r"""Whether an output has the same words as the expected one; white space only separates words, and case matters.

    Where a decimal x is expected, a number may differ from it by TOLERANCE * max(1, |x|), as contests allow, but by no
    more than MIN_PRECISION * |x|, so that "0" is no "0.0000004"; where "0.0" is expected, by TOLERANCE. Where a whole
    number is expected, it may have decimals of exactly that value ("3.0" for "3"), but no leading zeros.
    """
    wanted = expected.encode("utf-8", "surrogatepass")
    pairs = itertools.zip_longest(_TOKEN.finditer(output), _TOKEN.finditer(wanted))
    return all(a and b and (a[0] == b[0] or _same_decimal(a[0], b[0])) for a, b in pairs)


def same_value(value: Any, expected: Any, *, typed: bool) -> bool:
    """Whether two values written by `namespaces.plain` are equal as in Python, floats as in `same_output`.

    Neither is turned into a Python object, since a program could send one that takes forever to hash.
    """
    (kind, a), (wanted, b) = _kind(value), _kind(expected)
    if kind != wanted and (typed or (kind, wanted) != ("tuple", "list")):
        return False
    if kind == "number":
        return a == b or (isinstance(b, float) and _close(a, b))
    if kind in ("list", "tuple", "complex"):
        return len(a) == len(b) and all(same_value(x, y, typed=typed) for x, y in zip(a, b, strict=True))
    if kind == "set":
        return len(a) == len(b) and {_key(item) for item in a} == {_key(item) for item in b}
    if kind == "dict" and len(a) == len(b):
        a, b = ({_key(key, typed): item for key, item in items} for items in (a, b))
        return a.keys() == b.keys() and all(same_value(a[key], b[key], typed=typed) for key in b)
    return a == b


def _difference(output: bytes, case: Case) -> str | None:
    if case.call is None:
        return None if same_output(output, case.expected) else "wrong_output"
    try:
        same = same_value(json.loads(output), case.expected, typed=case.typed)
    except Exception:  # a program may write anything, and no exception here may keep it from being scored
        same = False
    return None if same else "wrong_result"


def _same_decimal(word: bytes, expected: bytes) -> bool:
    if len(word) > 300 or len(expected) > 300:
        return False
    a, b = _NUMBER.fullmatch(word), _NUMBER.fullmatch(expected)
    if not a or not b or not (any(a.groups()) or any(b.groups())):
        return False
    return _close(float(word), float(expected)) if any(b.groups()) else float(word) == int(expected)


def _close(a: float, b: float) -> bool:
    most = min(TOLERANCE * max(1.0, abs(b)), MIN_PRECISION * abs(b)) if b else TOLERANCE
    try:
        return math.isfinite(b) and abs(a - b) <= most
    except OverflowError:
        return False


def _kind(tree: Any) -> tuple[str, Any]:
    if isinstance(tree, dict):
        ((kind, content),) = tree.items()
        return ("number", int(content, 16)) if kind == "int" else (kind, content)
    if isinstance(tree, int | float):
        return "number", tree
    return type(tree).__name__, tree


def _key(tree: Any, typed: bool = True) -> str:
    """A text that is the same for keys that are equal in Python, or, where not `typed`, that are the same in JSON."""
    if not typed and (tree is None or isinstance(tree, int | float)):
        tree = json.dumps(tree)
    kind, content = _kind(tree)
    if kind == "number":
        whole = isinstance(content, int) or content.is_integer()
        return hex(int(content)) if whole else repr(content)
    if kind in ("tuple", "set"):
        keys = [_key(item) for item in content]
        return f"{kind}({', '.join(sorted(keys) if kind == 'set' else keys)})"
    return f"{kind} {content!r}"


def _listed(tests: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The list of tests that a pair of lists stands for."""
    inputs, outputs = tests["inputs"], tests["outputs"]
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise ValueError(f"the tests need inputs and outputs of the same length, got {_short(dict(tests))}")
    if tests.get("fn_name") is not None:
        if all(isinstance(output, list) and len(output) == 1 for output in outputs):
            outputs = [output[0] for output in outputs]
        return [{"call": tests["fn_name"], "args": a, "result": b} for a, b in zip(inputs, outputs, strict=True)]
    return [{"input": _lines(a), "output": _lines(b)} for a, b in zip(inputs, outputs, strict=True)]


def _lines(text: Any) -> Any:
    """The text of a list of lines; anything else as it is."""
    lines = isinstance(text, list) and all(isinstance(line, str) for line in text)
    return "\n".join(text) if lines else text


def _parse(test: Any, number: int) -> list[Case]:
    match test:
        case str():
            with contextlib.suppress(SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
                if cases := [_assertion(statement) for statement in ast.parse(test.strip()).body]:
                    return cases
            raise ValueError(
                f"test {number} is {_short(test)}; an assertion has to compare a call with a literal, as in "
                f"assert f(1, [2]) == 3; rewrite it or drop it"
            )
        case {"testtype": "functional"} | {"type": "function_call"}:
            raise ValueError(
                f"test {number} calls a function with its input: {_short(test)}; write it as "
                '{"call": "f", "args": […], "result": …}'
            )
        case {"input": str(stdin), "output": str(output)}:
            return [Case(output, stdin=stdin)]
        case {"call": str(name), "args": list(arguments), "result": result} if _NAME.fullmatch(name):
            try:
                arguments, result = json.loads(json.dumps([arguments, result], allow_nan=False))
            except (TypeError, ValueError, RecursionError) as error:
                raise ValueError(f"test {number} needs plain JSON, got {_short(test)}: {error}") from None
            return [Case(plain(result), call=f"{name}(*arguments)", arguments=arguments)]
    raise ValueError(f"test {number} is {_short(test)}; write it as {TEST_FORMATS}")


_NAME = re.compile(r"(?:[^\W\d]\w*\(\)\.)?[^\W\d]\w*")
# Functions that an assertion may apply to the call, and with which it may make data.
WRAPPERS = ("set", "frozenset", "sorted", "list", "tuple", "dict", "len", "sum", "str", "round", "abs")
_CONSTRUCTORS = {"set": set, "frozenset": frozenset, "list": list, "tuple": tuple, "dict": dict, "float": float}
_DATA = (
    ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.USub, ast.UAdd, ast.BinOp, ast.operator,
    ast.Slice, ast.expr_context,
)  # fmt: skip


def _assertion(statement: ast.stmt) -> Case:
    """The case of an assertion. Raises ValueError for any other statement, and for an assertion that cannot be one."""
    if not isinstance(statement, ast.Assert):
        raise ValueError("not an assertion")
    match statement.test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            call, literal = (left, right) if _is_call(left) else (right, left)
            expected, source = plain(_literal(literal)), ast.unparse(call)
        case ast.UnaryOp(op=ast.Not(), operand=call):
            expected, source = False, f"bool({ast.unparse(call)})"
        case call:
            expected, source = True, f"bool({ast.unparse(call)})"
    if not _is_call(call):
        raise ValueError("not a call of the program")
    return Case(expected, call=source, typed=True)


def _is_call(node: ast.expr) -> bool:
    """Whether this calls the program with plain data and does nothing but index or convert the value."""
    match node:
        case ast.Subscript(value=value, slice=index):
            return _is_call(value) and _is_data(index)
        case ast.Call(func=ast.Name(id=name), args=[inner, *rest], keywords=keywords) if name in WRAPPERS:
            return _is_call(inner) and all(map(_is_data, [*rest, *(keyword.value for keyword in keywords)]))
        case ast.Call(func=function, args=arguments, keywords=keywords):
            named = _NAME.fullmatch(ast.unparse(function)) is not None
            return named and all(map(_is_data, [*arguments, *(keyword.value for keyword in keywords)]))
    return False


def _is_data(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in (*_CONSTRUCTORS, "range"):
            return all(map(_is_data, arguments))
    return isinstance(node, _DATA) and all(map(_is_data, ast.iter_child_nodes(node)))


def _literal(node: ast.expr) -> Any:
    """The value of a literal, which may be inside one of _CONSTRUCTORS. Raises ValueError for anything else."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=[] | [_] as arguments, keywords=[]) if name in _CONSTRUCTORS:
            return _CONSTRUCTORS[name](*map(ast.literal_eval, arguments))
    return ast.literal_eval(node)


def _short(value: Any) -> str:
    return textwrap.shorten(repr(value), 80, placeholder="…")
