"""A grid with a judge as cells: those of its models, and those of the judge on images made on each of them."""

from __future__ import annotations

import dataclasses

from assay.core.errors import BadInput
from assay.data import Data
from assay.evaluation.study.attacks import entry_of
from assay.evaluation.study.certify import OFF, CertifySpec
from assay.evaluation.study.spec import AttackSpec, Grid, ModelSpec, Study
from assay.models import Classifier
from assay.models.classifier import Preprocess
from assay.vocabulary import UNATTACKED, Question


@dataclasses.dataclass(frozen=True)
class Turn:
    """A model and the grid that it is measured by. A judge has a `maker`: the model that its images are made on."""

    grid: Grid
    spec: ModelSpec
    maker: ModelSpec | None = None


def turns(study: Study) -> list[Turn]:
    """Return who is measured by what, in the study's order, but all grids of one model together: it is loaded once."""
    found = [Turn(grid, spec) for grid in study.grids for spec in grid.models]
    found += [
        Turn(judged(grid, maker), judge, maker)
        for grid in study.grids
        for judge, maker in zip(judges_of(grid), grid.models, strict=False)
    ]
    places: dict[str, int] = {}
    for turn in found:
        places.setdefault(turn.spec.label, len(places))
    return sorted(found, key=lambda turn: places[turn.spec.label])


def judges_of(grid: Grid) -> list[ModelSpec]:
    """Return the grid's judge once for each of its models, from which it takes what its own name leaves open."""
    if grid.judge is None:
        return []
    return [
        grid.judge if grid.judge.like else grid.judge.model_copy(update={"like": maker.model}) for maker in grid.models
    ]


def judged(grid: Grid, maker: ModelSpec) -> Grid:
    """Return the grid by which the judge is measured: the same attacks, made on `maker`; nothing else.

    A trained patch, or another attack that a file holds, is the same for every model.
    """
    attacks = tuple(_made_on(one, maker, grid.question) for one in grid.attacks if one.attack != UNATTACKED)
    alone = {"judge": None, "corruptions": None, "certify": CertifySpec(before=OFF)}
    return grid.model_copy(update={**alone, "attacks": attacks})


def made_on(maker: ModelSpec) -> dict[str, str]:
    """Return the options of an attack whose images are made on a model."""
    return {"surrogate": maker.model, "surrogate_outputs": maker.outputs}


def _made_on(attack: AttackSpec, maker: ModelSpec, question: str) -> AttackSpec:
    if entry_of(attack.attack).file:
        return attack
    # of one attack alone it is the very image that the model was shown
    pushed = {"pushed": True} if question == Question.WORST_CASE.value else {}
    return AttackSpec(attack=attack.attack, options={**attack.options, **made_on(maker), **pushed})


def two_ways(judge: str) -> BadInput:
    """Return the error for a judge that two models would have prepare its pictures in two ways."""
    return BadInput(
        f"The judge {judge} would get pictures, class names or units of two models that differ in them. Say them in "
        "its own name, or give each model a study of its own."
    )


def check_models(judge: Classifier, maker: Classifier) -> None:
    """Raise `BadInput` for a judge that is the model itself, and for one that is given other pictures."""
    if judge.digest == maker.digest:
        raise BadInput(
            f"The judge {judge.spec} is the model {maker.spec} itself: weights and answers are the same. Leave the "
            "judge out, or name the file that is deployed."
        )
    if judge.preprocess != maker.preprocess:
        raise BadInput(
            f"The judge {judge.spec} gets pictures {_spoken(judge.preprocess)}, the model {maker.spec} "
            f"{_spoken(maker.preprocess)}. Both have to see the same images: say it in the judge's name"
            f"{_options(maker)}, or give images of the size that both take."
        )


def check_images(judge: Data, maker: Data, names: tuple[str, str]) -> None:
    """Raise `BadInput` where a data set holds other images or labels for the judge than for the model."""
    if judge is maker:
        return
    what = {
        "other samples": judge.ids != maker.ids,
        "other labels": list(judge.labels) != list(maker.labels),
        "images of another shape": judge.input_shape != maker.input_shape,
    }
    for told, differs in what.items():
        if differs:
            raise BadInput(
                f"{judge.source} has {told} for the judge {names[0]} than for the model {names[1]}. Both have to be "
                "asked the same question: give both the same class names, channels and size."
            )


def _spoken(one: Preprocess | None) -> str:
    if one is None:
        return "as they are"
    told = [f"resized to {'x'.join(map(str, one.resize))}"] if one.resize else []
    told += [f"cropped to {'x'.join(map(str, one.crop))}"] if one.crop else []
    told += [f"padded with {one.pad}"] if one.pad is not None else []
    return f"{', '.join(told) or 'unchanged'} ({one.interpolation})"


def _options(maker: Classifier) -> str:
    """Return how a name says what `maker` does to pictures; "" where it does nothing."""
    one = maker.preprocess
    if one is None:
        return ""
    final = one.crop or one.resize or ()
    parts = [f"size={'x'.join(map(str, final))}"] if len(final) > 1 else []
    parts += [f"resize={'x'.join(map(str, one.resize))}"] if one.resize and one.crop and one.pad is None else []
    parts += [f"pad={one.pad}"] if one.pad is not None else []
    parts += [f"interpolation={one.interpolation}"] if one.interpolation != "bilinear" else []
    return f" (…?{'&'.join(parts)})" if parts else ""
