"""`assay gate`: does a finished run reach what its study demands, against limits and against an earlier run."""

from __future__ import annotations

import enum
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.console.exit_codes import Exit
from assay.console.output import say, write
from assay.console.study_from_flags import LOCK
from assay.core.errors import BadInput
from assay.files import is_far

if TYPE_CHECKING:
    from assay.evaluation.run import Run
    from assay.evaluation.study.errors import Places
    from assay.evaluation.study.gate import GateRow
    from assay.evaluation.study.spec import Study
    from assay.gate.answers import Outcome
    from assay.gate.rules import Place
    from assay.gate.sides import Side

SUMMARY = "GITHUB_STEP_SUMMARY"


class OnUnsure(enum.StrEnum):
    """What a gate that cannot tell does."""

    FAIL = "fail"
    PASS = "pass"


def gate(
    study: Annotated[
        str, typer.Argument(help="A study file with a gate, whose run is in runs/STUDY; or a run directory.")
    ],
    run: Annotated[
        Path | None, typer.Option(help="The run directory of the study file (runs/STUDY).", show_default=False)
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="What rows against a baseline compare with: a baseline file or a run directory "
            "(assay-baseline.json, here or beside the study).",
            show_default=False,
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.", show_default=False)] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write SARIF 2.1.0.", show_default=False)] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write Markdown; - for standard output.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    on_unsure: Annotated[
        OnUnsure, typer.Option(help="Whether a gate that cannot tell returns 5 or 0.")
    ] = OnUnsure.FAIL,
) -> None:  # shape: what a pipeline may ask for
    """Answer what a study's gate demands of its run: met, missed or cannot tell; nothing is attacked.

    Exit codes: 0 met, 4 missed, 5 cannot tell. In a GitHub workflow the answers are added to the step's summary.
    """
    from assay.gate import rules, writers
    from assay.gate.answers import plain

    if as_json and str(markdown) == "-":
        raise BadInput("--json and --markdown - both print; give one of them.")
    rows, places, directory = _asked(study, run)
    outcome = rules.answers(directory, rows, places, lambda: _baseline(baseline, study))
    unsure_fails = on_unsure is OnUnsure.FAIL
    code = exit_of(outcome.answer, unsure_fails)
    if junit is not None:
        _written(junit, writers.junit(outcome, unsure_fails=unsure_fails))
    if sarif is not None:
        _written(sarif, writers.sarif(outcome))
    if markdown is not None and str(markdown) != "-":
        _written(markdown, writers.markdown(outcome))
    _summarise(outcome)
    if as_json:
        write(json.dumps(plain(outcome, code), indent=2, allow_nan=False))
    elif markdown is not None and str(markdown) == "-":
        write(writers.markdown(outcome))
    else:
        for line in writers.lines(outcome):
            write(line)
    if code:
        raise typer.Exit(code)


def exit_of(answer: str, unsure_fails: bool) -> Exit:
    """Return the exit code of an answer."""
    from assay.gate.answers import MET, MISSED

    if answer == MISSED:
        return Exit.MISSED
    return Exit.DONE if answer == MET or not unsure_fails else Exit.UNSURE


def _asked(study: str, run: Path | None) -> tuple[tuple[GateRow, ...], list[Place], Run]:
    from assay.evaluation.run import Run
    from assay.evaluation.study.gate import rows_alone
    from assay.evaluation.study.yaml_source import read_yaml
    from assay.gate.rules import Place

    if is_far(study):
        raise BadInput(f"{study} is a URL; expected a study file, or a run directory on this machine. Copy it first.")
    path = Path(study).expanduser()
    if path.is_dir() and run is not None:
        raise BadInput(f"{study} is a run directory already; leave out --run {run}, or give a study file.")
    opened = Run.open(path) if path.is_dir() else None
    file = path / LOCK if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"There is no study {study} to be read ({error}). Give a study file, or a run directory."
        ) from error
    raw, written = read_yaml(text, file.name)
    rows = rows_alone(raw["gate"]) if raw.get("gate") else None
    if rows is None and not (path.is_dir() and "gate" not in raw):
        from assay.evaluation.study.spec import Study

        rows = Study.of(raw, written).gate
    if not rows:
        raise BadInput(
            f"{file} has no gate. Write one, such as:\ngate:\n  - {{robust_accuracy: '>= 40 %', threat: linf 4/255}}"
        )
    directory = opened or _run_of(raw, written, study, run)
    single = ("gate",) if isinstance(raw["gate"], dict) else None
    told = [written.of(single or ("gate", at)) for at in range(len(rows))]
    return rows, [Place(str(file), int(one.rsplit(":", 2)[-2]), one) for one in told], directory


