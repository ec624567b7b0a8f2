"""`assay paper run --extension defenses`: defences of four angles, each under a naive and an adaptive attack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from assay.console.output import Display, say, write
from assay.console.sessions import run_session
from assay.console.study_from_flags import StudyRequest
from assay.core.errors import BadInput, did_you_mean
from assay.display import progress
from assay.meter import Meter

if TYPE_CHECKING:
    from assay.evaluation.execution.options import Options
    from assay.evaluation.run import Run
    from assay.session import Finished

EXTENSIONS = ("defenses",)
_TRAINING_DATA = "mnist/train"


def check_extension(name: str) -> None:
    """Raise `BadInput` for an extension that there is not."""
    if name not in EXTENSIONS:
        near = did_you_mean(name, EXTENSIONS)
        raise BadInput(f"Unknown extension {name!r}.{near} There is: {', '.join(EXTENSIONS)}.")


def run_extension(out: Path, limit: int | None, options: Options, display: Display, *, doctor: bool) -> Finished:
    """Fit what has to be fitted, run the study, print its table and write its page."""
    from assay.paper import angles

    asked = angles.study(limit)
    for network, chain in dict.fromkeys(angles.chains(asked)):
        _fit(network, chain, display)
    finished = run_session(StudyRequest(asked, angles.directory(out), True), options, display, doctor=doctor)
    print_extension(finished.run)
    write_page(finished.run, angles.page_path(out))
    return finished


def _fit(network: str, chain: str, display: Display) -> None:
    from assay.training.defense_fit import FitStage, fit_defense

    with progress(f"Fitting {chain}", display) as watch:
        pace = Meter()

        def show(now: FitStage) -> None:
            whole = (now.done + now.share) / now.steps
            watch.update(whole, now.note, pace.reach(whole))

        fit_defense(network, chain, _TRAINING_DATA, on_progress=show)


def write_page(run: Run, path: Path) -> None:
    """Write the page, and say where it is."""
    from assay.paper.angles_page import page

    say("Drawing the page …")
    write(str(page(run, path)))


def print_extension(run: Run, out: Callable[[str], None] = write) -> None:
    """Print a table per budget: angle, defence, clean, naive, adaptive, verdict."""
    from assay.paper.angles import budgets, rows
    from assay.paper.angles_page import NORMS, number

    found = rows(run)
    for norm, eps in budgets(found):
        out(f"\n{NORMS.get(norm, norm)}, eps {eps}")
        mine = [row for row in found if (row.norm, row.eps_written) == (norm, eps)]
        told = [("angle", "defence", "clean", "naive, not adaptive", "adaptive", "verdict")]
        told += [
            (row.angle, row.defense, number(row.clean), number(row.naive), number(row.adaptive), row.verdict or "")
            for row in mine
        ]
        widths = [max(len(line[at]) for line in told) for at in range(len(told[0]))]
        for line in told:
            out("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
