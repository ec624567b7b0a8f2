"""The baseline file: what an earlier run measured, sample by sample, small enough to be committed."""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.budget import parse_budget
from assay.core.errors import BadInput
from assay.evaluation.records.manifest import NAME as MANIFEST
from assay.gate.sides import FELL, LEFT, LEFT_OUT, UNKNOWN, WRONG, Number, Outcomes, Side, side_of

if TYPE_CHECKING:
    from assay.evaluation.run import Run

FILE = "assay-baseline.json"
VERSION = 1
_MOST_BYTES = 64_000_000
_CELL = ("model", "data", "attack", "threat", "question", "goal", "seed", "version")
_NUMBERS = ("seed", "version")


def baseline_text(run: Run) -> str:
    """Return the baseline file of a run: a line per cell with its counts, and what became of each sample.

    `patterns` are the fates that samples have over the budgets, a digit per budget (0 outside of the goal, 1 wrong
    before, 2 broken, 3 error, 4 left); `samples` says which pattern each sample has, in the order of the ids, one
    byte each, compressed, in base 85. Raises `BadInput` for a run that has no complete numbers.
    """
    side = side_of(run)
    if run.gaps() or run.status != "success":
        told = "; ".join(side.unfit[:3])
        raise BadInput(f"{run.path} is not finished: {told}. Finish it first: assay run {run.path}")
    cells: dict[str, list[Number]] = {}
    for number in side.numbers:
        cells.setdefault(number.cell, []).append(number)
    if not cells:
        raise BadInput(f"{run.path} has no attacked cell, so that nothing can be compared with it later.")
    lines = [json.dumps(_cell(side, numbers), ensure_ascii=False) for numbers in cells.values()]
    head = {
        "assay_baseline": VERSION, "study": side.study, "finished": side.finished, "versions": dict(side.versions),
        "models": dict(side.models), "data": dict(side.data), "not_reportable_because": list(side.unfit),
    }  # fmt: skip
    told = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    return told + ',\n "cells": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def _cell(side: Side, numbers: list[Number]) -> dict[str, Any]:
    found = [side.outcomes([one]) for one in numbers]
    if any(one is None for one in found):
        raise BadInput(f"{side.name} has no records of {numbers[0].attack} on {numbers[0].model}. Run it again.")
    each = [one for one in found if one is not None]
    if len({one.samples for one in each}) > 1:
        raise BadInput(f"{side.name}: the budgets of {numbers[0].attack} have different samples. Run it again.")
    states = np.stack([one.states for one in each])
    patterns, which = np.unique(states, axis=1, return_inverse=True)
    kind = np.uint8 if patterns.shape[1] <= 256 else np.dtype("<u2")
    packed = _packed(which.reshape(-1).astype(kind).tobytes())
    first = numbers[0]
    return {
        "cell": first.cell, **{name: getattr(first, name) for name in _CELL},
        "eps": [one.eps_written for one in numbers], "n": _counts(states, WRONG, FELL, LEFT),
        "clean_correct": _counts(states, FELL, LEFT), "survived": _counts(states, LEFT),
        "errors": _counts(states, UNKNOWN), "ids": each[0].samples,
        "patterns": ["".join(map(str, column)) for column in patterns.T.tolist()],
        "samples": base64.b85encode(packed).decode("ascii"),
    }  # fmt: skip


def _packed(content: bytes) -> bytes:
    found = []
    # fates that follow no order are best packed one by one, those in runs by their runs
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        pack = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
        found.append(pack.compress(content) + pack.flush())
    return min(found, key=len)


def _counts(states: Any, *kinds: int) -> list[int]:
    return [int(count) for count in np.isin(states, kinds).sum(axis=1)]


def open_side(path: str | os.PathLike[str]) -> Side:
    """Return a run directory or a baseline file as a side. Raises `BadInput` for anything else."""
    from assay.evaluation.run import Run

    place = Path(path).expanduser()
    if place.is_dir() or (not place.exists() and place.suffix != ".json"):
        return side_of(Run.open(place))
    if place.name == MANIFEST:
        raise BadInput(f"{path} is the manifest of a run. Give the run's directory: {place.parent}")
    return read_baseline(place)


