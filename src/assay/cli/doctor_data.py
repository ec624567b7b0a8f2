"""The doctor's checks of images, labels and normalisation."""

from __future__ import annotations

from collections.abc import Iterable

from assay.cli.doctor_findings import Case, Finding, Level

_FEWEST = 10
_DIM, _DIVIDED_TWICE = 0.1, 0.02
"""Brightest pixels below which images do not use their range, and below which they were divided twice."""


def images(case: Case) -> Iterable[Finding]:
    """Images that use their range, all of them readable."""
    x = case.seen.x
    brightest = float(x.max())
    # what the files hold is a better advice than what their pixels became
    noted = any("they seem to hold" in note for note in case.data.about_pictures)
    if brightest < _DIM and not noted:
        told = f"The brightest pixel of {case.n} images is {brightest:.3g}, expected values up to 1. "
        yield Finding(Level.WARNING, "images", told + _why_dim(brightest))
    elif not noted:
        yield Finding(Level.GOOD, "images", f"{list(x.shape[1:])}, from {float(x.min()):.3g} to {float(x.max()):.3g}")
    for note in case.data.about_pictures:
        yield Finding(Level.WARNING, "images", note)
    for one in case.seen.unreadable[:3]:
        yield Finding(Level.WARNING, "images", f"{one.id} could not be read and will be an error record: {one.error}")


def _why_dim(brightest: float) -> str:
    if brightest < _DIVIDED_TWICE:
        return "Were they divided by 255 twice?"
    # digits of scikit-learn are bytes up to 16 (0.0627); models trained on such images answer well, and nothing shows
    return (
        f"In bytes that is {255 * brightest:.0f} of 255. If it stands for white in your data, divide by it: ?scale=N "
        "behind npz: and hdf5:, ?white=N behind folder: and table:. Budgets are shares of [0, 1], large against "
        "such images."
    )


def labels(case: Case) -> Iterable[Finding]:
    """Labels of more than one class, and whatever was noted when they were read."""
    for note in case.data.notes:
        if note not in case.data.about_pictures:
            yield Finding(Level.WARNING, "labels", note)
    if len(set(case.data.labels)) == 1 and len(case.data) > _FEWEST:
        told = f"All {len(case.data)} samples have the label {case.data.labels[0]}, expected several labels."
        yield Finding(Level.WARNING, "labels", told)


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
