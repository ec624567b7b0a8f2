from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import assay
from assay.cli import app, main
from assay.console import exit_codes as exits
from assay.core.errors import BadInput
from tests.support.workplace import Workplace


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    # in no file: code in a file outside the package is the user's, and blamed on it
    names: dict[str, Any] = {"error": error}
    exec(compile("def fail(*_):\n    raise error", "<a fault>", "exec"), names)
    monkeypatch.setattr("assay.console.study_from_flags._written", names["fail"])


def test_exit_codes_do_not_change() -> None:
    codes = {code.name: code.value for code in exits.Exit}
    assert codes == {
        "DONE": 0,
        "FAILED": 1,
        "BAD_INPUT": 2,
        "SOME_ERRORS": 3,
        "MISSED": 4,
        "UNSURE": 5,
        "INCOMPLETE": 6,
        "STOPPED": 130,
    }


def test_help_says_the_exit_codes(place: Workplace) -> None:
    said = place.assay("--help")
    assert said.code == 0
    for part in ("Exit codes: 0 done", "1 the run", "2 bad input", "3 finished, with", "4 a gate", "130 stopped"):
        assert part in " ".join(said.out.split())


def test_an_error_of_ours_is_its_message_alone(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    error = BadInput("eps is 8, expected less.")
    error.exit_code = 1
    raising(monkeypatch, error)
    said = place.assay("validate study.yaml")
    assert (said.code, said.out, said.err) == (1, "", "eps is 8, expected less.\n")


@pytest.mark.parametrize("line", ["--debug validate study.yaml", "validate study.yaml --debug"])
def test_debug_shows_where_an_error_came_from(place: Workplace, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    raising(monkeypatch, BadInput("eps is 8."))
    said = place.assay(line)
    assert said.code == 2
    assert "Traceback" in said.err
    assert said.err.endswith("eps is 8.\n")


def test_a_full_disk_is_told_in_words(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, OSError(errno.ENOSPC, "No space left on device", "runs/x"))
    said = place.assay("validate study.yaml")
    assert (said.code, said.err) == (1, "runs/x could not be used: No space left on device.\n")


def test_ctrl_c_is_130(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert place.assay("validate study.yaml").code == 130


def test_a_bug_is_a_sentence_and_its_traceback_is_kept_in_a_file(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(place.folder))
    raising(monkeypatch, ZeroDivisionError("a bug"))
    said = place.assay("validate study.yaml")
    assert said.code == 1
    assert said.err.startswith("Assay itself failed: ZeroDivisionError: a bug (<a fault>:2). That should not happen")
    (log,) = place.folder.glob("assay-error-*.log")
    assert str(log) in said.err
    assert "Traceback (most recent call last)" in log.read_text()


def test_arguments_come_from_the_command_line(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["assay", "--version"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert place.capture.readouterr().out == f"assay {assay.__version__}\n"


def test_a_mistyped_command_is_corrected(place: Workplace) -> None:
    said = place.assay("atacks")
    assert said.code == 2
    assert "attacks" in said.err


COMMANDS = [
    "run",
    "audit",
    "plan",
    "validate",
    "ls",
    "show",
    "report",
    "doctor",
    "models",
    "attacks",
    "defenses",
    "schema",
    "demo",
    "play",
    "transfer",
    "corrupt",
    "certify",
    "certificates",
    "gate",
    "gather",
    "compare",
]
GROUPS = ["baseline", "data", "defend", "export", "paper", "patch", "train", "universal"]


def test_the_commands_are_those_that_exist() -> None:
    assert sorted(str(command.name) for command in app.registered_commands) == sorted(COMMANDS)
    assert len(app.registered_groups) == len(GROUPS)


@pytest.mark.parametrize("name", COMMANDS + GROUPS)
def test_every_command_has_help(place: Workplace, name: str) -> None:
    said = place.assay(f"{name} --help")
    assert said.code == 0
    assert "ASSAY_" not in said.out


def test_help_answers_at_once() -> None:
    measured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}

    def seconds(*python: str) -> float:
        # of work, not of waiting: other work on the machine is not ours
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *python], capture_output=True, check=True, env=measured)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    # half a second, and where the machine is slow or busy twice what importing that which prints it takes
    bare = min(seconds("-c", "import typer.rich_utils") for _ in range(3))
    assert min(seconds("-m", "assay.cli", "--help") for _ in range(3)) < max(0.5, 2.2 * bare)


@pytest.mark.parametrize(
    ("line", "code", "told"), [("--version", 0, "assay "), ("attacks --json", 0, "}\n"), ("attacks pgdd", 2, "pgd")]
)
def test_a_process_ends_with_its_code_after_all_its_output(tmp_path: Path, line: str, code: int, told: str) -> None:
    # handlers of others run as well: a file that is written at exit is there
    start = "import atexit, pathlib, sys; atexit.register(lambda: pathlib.Path('left').write_text('yes'))"
    run = f"{start}; sys.argv[1:] = {line.split()!r}; from assay.cli.__main__ import run_process; run_process()"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code and (tmp_path / "left").read_text() == "yes"
    assert told in done.stdout + done.stderr