def _run_of(raw: Mapping[str, Any], written: Places, study: str, run: Path | None) -> Run:
    from assay.evaluation.run import Run

    asked = functools.cache(lambda: _whole(raw, written))
    named = raw.get("study")
    name = named if isinstance(named, str) else asked().study
    folder = run or Path("runs") / name
    if run is None and not folder.exists():
        raise BadInput(f"{study} has no run in {folder} yet. Run it first: assay run {study}; or name one: --run DIR")
    found = Run.open(folder)
    if run is None and (later := _later(found)):
        raise BadInput(f"{later} is a later run of {name} than {folder}. Say which: --run {later}, or --run {folder}")
    if not (folder / LOCK).is_file():
        raise BadInput(f"{folder} has no {LOCK}. Run the study again: assay run {study}")
    # what was measured must be what the study asks for; its gate may have changed since
    if found.study != name or not (_as_resolved(raw, folder) or found.spec().grids == asked().grids):
        raise BadInput(
            f"{folder} is not a run of {study} as it stands: the study has other models, data, threats or attacks. "
            f"Run it again (assay run {study} --fork, which leaves {folder} as it is), or ask about the run with "
            f"its own gate: assay gate {folder}"
        )
    return found


def _whole(raw: Mapping[str, Any], written: Places) -> Study:
    from assay.evaluation.study.spec import Study

    return Study.of(raw, written)


def _as_resolved(raw: Mapping[str, Any], folder: Path) -> bool:
    """Whether a study is written as the run keeps it, besides its gate and audit: then it need not be resolved."""
    from assay.evaluation.study.yaml_source import read_yaml

    kept, _ = read_yaml((folder / LOCK).read_text(encoding="utf-8"), LOCK)
    about_numbers = [{key: value for key, value in one.items() if key not in ("gate", "audit")} for one in (raw, kept)]
    return about_numbers[0] == about_numbers[1]


def _later(run: Run) -> Path | None:
    """Return the last run of the same study beside a run (a fork of it), where it is later."""
    from assay.evaluation.records.manifest import read_manifest

    began, latest = str(run.manifest.get("started")), None
    for path in sorted(run.path.parent.glob(f"{run.path.name}-[0-9]*")):
        other = read_manifest(path)
        if other.get("study") == run.study and str(other.get("started")) > began:
            began, latest = str(other["started"]), path
    return latest


def _baseline(given: Path | None, study: str) -> Side:
    from assay.gate.baseline import FILE, open_side

    if given is not None:
        return open_side(given)
    here = [Path(FILE), Path(study).expanduser().parent / FILE]
    found = next((path for path in here if path.is_file()), None)
    if found is None:
        raise BadInput(
            f"The gate compares with a baseline, and there is no {FILE}. Save one from a run that is good enough "
            f"(assay baseline save RUN), or give one: --baseline FILE"
        )
    return open_side(found)


def _written(path: Path, text: str) -> None:
    from assay.files import make_folder, write_atomically

    if path.is_dir():
        raise BadInput(f"{path} is a folder; name a file to write.")
    make_folder(path.absolute().parent)
    write_atomically(path, text.encode())


def _summarise(outcome: Outcome) -> None:
    """Add the answers to the summary of a GitHub step: what is there already stays, and counts for its limit."""
    from assay.gate.writers import SUMMARY_BYTES, markdown

    name = os.environ.get(SUMMARY)
    if not name:
        return
    path = Path(name)
    try:
        taken = path.stat().st_size if path.is_file() else 0
        text = markdown(outcome, max(0, SUMMARY_BYTES - taken - 2))
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n{text}" if text else "")
    except OSError as error:
        say(f"The summary {name} ({SUMMARY}) could not be written: {error.strerror or error}.", style="yellow")


__all__: Sequence[str] = ["gate"]
