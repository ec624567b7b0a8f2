"""Benchmark folders of the verification competition VNN-COMP: instances, `.vnnlib` properties, verifiers' answers.

Properties are read as far as they are questions of robustness: a box around an image, and which classes may not reach
the label's score. Anything else is refused.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core.errors import BadInput

SAFE, UNSAFE, UNKNOWN = "safe", "unsafe", "unknown"

# what verifiers call them: a counterexample is a solution of the property's constraints
_WORDS = {SAFE: SAFE, UNSAFE: UNSAFE, "unsat": SAFE, "sat": UNSAFE, "holds": SAFE, "violated": UNSAFE}
# float32 holds a box's edges only so closely
_EDGE = 1e-6


@dataclasses.dataclass(frozen=True)
class Property:
    """A box of inputs, `lower` to `upper` (float64 `[n]`), in which no class of `others` may reach the `label`'s score.

    An input in the box whose score of one of them is at least the label's is a counterexample.
    """

    lower: Tensor
    upper: Tensor
    label: int
    others: tuple[int, ...]

    def ball(self) -> tuple[Tensor, float]:
        """Return the image `[n]` and the radius whose Linf ball, cut by [0, 1], is the box.

        Raises `BadInput` where it is no such ball.
        """
        eps = float((self.upper - self.lower).max()) / 2
        # an edge at 0 or 1 may have been cut off: the other one tells where the image is
        x = torch.where(self.lower <= 0, self.upper - eps, torch.where(self.upper >= 1, self.lower + eps, self.middle))
        x = x.clamp(0, 1)
        off = torch.maximum(((x - eps).clamp(0, 1) - self.lower).abs(), ((x + eps).clamp(0, 1) - self.upper).abs())
        at = int(off.argmax())
        if float(off[at]) > _EDGE:
            box = f"X_{at} from {float(self.lower[at]):g} to {float(self.upper[at]):g}"
            raise BadInput(f"The box is no Linf ball inside [0, 1]: {box}, with a radius of {eps:g} elsewhere.")
        return x, eps

    @property
    def middle(self) -> Tensor:
        """The middle of the box, `[n]`."""
        return (self.lower + self.upper) / 2

    def nearest(self, z: Tensor) -> Tensor:
        """Return the float32 point of the box nearest to `z` `[n]`."""
        up, down = torch.full_like(z, math.inf), torch.full_like(z, -math.inf)
        low, high = self.lower.to(z.dtype), self.upper.to(z.dtype)
        # an edge that rounding moved out of the box goes one number back
        low = torch.where(low.double() < self.lower, low.nextafter(up), low)
        high = torch.where(high.double() > self.upper, high.nextafter(down), high)
        return z.clamp(low, high)


@dataclasses.dataclass(frozen=True)
class Instance:
    """A network and a property, by their paths in the folder, and what verifiers answered: safe, unsafe or unknown."""

    network: str
    property: str
    answer: str

    @property
    def name(self) -> str:
        """Network and property by their files' names."""
        return f"{Path(self.network).stem} {Path(self.property).stem}"


def read_instances(folder: Path) -> list[Instance]:
    """Return the instances of a folder in the order of `instances.csv`, with the answers of all `answers*.csv`.

    Answers are lines `network,property,answer`, or a verifier's own `category,network,property,seconds,answer,seconds`
    as the competition publishes them. Raises `BadInput` for a missing file and for answers that contradict each other.
    """
    answers: dict[tuple[str, str], str] = {}
    for file in sorted(folder.glob("answers*.csv")):
        for network, of, said in _answers(file):
            if answers.setdefault((network, of), said) != said:
                raise BadInput(f"{file}: {network} {of} is {said}, and another verifier says the opposite.")
    listed = [row[:2] for row in _rows(folder / "instances.csv")]
    return [Instance(one, of, answers.get((Path(one).stem, Path(of).stem), UNKNOWN)) for one, of in listed]


