"""The public face: names with docstrings, a quick command line, one version, and nothing of the build machine."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import assay

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# torch and what imports it or takes long itself: `assay --help` waits for none of these.
HEAVY = ["torch", "torchvision", "numpy", "scipy", "pyarrow", "altair", "PIL", "pydantic", "jinja2"]
COMMANDS = ["run", "plan", "validate", "ls", "show", "report", "doctor"]
COMMANDS += ["models", "attacks", "data", "train", "patch", "paper", "schema", "demo"]
FOREIGN = re.compile(
    r"/(?:work|root|f[a-z]{2}m)/|/tmp/(?:plan|bash_jobs)|\.\./shared|shared/d\w+|\bissue \d|CONTRACT\.md"
)


@pytest.mark.parametrize("name", assay.__all__)
def test_every_public_name_exists_and_says_what_it_is(name: str) -> None:
    thing = getattr(assay, name)
    if inspect.ismodule(thing) or callable(thing):
        assert inspect.getdoc(thing), f"assay.{name} has no docstring"


def test_public_names_are_listed_and_others_are_errors() -> None:
    assert set(assay.__all__) <= set(dir(assay))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = assay.no_such_name


def test_evaluate_stays_a_function() -> None:
    # the package has a folder of the same name, and importing from it must not put the module in the function's place
    importlib.import_module("assay.evaluation.study.spec")
    assert callable(assay.evaluate)


def test_one_version() -> None:
    assert assay.__version__ == PROJECT["version"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="assay")
    assert callable(command.load())


def imported(statement: str) -> set[str]:
    """Return the modules that `statement` brings in, in a fresh interpreter."""
    probe = f"{statement}\nimport sys; print('\\n'.join(sys.modules), file=sys.__stdout__)"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import assay",
        "import assay.cli",
        "import sys, contextlib, io, assay.cli; sys.argv = ['assay', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): assay.cli.main()",
    ],
    ids=["import assay", "import assay.cli", "assay --help"],
)
def test_help_does_not_wait_for_torch(statement: str) -> None:
    assert not imported(statement).intersection(HEAVY)


def test_help_names_every_command() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import assay.cli; assay.cli.main()", "--help"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", run.stdout)] == []


def product_files() -> list[Path]:
    """Return the text files that belong to the product: what git knows or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode:
        pytest.skip("not a git clone")
    suffixes = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".html", ".css", ".js", ".json", ""}
    paths = [ROOT / line for line in listing.stdout.splitlines()]
    return [path for path in paths if path.suffix in suffixes and path.is_file() and path != Path(__file__)]


def test_nothing_of_the_build_machine_is_left() -> None:
    files = product_files()
    assert len(files) > 50
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()[:90]}"
        for path in files
        for number, line in enumerate(path.read_text(errors="ignore").splitlines(), 1)
        if FOREIGN.search(line)
    ]
    assert not found, "\n" + "\n".join(found)


def test_names_that_moved_still_work_in_attacks_that_users_have_written() -> None:
    moved = {
        "assay.core.oracle": {"Seen": "Observation", "Direct": "TorchOracle"},
        "assay.core.search": {"Found": "SearchResult", "Terms": "Limits"},
    }
    for module, names in moved.items():
        for old, new in names.items():
            with pytest.warns(DeprecationWarning, match=new):
                assert getattr(importlib.import_module(module), old).__name__ == new
    with pytest.warns(DeprecationWarning, match=r"assay\.training\.Madry"):
        from assay.defenses import Madry
    assert Madry is importlib.import_module("assay.training").Madry
