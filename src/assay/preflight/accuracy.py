"""The doctor's judgement of the clean accuracy: against what is published, against guessing, in other orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from assay.preflight.evidence import better_order
from assay.preflight.findings import Case, Finding, Level
from assay.statistics import wilson

_CONFIDENCE = 0.99  # a doctor that is wrong once in twenty runs would not be listened to
_ROUGHLY = 0.8
_NOTICEABLE = 0.1
_ONE_CLASS = 0.7
_FEWEST = 10
_EXPLAINED = 0.5
_LISTED = 20
_MORE = "; see docs/labels.md."


def clean_accuracy(case: Case) -> Iterable[Finding]:
    """An accuracy like the published one, or at least clearly better than guessing, with labels in their own order."""
    yield from _refusals(case)
    if case.data.predicted:
        told = "Labels are predicted by the model: whether it is right cannot be said."
        yield Finding(Level.NOTE, "clean accuracy", told)
        return
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
        if case.seen.refused is not None:
            beside += f", coverage {100 * (1 - float(case.seen.refused.double().mean())):.1f} %: a refused one is wrong"
        yield Finding(Level.GOOD, "clean accuracy", f"{100 * right / n:.1f} % on {n} images{beside}")


def _refusals(case: Case) -> Iterable[Finding]:
    refused = case.seen.refused
    many = 0 if refused is None else int(refused.sum())
    if many > case.n / 2:
        told = (
            f"The model refuses {many} of {case.n} clean images (coverage {100 * (1 - many / case.n):.1f} %), expected "
            "about the share that its threshold was chosen for. The threshold is in other units than the score, or "
            "was chosen on other images: fit it anew (assay defend fit), or give another threshold=."
        )
        yield Finding(Level.WARNING, "coverage", told)


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


def _why(case: Case, guessing: bool, order: str) -> str:
    if order:
        return order
    also = " What is said of images and labels here may be the cause." if case.data.notes else ""
    if not guessing:
        told = "Images may not be prepared as these weights want (size, interpolation, normalisation), or be harder."
        return f"{told}{also}"
    swapped = _swapped(case)
    if swapped:
        told = f"Labels and classes do not line up: {swapped}. Name folders by label number or class name{_MORE}{also}"
        # where nearly all answers are one class, the input is the likelier cause
        guess = case.seen.logits.argmax(1)
        one = float(torch.bincount(guess).max()) > _ONE_CLASS * len(guess)
        unknown = case.model.mean is None and not case.model.spec.startswith("remote:")
        return f"{_unnormalised(case)} Or else: {told}" if one and unknown else told
    return (
        "Labels and classes do not line up, or images are not prepared as in training (normalisation inside the model, "
        f"channel order), or the model has not learned to tell such images. "
        f"Name class folders by label number, synset or class name{_MORE}{also}"
    )


def _unnormalised(case: Case) -> str:
    return (
        "Nearly all images are taken for one class, and the model's normalisation is unknown: if it is not inside the "
        f"model, say it, {with_mean(case.model.spec, case.seen.x.shape[1])}."
    )


def with_mean(spec: str, channels: int) -> str:
    """Return a model's name with a normalisation as an example: ImageNet's, or one of grey images."""
    said = "mean=0.485,0.456,0.406&std=0.229,0.224,0.225" if channels == 3 else "mean=0.5&std=0.5"
    name, _, chain = spec.partition("|")
    if ":" not in name:
        return f"my.py:factory?{said}"
    name, _, options = name.partition("?")
    # in front, since twin= stands last
    return f"{name}?{said}{f'&{options}' if options else ''}{f'|{chain}' if chain else ''}"


def _swapped(case: Case) -> str:
    """Say which class stands for which label, where the answers are consistent and only the labels are not."""
    guess, found = case.seen.logits.argmax(1), []
    taken_for: dict[int, int] = {}
    for label in sorted(set(case.seen.y.tolist())):
        answers = guess[case.seen.y == label]
        most = int(answers.mode().values)
        share = float((answers == most).float().mean())
        if len(answers) >= 3 and most != label and share >= 0.6:
            found.append(f"images of label {label} are taken for class {most}")
            taken_for[label] = most
    return f"{', '.join(found[:3])}{_as_listed(case, taken_for)}" if len(found) >= 2 else ""


def _as_listed(case: Case, taken_for: Mapping[int, int]) -> str:
    """Return the order of all classes as the answers have it, where they name each class once."""
    classes = case.data.classes
    order = {taken_for.get(label, label): name for label, name in enumerate(classes or ())}
    if not order or "," in "".join(order.values()) or len(order) > _LISTED or set(order) != set(range(case.classes)):
        return ""
    listed = ",".join(order[label] for label in range(case.classes))
    return f" (if that is the model's own order, say folder:DIR?order={listed})"
