"""Every example of the documentation runs.

The convention, by the fence of a code block in README.md, CONTRIBUTING.md and docs/**/*.md:

- ```python              runs; the blocks of a page share their names
- ```python title="a.py" is written to the file a.py (any language: YAML studies, Python models)
- ```console             every `$ assay …` line runs, in order; `# exit code 2` at its end says which code it returns
- anything else (```bash, ```text) is shown and does not run

Each page runs in a temporary directory of its own which holds `photos/` (also called `DIR/`): twelve drawn pictures,
six in the folder `circle` and six in `square`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import re
import shlex
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

import assay
from assay.audit.audit import PRESETS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^( *)```(\w+)([^\n`]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
_EXIT = re.compile(r"#\s*exit code (\d+)\s*$")
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced code block: its language, the file it is to be written to, its text, and the line it starts on."""

    language: str
    title: str | None
    text: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        indent, language, rest, code = match.groups()
        title = _TITLE.search(rest)
        lines = [line.removeprefix(indent) for line in code.splitlines()]
        yield Block(language, title and title[1], "\n".join(lines) + "\n", text[: match.start()].count("\n") + 1)


def commands(block: Block) -> Iterator[tuple[list[str], int]]:
    """Yield the arguments of every `$ assay` line, and the exit code it says it has."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            code = _EXIT.search(line)
            words = shlex.split(line[2:], comments=True)
            assert words[0] == "assay", (
                f"line {block.line}: only assay runs in a console block; use bash for {words[0]}"
            )
            yield words[1:], int(code[1]) if code else 0


def draw_pictures(folder: Path) -> None:
    for shape in ("circle", "square"):
        (folder / shape).mkdir(parents=True)
        for i in range(6):
            picture = Image.new("RGB", (32, 32), (20 * i, 40, 90))
            draw = ImageDraw.Draw(picture)
            kind = draw.ellipse if shape == "circle" else draw.rectangle
            kind([4 + i, 6, 22 + i, 24], fill=(230, 200 - 20 * i, 60))
            picture.save(folder / shape / f"{i}.png")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    draw_pictures(tmp_path / "photos")
    (tmp_path / "DIR").symlink_to("photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(arguments: list[str]) -> int:
    """Run the command line in this process: a fresh one would spend its time on importing torch."""
    from assay.cli import main

    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a real module: dataclasses and pickle look the module of a class up
    module = types.ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)
    if page.name in ("README.md", "getting-started.md", "studies.md"):
        # what an escalation finds is the matter of other pages; here it ends early
        short = dataclasses.replace(PRESETS["quick"], times=1, each=0, resolution=1.0, looks=0)
        monkeypatch.setitem(PRESETS, "quick", short)  # type: ignore[arg-type]  # a plain dictionary
    for block in blocks(page.read_text()):
        where = f"{page.name}, line {block.line}"
        if block.title:
            (workplace / block.title).write_text(block.text)
        elif block.language == "python":
            with warnings.catch_warnings():
                # the networks of examples are untrained, and the look before a run says so
                warnings.simplefilter("ignore", assay.AssayWarning)
                exec(compile("\n" * block.line + block.text, str(page), "exec"), module.__dict__)
        elif block.language == "console":
            for arguments, expected in commands(block):
                assert run_command(arguments) == expected, f"{where}: assay {shlex.join(arguments)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = _LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_blocks_are_found() -> None:
    text = (
        "a\n```python\nx = 1\n```\n"
        '```yaml title="s.yaml"\nb: 1\n```\n'
        "- list\n  ```console\n  $ assay ls  # exit code 2\n  ```\n"
    )
    first, second, third = blocks(text)
    assert (first.language, first.title, first.text, first.line) == ("python", None, "x = 1\n", 2)
    assert (second.language, second.title, second.text) == ("yaml", "s.yaml", "b: 1\n")
    assert list(commands(third)) == [(["ls"], 2)]


def test_every_column_and_exit_code_is_explained() -> None:
    from assay.console.exit_codes import Exit
    from assay.evaluation.records.schema import SCHEMA, STATUSES

    records, codes = ((ROOT / "docs" / page).read_text() for page in ("records.md", "exit-codes.md"))
    assert [name for name in (*SCHEMA.names, *STATUSES) if f"`{name}`" not in records] == []
    assert [int(code) for code in Exit if f"| {int(code)} |" not in codes] == []


def test_every_public_name_has_its_place_on_the_python_page() -> None:
    import assay

    page = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in assay.__all__ if name != "__version__" and f"::: assay.{name}\n" not in page] == []


@pytest.fixture
def checks_page(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("checks_page")


@pytest.fixture
def measured() -> Any:
    return json.loads((ROOT / "docs" / "audit" / "calibration.json").read_text())


def test_the_pages_of_checks_are_made_of_the_table_and_the_measurements(checks_page: Any, measured: Any) -> None:
    made, there = checks_page.files(measured), checks_page.written()
    assert made.keys() == there.keys()
    assert [name for name in made if made[name] != there[name]] == []
    site = (ROOT / "mkdocs.yml").read_text()
    assert [name for name in made if name.endswith(".md") and f"- {name}\n" not in site] == []


def test_the_measurements_are_of_these_checks_and_attacks(measured: Any) -> None:
    from assay.attacks import ATTACKS
    from assay.audit.checks import VERSION

    now = {"checks": VERSION, **{name: entry.version for name, entry in ATTACKS.items()}}
    assert [name for name, one in measured.items() if not one["versions"].items() <= now.items()] == []


def test_pages_of_checks_hold_measurements_of_any_group_with_any_seeds(checks_page: Any, measured: Any) -> None:
    first = measured["jpeg"]["audits"][0]
    audit = {**first, "seed": 7, "checks": {"rounding": [None, True, 0, None], "batch": [math.inf, False, 2, 0.0]}}
    other = {**measured["jpeg"], "group": "other", "audits": [audit], "norm": "l2", "eps": "0.5", "digits": 20}
    made = checks_page.files({**measured, "lite0 jpeg l2": other})
    seeds = {audit["seed"] for one in measured.values() for audit in one["audits"]}
    row = "| other | lite0 jpeg | l2 0.5 | pgd |" + "  |" * len(seeds) + " "
    assert f"\n{row}**no value**, flag |\n" in made["checks/rounding.md"]
    assert f"\n{row}inf % |\n" in made["checks/batch.md"]
    assert f"\n{row} |\n" in made["checks/silent-success.md"]
    assert "### other" in made["checks.md"]
    assert ">other</text>" in made["audit/rounding.svg"]


def test_how_small_a_loss_a_gate_finds_is_what_its_own_numbers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    table = importlib.import_module("gate_power").table()
    assert table in (ROOT / "docs" / "gate.md").read_text(encoding="utf-8"), "old: python scripts/gate_power.py"


def test_the_drawing_of_the_rooms_is_that_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    page = importlib.import_module("architecture_page")
    for path, text in page.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: python scripts/architecture_page.py"
    # every file of the code that the page names is there
    named = re.findall(r"`((?:\w+/)+\w+\.py|\w+\.py)`", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    for name in [one for one in named if "NAME" not in one]:
        rooms = [ROOT, *(ROOT / "src" / "assay" / room for room in (".", "evaluation", "audit/broken", "defenses"))]
        assert any((room / name).is_file() for room in rooms), name
