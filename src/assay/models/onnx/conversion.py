"""The gradients of an ONNX file: of several conversions the first that agrees with the file itself."""

from __future__ import annotations

import dataclasses
import importlib.util
import warnings

import numpy as np
from torch import Tensor, nn

from assay.core.errors import BadInput
from assay.models.onnx.parity import HALF, Precision, compared
from assay.models.onnx.reading import EXTRA, OnnxFile
from assay.models.onnx.session import Session
from assay.models.onnx.twin import CONVERTERS, NONE, Twin, check_converter, networks, why


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What became of it: the twin where there is one, and in words which converter, or why none."""

    twin: nn.Module | None = None
    told: str = ""


@dataclasses.dataclass(frozen=True)
class _Known:
    # which converter, asked about how many images in a call, and what is told of it
    name: str
    rows: int | None
    told: str


# what was found of a file stays so: in one process it is compared once
_KNOWN: dict[tuple[object, ...], _Known] = {}


def converted(file: OnnxFile, session: Session, probe: Tensor, wanted: str | None, spec: str) -> Conversion:
    """Convert what leads to the scores, and compare it with the file on images `probe` `[N, C, H, W]`.

    `wanted` is the one converter to take, or "none". Raises `BadInput` where it is unknown, or fails.
    """
    if wanted is not None:
        check_converter(wanted)
    if wanted == NONE:
        return Conversion(told="no conversion was wanted (converter=none).")
    if session.random:
        return Conversion(told="it draws its answers, and no conversion can be compared with those.")
    if wanted is None and (hopeless := _hopeless(file)):
        return Conversion(told=hopeless)
    if not np.isfinite(session(probe.numpy())).all():
        return Conversion(told="its answers are not finite (NaN or infinite), so nothing can be compared with them.")
    names = (wanted,) if wanted is not None else tuple(CONVERTERS)
    key = (file.digest, session.head.tensor, session.intake, session.rows, names)
    known = _KNOWN.get(key)
    tried = (known.name,) if known is not None else tuple(one for one in names if not _missing(one))
    failed: dict[str, str] = {}
    for name, network in networks(file, session.head.tensor, tried):
        if isinstance(network, str):
            failed[name] = network
            continue
        if known is not None:
            return Conversion(Twin(network, session.intake, known.rows), known.told)
        found = _first(network, name, session, probe)
        if isinstance(found, _Known):
            _KNOWN[key] = found
            return Conversion(Twin(network, session.intake, found.rows), found.told)
        failed[name] = found
    failed |= {name: f"{_missing(name)} is not installed ({EXTRA})" for name in names if _missing(name)}
    if wanted is not None:
        reason = failed[wanted]
        raise BadInput(f"{spec!r} could not be converted by {wanted}: {reason}. Leave converter= out to try others.")
    # what several of them meet is said once
    together = {reason: [name for name, one in failed.items() if one == reason] for reason in failed.values()}
    told = "; ".join(f"{', '.join(of_it)}: {reason}" for reason, of_it in together.items())
    return Conversion(told=f"no conversion makes the same network of it ({told}).")


def _hopeless(file: OnnxFile) -> str:
    if file.rounds:
        return f"it is quantised ({', '.join(file.rounds)}), and what is rounded has the slope 0 almost everywhere."
    if file.domains:
        return f"it has operators outside of ONNX ({', '.join(sorted(file.domains))}), which no converter reads."
    return ""


def _missing(name: str) -> str:
    return next((one for one in CONVERTERS[name].libraries if importlib.util.find_spec(one) is None), "")


def _first(network: nn.Module, name: str, session: Session, probe: Tensor) -> _Known | str:
    """Return how the network is asked so that it agrees with the file, or in words why it never does."""
    said = ""
    # one that takes any number of images is faster than one that is asked as the file is
    for rows in dict.fromkeys((None, session.rows)):
        try:
            with warnings.catch_warnings(action="ignore"):
                parity = compared(session, Twin(network, session.intake, rows), probe, precision_of(session))
        except Exception as error:
            # whatever a network raises that a converter has made
            said = why(error)
            continue
        if parity.passed:
            told = f"Gradients are those of a conversion by {CONVERTERS[name].written}, which agrees with the file: "
            return _Known(name, rows, f"{told}{parity.written}.")
        said = f"it is another network ({parity.written})"
    return said


def precision_of(session: Session) -> Precision:
    """Return what rounding does to the answers of a file."""
    precision = HALF if session.half else Precision()
    return dataclasses.replace(precision, levels=session.intake.whole_numbers)
