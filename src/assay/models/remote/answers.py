"""Answers read and checked: what is no row of numbers for each image is an error, in words.

NaN and infinity are passed on, as of any model: no attack succeeds by them, and an image with such scores is an error
in the records.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.errors import BadInput, ModelError
from assay.models.remote.client import Rows
from assay.models.remote.transport import Answered, excerpt


def parsed(body: bytes, answered: Answered, shown: str) -> Any:
    """Return the JSON of an answer's body. Raises `ModelError` for an error page and for text cut short."""
    import orjson

    # servers of .NET mark their text as UTF-8 so
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    if b"NaN" in body or b"Infinity" in body:
        # no JSON, and what Triton writes all the same
        with contextlib.suppress(ValueError):
            return json.loads(body)
    kind = answered.headers.get("content-type", "").partition(";")[0] or "no content type"
    raise ModelError(
        f"The endpoint {shown} answered {answered.status} with {kind}, which is not JSON, or cut short "
        f"({len(body)} bytes): {excerpt(body[:2000].decode('utf-8', 'replace')) or 'nothing'}"
    )


def numbers(value: Any, shown: str) -> Rows:
    """Return nested lists of numbers as float32 of their shape.

    null is NaN, as KServe and MLServer write it. Raises `ModelError` for text, and for lists of different lengths.
    """
    try:
        # float64 first: what a JSON number means, rounded once. NumPy reads None as NaN
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ModelError(
            f"The endpoint {shown} answered what are no rows of numbers: {excerpt(json.dumps(value, default=str))}"
        ) from None
    with np.errstate(over="ignore"):  # beyond float32 is infinity
        return found.astype(np.float32)


def one_whole_number_each(value: Any, n: int, shown: str) -> None:
    """Raise `ModelError` for one whole number per image, which is a class, where scores were to be answered."""
    flat = (
        [one[0] if isinstance(one, list) and len(one) == 1 else one for one in value] if isinstance(value, list) else []
    )
    if len(flat) == n and all(type(one) is int for one in flat):
        raise ModelError(
            f"The endpoint {shown} answered {excerpt(str(flat))} for {n} images: class numbers, where scores were "
            "expected. Describe it in an endpoint.yaml: answer: {labels: …, outputs: labels}, classes: 10."
        )


def by_row(scores: Rows, n: int, classes: int | None, shown: str) -> Rows:
    """Return float32 scores `[n, K]`, contiguous, of an answer in any of the shapes that servers give.

    `[n, K]`, with sides of 1 after it, `[K]` for one image, `[n]` for one score per image, and all in one row. Raises
    `ModelError` for another number of images or classes.
    """
    wanted = scores
    if scores.ndim > 2 and len(scores) == n:
        wanted = scores.reshape(n, -1) if max(scores.shape[2:]) == 1 else scores
    if scores.ndim == 1:
        one_each = len(scores) == n and classes in (None, 1, 2) and not (n == 1 and classes is None and scores.size > 1)
        if one_each:
            wanted = scores.reshape(n, 1)
        elif n == 1 or (classes is not None and scores.size == n * classes):
            wanted = scores.reshape(n, -1)
    if wanted.ndim != 2 or len(wanted) != n or wanted.shape[1] < 1:
        raise ModelError(
            f"The endpoint {shown} answered {list(scores.shape)} for {n} images, expected {_rows(n, classes)}."
        )
    # one score per image stands for two classes
    if classes is not None and wanted.shape[1] not in ((1, 2) if classes == 2 else (classes,)):
        raise ModelError(
            f"The endpoint {shown} answered {wanted.shape[1]} scores per image, expected {classes}: its number of "
            "classes is another one, or it leaves the lowest out. Say how many it has (classes=…), or take labels "
            "alone."
        )
    return np.ascontiguousarray(wanted, dtype=np.float32)


def class_numbers(answer: Rows, n: int, classes: int, shown: str) -> Rows:
    """Return class numbers `[n, 1]`, float32. Raises `ModelError` for what are none below `classes`."""
    flat = answer.reshape(-1)
    if flat.size != n or (flat != np.floor(flat)).any() or (flat < 0).any() or (flat >= classes).any():
        given = excerpt(str(flat[:8].tolist()))
        raise ModelError(
            f"The endpoint {shown} answered {given} for {n} images, expected one class number from 0 to {classes - 1} "
            "for each."
        )
    return np.ascontiguousarray(flat.reshape(n, 1), dtype=np.float32)


def only(found: Sequence[Mapping[str, Any]], wanted: str, what: str, shown: str) -> Mapping[str, Any]:
    """Return the tensor of that name, or the only one. Raises `BadInput` where there is none, or a choice."""
    names = [str(one.get("name")) for one in found]
    if wanted:
        for one in found:
            if one.get("name") == wanted:
                return one
        raise BadInput(f"The endpoint {shown} has no {what} {wanted!r}; it has {', '.join(names) or 'none'}.")
    if not found:
        raise BadInput(f"The endpoint {shown} states no {what}. State it where the model is configured.")
    if len(found) != 1:
        raise BadInput(
            f"The endpoint {shown} has {len(names)} {what}s: {', '.join(names)}. Say which: ?{what}={names[0]}."
        )
    return found[0]


def _rows(n: int, classes: int | None) -> str:
    return f"[{n}, {'K' if classes is None else classes}]"
