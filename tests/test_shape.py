"""Files and functions stay small enough to be read at once; an exception says why in the code.

Write `# shape: <reason>` on the `def` line of a function (or further down its signature), or within the first ten
lines of a file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILE_LINES, BODY_LINES, ARGUMENTS = 450, 60, 8
# a call of more than so many arguments is read by their names: all but the first few are keyword-only
UNNAMED, POSITIONAL = 6, 4
REASON = re.compile(r"# shape: \S+ \S+")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_source_keeps_its_shape() -> None:
    complaints = [line for path in sorted(SOURCE.rglob("*.py")) for line in too_large(path.name, path.read_text())]
    assert not complaints, "\n" + "\n".join(complaints)


def too_large(name: str, text: str) -> Iterator[str]:
    """Yield a line for each thing in the source text `text` of file `name` that exceeds a limit without a reason."""
    lines = text.splitlines()
    if len(lines) > FILE_LINES and not has_reason(lines[:10]):
        yield f"{name}: {len(lines)} lines; at most {FILE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function) and not has_reason(lines[node.lineno - 1 : node.body[0].lineno]):
            if (length := body_lines(node, lines)) > BODY_LINES:
                yield f"{name}:{node.lineno} {node.name}: a body of {length} lines; at most {BODY_LINES}"
            if (count := arguments(node)) > ARGUMENTS:
                yield f"{name}:{node.lineno} {node.name}: {count} arguments; at most {ARGUMENTS} (an object is missing)"
            elif count > UNNAMED and (count := positional(node)) > POSITIONAL:
                yield f"{name}:{node.lineno} {node.name}: {count} positional arguments; at most {POSITIONAL} of so many"


def has_reason(lines: list[str]) -> bool:
    return any(REASON.search(line) for line in lines)


def body_lines(node: Function, lines: list[str]) -> int:
    """Count the lines of a function's body, without its docstring and without blank lines."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if not body:
        return 0
    return sum(bool(line.strip()) for line in lines[body[0].lineno - 1 : node.end_lineno])


def arguments(node: Function) -> int:
    """Count the parameters of a function, without `self` and `cls`."""
    more = [*node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return positional(node) + sum(parameter is not None for parameter in more)


def positional(node: Function) -> int:
    """Count the parameters that a call may give without their names, without `self` and `cls`."""
    return sum(one.arg not in ("self", "cls") for one in [*node.args.posonlyargs, *node.args.args])


LONG_BODY = "def f():\n" + "    x = 1\n" * (BODY_LINES + 1)
LONG_FILE = "x = 1\n" * (FILE_LINES + 1)
MANY = ", ".join("abcdefghi")
SEVEN = "a, b, c, d, *, e, f, g"


@pytest.mark.parametrize(
    "text",
    [
        LONG_BODY,
        LONG_FILE,
        f"def f({MANY}): ...",
        f"class A:\n    def f(self, *, {MANY}): ...",
        f"def f({SEVEN.replace('d, *,', 'd,')}): ...",
    ],
)
def test_what_is_too_large_is_found(text: str) -> None:
    assert len(list(too_large("a.py", text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        LONG_BODY.replace("():", "():  # shape: one table of cases"),
        "# shape: generated from the schema\n" + LONG_FILE,
        f"def f(  # shape: the command's options\n    {MANY}\n): ...",
        "def f():\n    '''" + "\n" * 80 + "'''\n    return 1\n",
        f"class A:\n    def f(self, {SEVEN}): ...",
    ],
)
def test_what_has_its_reason_or_its_size_passes(text: str) -> None:
    assert list(too_large("a.py", text)) == []
