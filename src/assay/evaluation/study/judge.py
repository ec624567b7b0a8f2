"""The key `judge` of a grid: a model that is asked about the images made on each of the grid's models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from assay.core.errors import BadInput
from assay.evaluation.study.errors import Misplaced
from assay.evaluation.study.surrogates import names


class _Model(Protocol):
    @property
    def model(self) -> str: ...
    @property
    def label(self) -> str: ...


class _Attack(Protocol):
    @property
    def attack(self) -> str: ...
    @property
    def options(self) -> dict[str, object]: ...
    @property
    def label(self) -> str: ...


class _Data(Protocol):
    @property
    def labels(self) -> str | None: ...


def check_judge(
    judge: _Model, models: Sequence[_Model], attacks: Sequence[_Attack], data: Sequence[_Data], goal: str
) -> None:
    """Raise `Misplaced` or `BadInput` for a grid whose pairs would compare what is not the same."""
    for i, one in enumerate(models):
        if one.model == judge.model:
            raise Misplaced(
                ("judge",),
                f"{judge.label} is one of the models: it would judge images made on itself. Name the model that is "
                "deployed as the judge, and the one whose gradients are attacked as the model.",
            )
        if names(one.model) != (one.model,):
            told = f"{one.model!r} has a + in its name, which joins surrogates. Rename the file."
            raise Misplaced(("models", i), told)
    for i, attack in enumerate(attacks):
        if attack.options.get("surrogate"):
            raise Misplaced(
                ("attacks", i),
                f"{attack.label} is made on a surrogate already; with a judge the images are made on the models. "
                "Leave surrogate out, or put this attack into a grid without a judge.",
            )
    if all(attack.attack == "none" for attack in attacks):
        raise Misplaced(("judge",), "is there without an attack whose images it could judge. Name one: attacks: [pgd].")
    for i, chosen in enumerate(data):
        if chosen.labels:
            raise Misplaced(
                ("data", i),
                "labels: predicted are each model's own answers, so that model and judge would be asked two different "
                "questions. Give data with labels, or leave the judge out.",
            )
    if goal == "targeted least-likely":
        raise BadInput(
            "targeted least-likely is another class for the judge than for the model. Take targeted random, or a class."
        )
