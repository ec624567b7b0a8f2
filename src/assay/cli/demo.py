"""`assay demo`: three models, real images, tables, a page, and what a flat curve hides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.runs import PAGE
from assay.console.output import DisplayOption, chosen, out, say, spoken_command, stoppable, write
from assay.console.sessions import exit_code, run_session
from assay.console.study_from_flags import StudyRequest
from assay.core.errors import AssayError
from assay.wording import plural

if TYPE_CHECKING:
    from assay.evaluation.analysis.score import Result
    from assay.evaluation.study.spec import Study
    from assay.session import Finished

_DATA = {"source": "mnist/test", "sample": 1000}
_DIGITS: dict[str, Any] = {"models": "zoo:mnist-cnn", "data": _DATA}
_DISTILLED: dict[str, Any] = {"models": "zoo:mnist-distilled-t100", "data": _DATA}
_PICTURES: dict[str, Any] = {"models": "efficientnet-lite0", "data": "samples"}

_TEMPERATURE = 100  # at which the distilled network was trained
# the budgets of Sen et al. 2023
_DIGIT_BUDGETS = ["0", "0.007", "0.01", "0.02", "0.03", "0.05", "0.1", "0.2", "0.3"]
_HUNDREDTHS = range(1, 11)
_STD = 128  # of EfficientNet-Lite's normalisation, in grey levels and for every channel

_DIGIT_GRIDS: list[dict[str, Any]] = [
    {**_DIGITS, "threats": [{"norm": "linf", "eps": _DIGIT_BUDGETS}], "attacks": ["fgsm"], "question": "as_attacked"},
    {
        **_DIGITS,
        "threats": [{"norm": "linf", "eps": ["0.1", "0.2", "0.3"]}],
        "attacks": [{"attack": "pgd", "steps": 40}],
    },
    {
        **_DISTILLED,
        "threats": [{"norm": "linf", "eps": _DIGIT_BUDGETS}],
        # the paper's attack, and the same step along two losses that do not saturate
        "attacks": [
            "fgsm",
            {"attack": "fgsm", "objective": f"cross_entropy/{_TEMPERATURE}"},
            {"attack": "fgsm", "objective": "margin"},
        ],
        "question": "as_attacked",
    },
]
_PICTURE_GRIDS: list[dict[str, Any]] = [
    {
        **_PICTURES,
        "threats": [
            # as published: normalised units, and pixels may leave [0, 1]
            {"norm": "linf", "eps": [f"normalized {i / 100:.2f}" for i in _HUNDREDTHS], "box": False},
            # the same sizes as honest images
            {"norm": "linf", "eps": [f"{i * _STD / 100:g}/255" for i in _HUNDREDTHS]},
        ],
        "attacks": ["fgsm"],
        "question": "as_attacked",
    },
    {**_PICTURES, "threats": [{"norm": "linf", "eps": ["2/255"]}], "attacks": ["pgd"]},
]


def demo(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Option("--out", help="The run directory.")] = Path("runs/demo"),
    display: DisplayOption = None,
) -> None:
    """Measure three models on real images, and draw the page: about 2 minutes on 2 cores.

    Among them are the plain and the defensively distilled MNIST network of Sen et al. 2023 (Tables XIII and XIV).
    """
    from assay import report
    from assay.evaluation.execution.options import Options

    command = spoken_command(ctx.obj or ())
    say("Assay demo: three models, real images, about 2 minutes on 2 cores")
    study = demo_study(_pictures_missing())
    with stoppable(command):
        finished = run_session(StudyRequest(study, directory, True), Options(command=command), chosen(display))
        page = directory / PAGE
        if not (finished.was_done and page.is_file()):
            say("Drawing the page …")
            report.page(finished.run, page)
    report.terminal(finished.run, out())
    for line in shown(finished.run.results()):
        write(line)
    write("\n".join(_closing(finished, page)))
    raise typer.Exit(exit_code(finished.run))


def demo_study(without_pictures: bool = False) -> Study:
    """Return what the demo measures."""
    from assay.evaluation.study.spec import Study

    return Study.of({"study": "demo", "grids": _DIGIT_GRIDS + ([] if without_pictures else _PICTURE_GRIDS)})


def _pictures_missing() -> bool:
    """Say why the part with photographs is left out, where it must be."""
    from assay.data import load_data
    from assay.models import load_model

    try:
        load_data(_PICTURES["data"], model=load_model(_PICTURES["models"]))
    except AssayError as error:
        say(f"The part with photographs is left out: {error}\nGoing on with MNIST alone.", style="yellow")
        return True
    return False


def shown(results: Sequence[Result]) -> Iterator[str]:
    """Say what the distilled network's numbers show at the largest budget; nothing where they are not there."""
    distilled = [one for one in results if one.model == _DISTILLED["models"]]
    if not distilled:
        return
    eps = max(one.eps for one in distilled)
    left = {one.attack: one for one in distilled if one.eps == eps}
    naive, seeing = left["fgsm"], left[f"fgsm(objective=cross_entropy/{_TEMPERATURE})"]
    # intervals that do not meet: no chance of the draw
    masked = seeing.robust_high < naive.robust_low
    what = "The flat line of the distilled network is gradient masking" if masked else "No sign of gradient masking"
    yield f"Shows     {what}: at eps {naive.eps_written} naive FGSM leaves {_percent(naive)},"
    yield f"          FGSM on the loss of logits/{_TEMPERATURE} leaves {_percent(seeing)}."


def _percent(one: Result) -> str:
    return f"{100 * one.robust_accuracy:.1f} %"


def _closing(finished: Finished, page: Path) -> Iterator[str]:
    run = finished.run
    rows = plural(run.records(["cell"]).num_rows, "row")
    yield f"Page      {page}"
    yield f"Records   {run.path}/results  ({rows}; assay show {run.path})"
    yield "Again     the same command: nothing " + ("was left to do" if finished.was_done else "left to do")
    yield "Next      your model:   assay run --model my.py:factory --data folder:DIR --attack pgd --eps 4/255"
    yield "          fit for it?   assay doctor --model my.py:factory --data folder:DIR"
    yield "          attacks:      assay attacks"
