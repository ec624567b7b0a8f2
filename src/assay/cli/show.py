"""`assay show`: the numbers of a run, as a table for people or for programs."""

from __future__ import annotations

import enum
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.sessions import tell_gaps
from assay.cli.terminal import out, write
from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.evaluation.run import Run

# what scripts rely on: these names, in this order
FIELDS = (
    "cell", "model", "data", "attack", "threat", "eps", "unit", "grey_levels", "question", "seed", "n",
    "clean_accuracy", "robust_accuracy", "robust_low", "robust_high", "attack_success", "top1_error", "top5_error",
    "median_size", "forwards", "backwards", "queries", "seconds", "errors", "verdict", "excluded",
)  # fmt: skip


class Format(enum.StrEnum):
    """What a table can be written as."""

    MD = "md"
    LATEX = "latex"
    CSV = "csv"


def show(
    directory: Annotated[Path, typer.Argument(help="A run directory, such as runs/demo.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one entry per cell and budget.")] = False,
    over: Annotated[
        str | None,
        typer.Option(help="Accuracy against queries, steps, forwards or backwards instead.", show_default=False),
    ] = None,
    form: Annotated[Format | None, typer.Option("--format", help="Markdown, LaTeX or CSV.", show_default=False)] = None,
) -> None:
    """Print the numbers of a run; accuracies in JSON and CSV are fractions."""
    from assay import report
    from assay.evaluation.run import Run
    from assay.report import effort

    if as_json and form:
        raise BadInput(f"--json and --format {form.value} are two ways to print; give one.")
    if over and form:
        raise BadInput(f"--over and --format {form.value} do not go together; use --over with --json, or alone.")
    run = Run.open(directory)
    tell_gaps(run)
    if over and as_json:
        write(json.dumps({"study": run.study, "curves": effort.plain(run, over)}, indent=2, allow_nan=False))
    elif over:
        effort.terminal(run, over, out())
    elif as_json:
        write(json.dumps(as_plain(run), indent=2, allow_nan=False))
    elif form is Format.MD:
        write(report.markdown(run))
    elif form is Format.LATEX:
        write(report.latex(run))
    elif form is Format.CSV:
        write(report.csv(run))
    else:
        report.terminal(run, out())


def as_plain(run: Run) -> dict[str, Any]:
    """Return a run's numbers as plain values; what was not measured is None."""
    return {
        "study": run.study,
        "status": run.status,
        "reportable": bool(run.manifest.get("reportable")),
        "results": [{name: _plain(getattr(result, name)) for name in FIELDS} for result in run.results()],
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