def _answers(file: Path) -> Iterator[tuple[str, str, str]]:
    for row in _rows(file):
        network, of, said = row if len(row) == 3 else (row[1], row[2], row[4]) if len(row) >= 5 else ("", "", "")
        known = _WORDS.get(said.strip())
        if known:
            yield Path(network).stem, Path(of).stem, known


def _rows(file: Path) -> list[list[str]]:
    if not file.exists():
        raise BadInput(f"{file} is not there. A benchmark folder holds instances.csv: lines network,property,seconds.")
    with file.open(newline="", encoding="utf-8") as lines:
        return [row for row in csv.reader(lines) if len(row) >= 3]


def content(file: Path) -> bytes:
    """Return a file's bytes; of `FILE.gz` where there is no `FILE`. Raises `BadInput` where neither is."""
    packed = file.with_name(f"{file.name}.gz")
    if file.exists():
        return file.read_bytes()
    if packed.exists():
        return gzip.decompress(packed.read_bytes())
    raise BadInput(f"{file} is not there, and no {packed.name} either.")


def read_property(text: str) -> Property:
    """Return the property of a `.vnnlib` file. Raises `BadInput`, which names the part, for any other question."""
    bounds: dict[int, list[float]] = {}
    pairs: list[tuple[int, int]] = []
    for form in _forms(text):
        if form[0] == "declare-const":
            if form[1].startswith("X_"):
                bounds[_number(form[1])] = [-math.inf, math.inf]
        elif form[0] == "assert":
            _read_assert(form[1], bounds, pairs)
        else:
            raise BadInput(f"The property has {_written(form)}, expected declare-const or assert.")
    labels = {label for _, label in pairs}
    if len(labels) != 1:
        raise BadInput(f"The property compares with the classes {sorted(labels)}; expected one, the label.")
    lower, upper = torch.tensor([bounds[i] for i in range(len(bounds))], dtype=torch.float64).unbind(1)
    if not bool((lower <= upper).all() and lower.isfinite().all() and upper.isfinite().all()):
        raise BadInput("The property leaves an input without bounds, or with a lower one above the upper one.")
    return Property(lower, upper, labels.pop(), tuple(sorted({other for other, _ in pairs})))


def _read_assert(form: Any, bounds: dict[int, list[float]], pairs: list[tuple[int, int]]) -> None:
    head, rest = form[0], form[1:]
    if head in ("<=", ">=") and isinstance(rest[0], str) and rest[0].startswith("X_"):
        low, high = bounds[_number(rest[0])]
        value = float(rest[1])
        bounds[_number(rest[0])] = [low, min(high, value)] if head == "<=" else [max(low, value), high]
        return
    if pairs:
        raise BadInput(f"The property asks for {_written(form)} as well; expected one assert about Y, perhaps an or.")
    for part in rest if head == "or" else (form,):
        (part,) = part[1:] if part[0] == "and" and len(part) == 2 else (part,)
        names = [name for name in part[1:] if isinstance(name, str) and name.startswith("Y_")]
        if part[0] not in ("<=", ">=") or len(names) != 2:
            raise BadInput(f"The property asks for {_written(part)}; expected one comparison of two Y.")
        over, under = names if part[0] == ">=" else reversed(names)
        pairs.append((_number(over), _number(under)))


def _number(name: str) -> int:
    return int(name[2:])


def _forms(text: str) -> list[Any]:
    # nested lists of words
    lines = (line.partition(";")[0] for line in text.splitlines())
    words = " ".join(lines).replace("(", " ( ").replace(")", " ) ").split()
    stack: list[list[Any]] = [[]]
    for word in words:
        if word == "(":
            stack.append([])
        elif word != ")":
            stack[-1].append(word)
        elif len(stack) == 1:
            raise BadInput("The property has a ) without its (.")
        else:
            closed = stack.pop()
            stack[-1].append(closed)
    if len(stack) > 1:
        raise BadInput("The property ends inside a (.")
    return stack[0]


def _written(form: Any) -> str:
    return form if isinstance(form, str) else f"({' '.join(_written(part) for part in form[:4])})"
