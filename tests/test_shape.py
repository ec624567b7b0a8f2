"""Files and functions stay small enough to be read at once; an exception says why in the code.

Write `# shape: <reason>` on the `def` line of a function (or further down its signature), or within the first ten
lines of a file.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILE_LINES, BODY_LINES, ARGUMENTS = 450, 60, 8
# a call of more than so many arguments is read by their names: all but the first few are keyword-only
UNNAMED, POSITIONAL = 6, 4
SMALL = 60
"""A file of fewer lines that one other file alone imports belongs there, unless it says why not."""

REASON = re.compile(r"# shape: \S+ \S+")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_source_keeps_its_shape() -> None:
    complaints = [line for path in sorted(SOURCE.rglob("*.py")) for line in too_large(path.name, path.read_text())]
    assert not complaints, "\n" + "\n".join(complaints)


def test_small_files_have_several_readers_or_a_reason() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    found = too_small({name_of(path): text for path, text in texts.items() if path.name != "__init__.py"}, texts)
    assert not found, "\n" + "\n".join(found)


def name_of(path: Path) -> str:
    """Return the name of a module by its path."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def too_small(modules: Mapping[str, str], texts: Mapping[Path, str]) -> list[str]:
    """Return a line for each small module that one file of `texts` alone imports, and that says no reason."""
    readers: dict[str, set[Path]] = defaultdict(set)
    for path, text in texts.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for name in names:
                readers[name].add(path)
    return [
        f"{name}: {len(lines)} lines, and one reader, {name_of(*readers[name])}; join them, or say why not: # shape: …"
        for name, lines in ((name, text.splitlines()) for name, text in modules.items())
        if len(lines) < SMALL and len(readers[name]) == 1 and not has_reason(lines[:10])
    ]


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


def test_a_small_file_with_one_reader_is_found() -> None:
    modules = {"assay.a": "x = 1\n", "assay.b": "# shape: an example of its own\n", "assay.c": "x = 1\n" * SMALL}
    one, two = SOURCE / "one.py", SOURCE / "two.py"
    reading = "from assay.a import x\nfrom assay import b\nimport assay.c\n"
    assert [line.split(":")[0] for line in too_small(modules, {one: reading})] == ["assay.a"]
    assert not too_small(modules, {one: reading, two: "from assay.a import x\n"})
