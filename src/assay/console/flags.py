"""A study by flags, or a study file with flags laid over it: file < environment < flag < --set."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from assay.vocabulary import Audit, Labels, Norm, Order, Outputs, Question

_WHAT = "What is measured"
_WHICH = "Which samples"


def _flag(panel: str, text: str, *names: str) -> object:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)


@dataclasses.dataclass(frozen=True)
class StudyFlags:
    """What to measure: a study file, flags, or both."""

    study: Annotated[
        str | None,
        typer.Argument(help="A study file (YAML), or a run directory to go on with.", show_default=False),
    ] = None
    model: Annotated[
        list[str] | None, _flag(_WHAT, "A model: torchvision:resnet50, my.py:factory, … (repeatable).")
    ] = None
    outputs: Annotated[Outputs | None, _flag(_WHAT, "What the models return, if it is not logits.")] = None
    data: Annotated[
        list[str] | None,
        _flag(_WHAT, "A data set: mnist/test, folder:DIR, table:FILE, … (repeatable)."),
    ] = None
    attack: Annotated[
        list[str] | None,
        _flag(_WHAT, "An attack: pgd, or pgd:steps=40,restarts=2 (repeatable); else one that fits the model."),
    ] = None
    eps: Annotated[
        list[str] | None, _flag(_WHAT, "Budgets: 4/255, 0.03, 'normalized 0.02' (repeatable, or with commas).")
    ] = None
    norm: Annotated[Norm | None, _flag(_WHAT, "The norm of the budgets (linf).")] = None
    box: Annotated[bool | None, _flag(_WHAT, "Whether images stay in [0, 1] (they do).", "--box/--no-box")] = None
    grid: Annotated[int | None, _flag(_WHAT, "Judge images on a grid: 255 for 8-bit ones.")] = None
    mask: Annotated[
        str | None, _flag(_WHAT, "Where values may change: mask.png, mask.npy, or a folder with one per sample.")
    ] = None
    channels: Annotated[str | None, _flag(_WHAT, "The channels that may change, from 0: 3, or 0,2.")] = None
    components: Annotated[str | None, _flag(_WHAT, "Of --norm ycbcr: shares of eps for Y, Cb and Cr (1,0,0).")] = None
    question: Annotated[Question | None, _flag(_WHAT, "Robust accuracy, or what each attack does (worst_case).")] = None
    goal: Annotated[str | None, _flag(_WHAT, "untargeted, 'targeted CLASS', 'targeted file T.csv', …")] = None
    order: Annotated[Order | None, _flag(_WHAT, "How a worst case walks through the budgets (ascending).")] = None
    limit: Annotated[int | None, _flag(_WHICH, "The first N samples; not reportable.")] = None
    sample: Annotated[int | None, _flag(_WHICH, "N samples, drawn evenly over the classes.")] = None
    per_class: Annotated[int | None, _flag(_WHICH, "N samples of each class.")] = None
    labels: Annotated[
        Labels | None, _flag(_WHICH, "predicted: the model's own answers are the labels, for pictures without any.")
    ] = None
    sample_id: Annotated[list[str] | None, _flag(_WHICH, "A sample by its id (repeatable).")] = None
    judge: Annotated[
        str | None,
        _flag(_WHAT, "A model that judges the images made on the models: the file that is deployed, onnx:int8.onnx."),
    ] = None
    judge_outputs: Annotated[Outputs | None, _flag(_WHAT, "What the judge returns, if it is not logits.")] = None
    corruptions: Annotated[
        str | None,
        _flag(_WHAT, "Corrupt the images too, or alone without --attack: standard, all, or fog,snow. Average case."),
    ] = None
    severities: Annotated[str | None, _flag(_WHAT, "How strongly: 3, 1-5 or 1,3 (all).")] = None
    certify: Annotated[
        list[str] | None,
        _flag(_WHAT, "first, auto or off: whether what a bound proves is not attacked (auto); or a method: crown."),
    ] = None
    audit: Annotated[
        Audit | None,
        _flag(
            _WHAT,
            "How closely robust numbers are audited: off, quick (5 points may go unseen), standard (2), thorough (0).",
        ),
    ] = None
    seed: Annotated[int | None, _flag(_WHAT, "The seed of every random draw (0).")] = None
    set: Annotated[
        list[str] | None, _flag(_WHAT, "Change one value of the study: 'attacks[0].steps=20' (repeatable).")
    ] = None


Device = Annotated[str, typer.Option(help="Where models run.")]

Batch = Annotated[int | None, typer.Option(min=1, help="At most so many images per pass.", show_default=False)]

AllowRandomData = Annotated[
    bool,
    typer.Option(
        "--allow-random-data",
        help="Take data that are random at each reading: one fixed draw per sample.",
    ),
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Load model files that may run code. Only for files you trust.")
]
