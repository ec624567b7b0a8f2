"""The doctor's checks of images and labels, and of whether they belong to the model."""

from __future__ import annotations

from collections.abc import Iterable

from assay.cli.doctor_findings import Case, Finding, Level
from assay.intervals import wilson

_CONFIDENCE = 0.99  # a doctor that is wrong once in twenty runs would not be listened to
_NOTICEABLE = 0.1
_FEWEST = 10
_MORE = "; see docs/labels.md."


def images(case: Case) -> Iterable[Finding]:
    """Images that use their range, all of them readable."""
    x = case.seen.x
    if float(x.max()) < 0.02:
        told = f"The brightest pixel of {case.n} images is {float(x.max()):.3g}, expected values up to 1. "
        yield Finding(Level.WARNING, "images", told + "Were they divided by 255 twice?")
    else:
        yield Finding(Level.GOOD, "images", f"{list(x.shape[1:])}, from {float(x.min()):.3g} to {float(x.max()):.3g}")
    for one in case.seen.unreadable[:3]:
        yield Finding(Level.WARNING, "images", f"{one.id} could not be read and will be an error record: {one.error}")


def labels(case: Case) -> Iterable[Finding]:
    """Labels of more than one class, and whatever was noted when they were read."""
    for note in case.data.notes:
        yield Finding(Level.WARNING, "labels", note)
    if len(set(case.data.labels)) == 1 and len(case.data) > _FEWEST:
        told = f"All {len(case.data)} samples have the label {case.data.labels[0]}, expected several labels."
        yield Finding(Level.WARNING, "labels", told)


def clean_accuracy(case: Case) -> Iterable[Finding]:
    """An accuracy like the published one, or at least better than guessing."""
    if case.data.predicted:
        told = "Labels are predicted by the model: whether it is right cannot be said."
        yield Finding(Level.NOTE, "clean accuracy", told)
        return
    right, n, published = case.seen.right, case.n, case.model.published_accuracy
    low, high = wilson(right, n, _CONFIDENCE)
    measured = f"Clean accuracy is {100 * right / n:.1f} % on {n} images"
    guessing = low <= 1 / case.classes
    if published and high < published - _NOTICEABLE:
        told = f"{measured}, but these weights are published at {100 * published:.1f} %. {_why(case, guessing)}"
        yield Finding(Level.ERROR if guessing and n >= _FEWEST else Level.WARNING, "clean accuracy", told)
    elif guessing and high < 0.5:
        told = f"{measured}, no better than guessing among {case.classes} classes. {_why(case, guessing)}"
        yield Finding(Level.WARNING, "clean accuracy", told)
    else:
        beside = f" (published: {100 * published:.1f} %)" if published else ""
        yield Finding(Level.GOOD, "clean accuracy", f"{100 * right / n:.1f} % on {n} images{beside}")


def normalisation(case: Case) -> Iterable[Finding]:
    """A normalisation that Assay knows."""
    if case.model.mean is not None:
        yield Finding(Level.GOOD, "normalisation", "known, and inside the model")
        return
    told = (
        "The model's normalisation is unknown: it is taken to be inside, and images in [0, 1] go in as they are. If it "
        "is not, say it: my.py:factory?mean=0.485,0.456,0.406&std=0.229,0.224,0.225. Budgets in normalised units need "
        "it."
    )
    yield Finding(Level.NOTE, "normalisation", told)


def _why(case: Case, guessing: bool) -> str:
    if not guessing:
        return "Images may not be prepared as these weights want (size, interpolation, normalisation), or be harder."
    swapped = _swapped(case)
    if swapped:
        return f"Labels and classes do not line up: {swapped}. Name folders by label number or class name{_MORE}"
    return (
        "Labels and classes do not line up, or images are not prepared as in training (normalisation inside the model, "
        f"channel order). Name class folders by label number, synset or class name{_MORE}"
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
