"""What a release promises: its size, its numbers, its licences, and that it starts on systems that are not POSIX."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import assay

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name not in ("dev", "all")}

# modules that a Python on Windows lacks, and names of `os` and `signal` that it lacks
POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}
POSIX_NAMES = {
    "os": {"fork", "forkpty", "getuid", "geteuid", "getgid", "killpg", "setsid", "getpgid", "setpgid",
           "sched_getaffinity", "sched_setaffinity", "uname", "statvfs", "mkfifo", "chown",
           "getloadavg", "nice", "wait4", "sysconf"},
    "signal": {"SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGSTOP", "SIGCONT", "alarm",
               "setitimer", "pthread_sigmask", "sigwait"},
}  # fmt: skip
GUARD = re.compile(r"os\.name|sys\.platform|hasattr|platform\.system|find_spec")


def test_the_number_is_the_same_everywhere() -> None:
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert cited is not None
    assert {PROJECT["version"], assay.__version__} == {cited[1]}
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_wheel_and_source_are_small_and_make_the_same_wheel(tmp_path: Path) -> None:
    _build(ROOT, tmp_path, "sdist", "wheel")
    (wheel,), (source,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    assert wheel.stat().st_size <= 10 * 2**20
    with tarfile.open(source) as packed:
        packed.extractall(tmp_path, filter="data")
    again = tmp_path / "again"
    _build(tmp_path / source.name.removesuffix(".tar.gz"), again, "wheel")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again / wheel.name) as other:
        contents = [{name: archive.read(name) for name in archive.namelist()} for archive in (one, other)]
    assert contents[0] == contents[1]
    names = set(contents[0])
    assert {
        "assay/py.typed",
        "assay/models/weights/mnist-cnn.safetensors",
        "assay/paper/sen2023/table-i.yaml",
    } <= names
    for template in (ROOT / "src" / "assay").rglob("templates/*"):
        assert template.relative_to(ROOT / "src").as_posix() in names


def _build(project: Path, target: Path, *kinds: str) -> None:
    line = [sys.executable, "-m", "hatchling", "build", "-d", str(target), *(f"--target={kind}" for kind in kinds)]
    subprocess.run(line, cwd=project, check=True, capture_output=True, timeout=120)


def test_every_page_is_in_the_site() -> None:
    told = re.findall(r"- ([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(told) == sorted(pages)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table of licences."""

    extras: frozenset[str]
    release: str
    licence: str


def _listed() -> dict[str, Row]:
    text = (ROOT / "docs" / "licences.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| ([\w.-]+) \| ([\w.]+) \| (.+) \|$", text, re.M)
    return {name.lower(): Row(frozenset(extras.split(", ")), *more) for extras, name, *more in rows}


def test_licences_of_all_extras_are_listed() -> None:
    wanted: dict[str, set[str]] = {}
    for extra, requirements in {"always": PROJECT["dependencies"], **EXTRAS}.items():
        for one in requirements:
            wanted.setdefault(_name(one), set()).add(extra)
    assert {name: row.extras for name, row in _listed().items()} == wanted


@pytest.mark.parametrize("name", sorted(_listed()))
def test_a_licence_is_the_one_that_the_package_states(name: str) -> None:
    try:
        told = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed here")
    row = _listed()[name]
    if told["Version"] != row.release:
        pytest.skip(f"{name} {told['Version']} is installed, and the licence was read of {row.release}")
    kinds = [kind.rpartition(" :: ")[2] for kind in told.get_all("Classifier") or [] if kind.startswith("License ::")]
    plain = (told.get("License") or "").strip()
    stated = {told.get("License-Expression") or "", *kinds, plain if plain.upper() != "UNKNOWN" else ""} - {""}
    assert row.licence in (stated or {"none stated"})


def test_all_holds_every_extra_that_measures() -> None:
    (line,) = PROJECT["optional-dependencies"]["all"]
    assert set(re.findall(r"[\w-]+", line.partition("[")[2])) == EXTRAS.keys() - {"mlflow", "wandb"}


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None, requirement
    return found[0].lower()


def test_what_only_posix_has_is_guarded() -> None:
    source = ROOT / "src" / "assay"
    found = [
        f"{path.relative_to(source)}:{line} {name}"
        for path in sorted(source.rglob("*.py"))
        for line, name in unguarded(path.read_text("utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "import fcntl",
        "def f():\n    import resource",
        "import os\nos.fork()",
        "import signal\nx = signal.SIGKILL",
        "from pwd import getpwnam",
    ],
)
def test_the_guard_sees_what_is_not_guarded(text: str) -> None:
    assert unguarded(text)


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None",
        "import os\nx = os.getuid() if hasattr(os, 'getuid') else 0",
        "import os\ndef f():\n    if os.name != 'posix':\n        return\n    os.killpg(1, 2)",
        "import os\ndef f():\n    import fcntl  # posix: the caller asked",
    ],
)
def test_the_guard_lets_through_what_is(text: str) -> None:
    assert not unguarded(text)


def unguarded(text: str) -> list[tuple[int, str]]:
    """Return the lines that need a POSIX system, and that neither a test nor a `# posix: reason` stands before."""
    tree, lines = ast.parse(text), text.splitlines()
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        for name in _needs_posix(node):
            line = node.lineno  # type: ignore[attr-defined]  # imports and attributes have a place
            if "# posix: " not in lines[line - 1] and not _guarded(node, parents, text):
                found.append((line, name))
    return found


def _needs_posix(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [one.name for one in node.names if one.name in POSIX_MODULES]
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.module in POSIX_MODULES else []
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [f"{node.value.id}.{node.attr}"] if node.attr in POSIX_NAMES.get(node.value.id, ()) else []
    return []


def _guarded(node: ast.AST, parents: dict[ast.AST, ast.AST], text: str) -> bool:
    line = node.lineno  # type: ignore[attr-defined]  # as above
    while node in parents:
        node = parents[node]
        if isinstance(node, ast.Try) and any(
            "Error" in (ast.get_source_segment(text, one) or "").split("\n")[0] for one in node.handlers
        ):
            return True
        if isinstance(node, (ast.If, ast.IfExp)) and GUARD.search(ast.get_source_segment(text, node.test) or ""):
            return True
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # one that has returned by then
            earlier = [one for one in ast.walk(node) if isinstance(one, ast.If) and one.lineno < line]
            if any(
                GUARD.search(ast.get_source_segment(text, one.test) or "")
                and isinstance(one.body[-1], (ast.Return, ast.Raise))
                for one in earlier
            ):
                return True
    return False