def read_baseline(path: Path) -> Side:
    """Return a baseline file as a side. Raises `BadInput` for a damaged file, and one of another version."""
    fix = "Save it again: assay baseline save RUN"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadInput(f"{path} has more than {_MOST_BYTES // 1_000_000} MB, which no baseline file has. {fix}")
        plain = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"There is no baseline {path}. Save one: assay baseline save RUN -o {path}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read as a baseline ({error}). {fix}") from error
    if not isinstance(plain, Mapping) or "assay_baseline" not in plain:
        raise BadInput(f"{path} is no baseline file: it has no key 'assay_baseline'. {fix}")
    if plain["assay_baseline"] != VERSION:
        told = f"{path} is a baseline of version {plain['assay_baseline']!r}, this assay reads version {VERSION}."
        raise BadInput(f"{told} {fix}")
    try:
        return _side(path, plain)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, zlib.error, BadInput) as error:
        raise BadInput(f"{path} is damaged ({type(error).__name__}: {error}). {fix}") from error


def _side(path: Path, plain: Mapping[str, Any]) -> Side:
    cells = {str(cell["cell"]): cell for cell in plain["cells"]}
    numbers: list[Number] = []
    outcomes: dict[str, dict[float, Outcomes]] = {}
    for digest, cell in cells.items():
        states = _states(cell)
        _check_texts({name: cell[name] for name in (*_CELL, "ids") if name not in _NUMBERS})
        _check_texts(dict(enumerate(cell["eps"])))
        if not all(isinstance(cell[name], int) or (name == "version" and cell[name] is None) for name in _NUMBERS):
            raise ValueError(f"seed and version of cell {digest} are {cell['seed']!r} and {cell['version']!r}")
        outcomes[digest] = {}
        for place, written in enumerate(cell["eps"]):
            budget = parse_budget(written)
            about = (cell["model"], cell["data"], cell["attack"], cell["threat"])
            how = (cell["question"], cell["goal"], int(cell["seed"]), cell["version"])
            numbers.append(Number(digest, *about, budget.unit, budget.value, budget.written, *how))
            outcomes[digest][budget.value] = Outcomes(str(cell["ids"]), states[place])
    for name in ("models", "data"):
        _check_texts(dict(plain[name]))
    return Side(
        str(path), str(plain["study"]), str(plain["finished"]), dict(plain["models"]), dict(plain["data"]),
        dict(plain["versions"]), tuple(numbers), tuple(map(str, plain["not_reportable_because"])), outcomes.__getitem__,
    )  # fmt: skip


def _check_texts(told: Mapping[Any, Any]) -> None:
    for name, value in told.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} is {value!r}, expected a text")


def _states(cell: Mapping[str, Any]) -> Any:
    patterns = np.array([[int(digit) for digit in one] for one in cell["patterns"]], np.uint8).T
    if patterns.ndim != 2 or len(patterns) != len(cell["eps"]) or patterns.max(initial=LEFT_OUT) > LEFT:
        raise ValueError("its patterns do not fit its budgets")
    kind = np.uint8 if patterns.shape[1] <= 256 else np.dtype("<u2")
    unpack = zlib.decompressobj()
    content = unpack.decompress(base64.b85decode(cell["samples"]), _MOST_BYTES)
    if unpack.unconsumed_tail or not unpack.eof:
        raise ValueError("its samples are cut off, or more than a run has")
    states = patterns[:, np.frombuffer(content, kind)]
    # an edit by hand, or a merge, that changed one and not the other
    told = {"n": (WRONG, FELL, LEFT), "clean_correct": (FELL, LEFT), "survived": (LEFT,), "errors": (UNKNOWN,)}
    for name, kinds in told.items():
        if list(cell[name]) != _counts(states, *kinds):
            raise ValueError(
                f"{name} of cell {cell['cell']} is {cell[name]}, its samples say {_counts(states, *kinds)}"
            )
    return states


__all__ = ["FILE", "baseline_text", "open_side", "read_baseline"]
