"""`assay demo`: two models, real images, a table and a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.exits import Exit
from assay.cli.flagged_study import Asked
from assay.cli.launch import Finished, Launch, exit_code
from assay.cli.numbers import plural
from assay.cli.report import PAGE
from assay.cli.terminal import DisplayOption, chosen, out, say, spoken_command, write
from assay.core.errors import AssayError

if TYPE_CHECKING:
    from assay.evaluate.study import Study

_DIGITS: dict[str, Any] = {"models": "zoo:mnist-cnn", "data": {"source": "mnist/test", "sample": 1000}}
_PICTURES: dict[str, Any] = {"models": "efficientnet-lite0", "data": "samples"}

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
    """Measure two models on real images, and draw the page: about 4 minutes on 2 cores."""
    from assay import report
    from assay.evaluate.options import Options

    command = spoken_command(ctx.obj or ())
    say("Assay demo: two models, real images, about 4 minutes on 2 cores")
    study = demo_study(_pictures_missing())
    try:
        finished = Launch(Asked(study, directory, True), Options(command=command), chosen(display)).start()
        page = directory / PAGE
        if not (finished.was_done and page.is_file()):
            say("Drawing the page …")
            report.page(finished.run, page)
    except KeyboardInterrupt:
        say(f"Stopped. What is finished is kept; the same command continues:\n  {command}")
        raise typer.Exit(Exit.STOPPED) from None
    report.terminal(finished.run, out())
    write("\n".join(_closing(finished, page)))
    raise typer.Exit(exit_code(finished.run))


def demo_study(without_pictures: bool = False) -> Study:
    """Return what the demo measures."""
    from assay.evaluate.study import Study

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


def _closing(finished: Finished, page: Path) -> Iterator[str]:
    run = finished.run
    rows = plural(run.records(["cell"]).num_rows, "row")
    yield f"Page      {page}"
    yield f"Records   {run.path}/results  ({rows}; assay show {run.path})"
    yield "Again     the same command: nothing " + ("was left to do" if finished.was_done else "left to do")
    yield "Next      your model:   assay run --model my.py:factory --data folder:DIR --attack pgd --eps 4/255"
    yield "          fit for it?   assay doctor --model my.py:factory --data folder:DIR"
    yield "          attacks:      assay attacks"
