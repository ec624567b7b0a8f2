"""The doctor's judgement of the clean accuracy: against what is published, against guessing, in other orders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from assay.cli.doctor_findings import Case, Finding, Level
from assay.data.orders import Renumbering
from assay.intervals import wilson

_CONFIDENCE = 0.99  # a doctor that is wrong once in twenty runs would not be listened to
_ROUGHLY = 0.8
_NOTICEABLE = 0.1
_FEWEST = 10
_EXPLAINED = 0.5
_MORE = "; see docs/labels.md."


def clean_accuracy(case: Case) -> Iterable[Finding]:
    """An accuracy like the published one, or at least clearly better than guessing, with labels in their own order."""
    right, n, published = case.seen.right, case.n, case.model.published_accuracy
    low, high = wilson(right, n, _CONFIDENCE)
    measured = f"Clean accuracy is {100 * right / n:.1f} % on {n} images"
    level, guess = chance(case.seen.logits.argmax(1), case.seen.y, case.classes)
    guessing = low <= level
    order = better_order(case.seen.logits, case.seen.y, case.data.renumberings)
    if published and high < published - _NOTICEABLE:
        told = f"{measured}, but these weights are published at {100 * published:.1f} %. {_why(case, guessing, order)}"
        yield Finding(Level.ERROR if guessing and n >= _FEWEST else Level.WARNING, "clean accuracy", told)
    elif order:
        yield Finding(Level.WARNING, "clean accuracy", f"{measured}. {order}")
    elif guessing and (high < _EXPLAINED or (n >= _FEWEST and wilson(right, n, _ROUGHLY)[0] <= level)):
        told = f"{measured}, no better than {guess}. {_why(case, guessing, order)}"
        yield Finding(Level.WARNING, "clean accuracy", told)
    elif guessing:
        told = f"{100 * right / n:.1f} % on {n} images, too few to tell from {guess}. Look at more: --images."
        yield Finding(Level.NOTE, "clean accuracy", told)
    else:
        beside = f" (published: {100 * published:.1f} %)" if published else ""
        yield Finding(Level.GOOD, "clean accuracy", f"{100 * right / n:.1f} % on {n} images{beside}")


def chance(answers: Tensor, y: Tensor, classes: int) -> tuple[float, str]:
    """Return the accuracy of answers `[N]` that know nothing of the labels `[N]`, and what gives it, in words.

    That is one of `classes`, or more where classes are unequal: what answers in these shares would have by accident.
    """
    uniform = 1 / classes
    told = torch.bincount(y.cpu(), minlength=classes).double() / len(y)
    answered = torch.bincount(answers.cpu(), minlength=classes).double() / len(y)
    # of one label alone nothing can be told but whether it is guessed
    by_accident = float((told * answered).sum()) if float(told.max()) < 1 else 0.0
    if by_accident <= uniform + 1e-9:
        return uniform, f"guessing among {classes} classes"
    if float(answered.max()) == 1:
        return by_accident, f"always answering class {int(answered.argmax())}, as it does ({100 * by_accident:.1f} %)"
    return by_accident, f"answers in these shares by accident ({100 * by_accident:.1f} %)"


def better_order(logits: Tensor, y: Tensor, orders: Sequence[Renumbering]) -> str:
    """Return which of the `orders` the answers explain clearly better than the labels `y`, and what to write; or ""."""
    answers = logits.argmax(1)
    right = int((answers == y).sum())
    best, most = None, right
    for one in orders:
        other = renumbered(y, one)
        if int(other.max()) >= logits.shape[1]:
            continue
        agreeing, moved = answers == other, other != y
        # only images whose label moves can tell the orders apart
        for_it, against = int((agreeing & moved).sum()), int(((answers == y) & moved).sum())
        explains = for_it >= _EXPLAINED * int(moved.sum())
        if explains and wilson(for_it, for_it + against, _CONFIDENCE)[0] > _EXPLAINED and int(agreeing.sum()) > most:
            best, most = one, int(agreeing.sum())
    if best is None:
        return ""
    return (
        f"The model agrees with {100 * most / len(y):.1f} % of labels {best.how}, and with {100 * right / len(y):.1f} % "
        f"as they are: say {best.advice}"
    )


def renumbered(y: Tensor, order: Renumbering) -> Tensor:
    """Return the labels that `order` gives to images of labels `y`."""
    new = dict(order.new_label)
    return torch.tensor([new[label] for label in y.tolist()], device=y.device)


def _why(case: Case, guessing: bool, order: str) -> str:
    if order:
        return order
    also = " What is said of images and labels here may be the cause." if case.data.notes else ""
    if not guessing:
        return f"Images may not be prepared as these weights want (size, interpolation, normalisation), or be harder.{also}"
    swapped = _swapped(case)
    if swapped:
        return f"Labels and classes do not line up: {swapped}. Name folders by label number or class name{_MORE}{also}"
    return (
        "Labels and classes do not line up, or images are not prepared as in training (normalisation inside the model, "
        f"channel order). Name class folders by label number, synset or class name{_MORE}{also}"
    )


def _swapped(case: Case) -> str:
    """Say which class stands for which label, where the answers are consistent and only the labels are not."""
    guess, found = case.seen.logits.argmax(1), []
    for label in sorted(set(case.seen.y.tolist())):
        answers = guess[case.seen.y == label]
        most = int(answers.mode().values)
        share = float((answers == most).float().mean())
        if len(answers) >= 3 and most != label and share >= 0.6:
            found.append(f"images of label {label} are taken for class {most}")
    return ", ".join(found[:3]) if len(found) >= 2 else ""
