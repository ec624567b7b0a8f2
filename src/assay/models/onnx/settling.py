"""What an ONNX file is found to do when it is asked: where its scores are, and whether images answer for themselves."""

from __future__ import annotations

import copy

import numpy as np

from assay.core.errors import BadInput, ModelError
from assay.models.deployed import Array
from assay.models.onnx.graph import Head
from assay.models.onnx.session import Session

# of the range of scores, by which an image's answer may differ in other company; half precision rounds by more
_ALIKE, _ALIKE_HALF = 1e-4, 2e-2

_CUT = {
    "softmax": "It ends in a softmax, whose gradients vanish where it is sure: the scores are what goes into it.",
    "sigmoid": "It ends in a sigmoid: the scores are what goes into it, and 0 stands for one half.",
    "argmax": "It ends in an argmax, whose answer is a class number: the scores are what goes into it.",
}


def settled(session: Session, probe: Array) -> tuple[Session, list[str]]:
    """Return a session that is right on images `probe` float32 `[N, C, H, W]`, and what is to be said of it.

    An activation at its end is cut off where the tensor before it is found to be the scores. Raises `ModelError` where
    the file fails on such images, and `BadInput` for an output that is no row of scores.
    """
    told = []
    if session.rows is None and _fails(session, probe):
        # exported for one image, whatever its input says
        session = _asked_otherwise(session, rows=1)
        told.append("The file fails on several images in one call, so it is asked about one at a time.")
    elif session.rows is not None:
        calls = "one image" if session.rows == 1 else f"{session.rows} images"
        filled = "" if session.rows == 1 else ": others are filled up with copies"
        told.append(f"The file takes {calls} in a call{filled}. Exported with a dynamic batch, it may be faster.")
    session = _with_head(session, _true_head(session, probe))
    if session.head.end:
        told.append(_CUT[session.head.end])
    elif not session.head.output.dtype.startswith("float"):
        raise BadInput(
            f"{session.path.name} answers {session.head.output.dtype or 'no tensor'} "
            f"({session.head.output}), expected scores [N, K] of floating point. Name an output that has them, "
            "?output=NAME, or wrap class numbers: assay.Predictions(function, classes=K) with access='labels'."
        )
    if _draws(session, probe):
        session.random = True
        told.append(
            "The same image gets different answers: the file draws random numbers"
            f"{_by_what(session)}. onnxruntime draws others in every run, so that its numbers cannot be repeated "
            "exactly. If dropout was meant to be off, export the model in eval mode."
        )
    elif session.rows != 1 and _depends_on_company(session, probe):
        session = _asked_otherwise(session, alone=True)
        told.append(
            "An image's answer depends on the images asked with it, as after dynamic quantisation, so the file is "
            "asked about one at a time. In batches of other sizes it will answer otherwise."
        )
    return session, told


def _asked_otherwise(session: Session, *, rows: int | None = None, alone: bool = False) -> Session:
    other = copy.copy(session)
    other.rows, other.alone = rows or session.rows, alone or session.alone
    return other


def _with_head(session: Session, head: Head) -> Session:
    if head == session.head:
        return session
    other = copy.copy(session)
    other.head, other._of_process = head, None
    return other


def _fails(session: Session, probe: Array) -> bool:
    try:
        session.asked(probe, (session.head.output.name,))
    except ModelError:
        # one image alone tells whether it is the batch
        session.asked(probe[:1], (session.head.output.name,))
        return True
    return False


def _true_head(session: Session, probe: Array) -> Head:
    """Return the head, or the plain output where the tensor before its activation is not what it seems."""
    head = session.head
    plain = Head(head.output, head.output.name)
    if not head.end:
        return plain
    try:
        scores, output = session.asked(probe, (head.tensor, head.output.name))
    except ModelError:
        return plain
    return head if _agree(scores.astype(np.float64), output.astype(np.float64), head.end, session.half) else plain


def _agree(scores: Array, output: Array, end: str, half: bool) -> bool:
    if end == "argmax":
        # at a tie either class may be named
        named = output.astype(np.int64)
        return (
            output.shape[1] == 1
            and bool((named >= 0).all() and (named < scores.shape[1]).all())
            and bool((np.take_along_axis(scores, named, 1)[:, 0] >= scores.max(1)).all())
        )
    if scores.shape != output.shape:
        return False
    if end == "sigmoid":
        expected = 1 / (1 + np.exp(-scores))
    else:
        raised = np.exp(scores - scores.max(1, keepdims=True))
        expected = raised / raised.sum(1, keepdims=True)
    return bool(np.abs(expected - output).max() <= (_ALIKE_HALF if half else _ALIKE))


def _draws(session: Session, probe: Array) -> bool:
    one, other = session(probe), session(probe)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return False
    # on several threads sums may be taken in another order
    return float(np.abs(one - other).max()) > _rounding(session, one)


def _by_what(session: Session) -> str:
    return f" ({', '.join(session.draws)})" if session.draws else ""


def _rounding(session: Session, answers: Array) -> float:
    return (2e-3 if session.half else 2e-6) * float(np.abs(answers).max())


def _depends_on_company(session: Session, probe: Array) -> bool:
    probe = probe[:: max(1, len(probe) // 4)]
    together = session(probe)
    apart = np.concatenate([session(probe[k : k + 1]) for k in range(len(probe))])
    if not (np.isfinite(together).all() and np.isfinite(apart).all()):
        return False
    allowed = (_ALIKE_HALF if session.half else _ALIKE) * float(np.ptp(together))
    return float(np.abs(together - apart).max()) > allowed + _rounding(session, together)


__all__ = ["settled"]
