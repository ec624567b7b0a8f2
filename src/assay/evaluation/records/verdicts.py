"""Verdicts: how far a robust number can be trusted, and the evidence. An audit writes them, readers join them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput
from assay.files import make_folder, write_atomically
from assay.wording import measure

TRUSTED, SUSPECT, REFUTED = "trusted", "suspect", "refuted"
VERDICTS = (TRUSTED, SUSPECT, REFUTED)
FOLDER, FILE = "audit", "verdicts.json"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check found on `n` images: its measured value against a threshold, what that means, what to do.

    `flag` says that the number may be too high; `mandatory` that a flag is enough to doubt it. A check that could not
    be asked has no value.
    """

    check: str
    value: float | None
    threshold: float | None
    flag: bool
    mandatory: bool
    n: int
    meaning: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempt of the escalation: how many survivors it was tried on, and how many it broke.

    `skipped` is how many survivors more it would have been tried on, had the passes sufficed or nobody stopped it.
    `family` is the family of attacks that it counts in, where the attempt was made.
    """

    name: str
    why: str
    asked: int
    broken: int
    passes: int
    skipped: int = 0
    family: str = ""


@dataclasses.dataclass(frozen=True)
class FamilyLook:
    """How closely one family of attacks looked at a number: its `attack` broke `broken` of `asked` survivors.

    They were drawn at random from a `population` of survivors that nothing certifies. `bound` is the share of all
    images that the attack could break at most, at 95 %: among the survivors that it did not meet, too.
    """

    family: str
    attack: str
    population: int
    asked: int
    broken: int
    bound: float


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What an audit says about the robust accuracy of a model on data under a threat of one budget.

    `cells` are the digests of the cells that the number comes from, each with the verdict on its own number. Of the
    `n` samples evaluated `survived` did so; `asked` of them met the escalation, which broke `broken`, and
    `after_escalation` is the accuracy that this leaves, estimated where not all were asked. `checks` is the version of
    the checks. `passes` are rows that went through the model, `evaluation_passes` those of the evaluation, `escalation`
    those of the attempts, which may be at most `escalation_limit` (None: any number), `per_check` those of each probe.
    `stopped` says that the escalation was interrupted: the audit goes on with it. `curves` are what charts draw.
    `images` is the file of the adversarial images, beside the verdicts.

    Of those that survived, `certified` are proved to withstand, and were not asked. `looks` say how closely each family
    of attacks that trust rests on looked, and `resolution` is the largest of their bounds: the share of all images that
    could fall without the audit having seen it. None where no family looked (verdicts of older checks; nothing open).

    `access` is the most that the model gives. Of one that gives scores or labels alone, `queries_limit` is how often
    an attack of the evaluation asked about an image at most, and `twin` names the white-box twin that led the audit.
    """

    cells: dict[str, str]
    model: str
    data: str
    threat: str
    unit: str
    eps: float
    eps_written: str
    goal: str
    preset: str
    seed: int
    checks: int
    verdict: str
    why: str
    n: int
    survived: int
    asked: int
    broken: int
    as_first_measured: float
    after_escalation: float
    findings: tuple[Finding, ...]
    attempts: tuple[Attempt, ...]
    passes: int
    escalation: int
    evaluation_passes: int
    per_check: dict[str, int]
    seconds: float
    curves: dict[str, Any]
    images: str | None = None
    escalation_limit: int | None = None
    stopped: bool = False
    certified: int = 0
    looks: tuple[FamilyLook, ...] = ()
    resolution: float | None = None
    access: str = "gradient"
    queries_limit: int | None = None
    twin: str = ""

    @property
    def wording(self) -> str:
        """What to call the number."""
        return measure(self.access, self.queries_limit)

    @property
    def open(self) -> int:
        """How many survived, and are not certified."""
        return self.survived - self.certified

    @property
    def skipped(self) -> tuple[str, ...]:
        """The attempts that were not made on all survivors that they were meant for."""
        return tuple(one.name for one in self.attempts if one.skipped)

    @property
    def why_skipped(self) -> str:
        """Why attempts were not made on all survivors that they were meant for."""
        most = "all" if self.escalation_limit is None else f"{self.escalation_limit:,}"
        return "the escalation was stopped" if self.stopped else f"the limit of {most} passes was reached"

    @property
    def key(self) -> tuple[Any, ...]:
        """What the verdict is about."""
        return (self.model, self.data, self.threat, self.unit, self.eps, self.goal)

    def plain(self) -> dict[str, Any]:
        """Return plain values, which JSON can hold; `of` reads them back. What is no finite number becomes None."""
        return {name: _finite(value) for name, value in dataclasses.asdict(self).items()}

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Verdict:
        """Return the verdict that plain values describe. Raises `BadInput` for anything else."""
        try:
            findings = tuple(Finding(**one) for one in plain["findings"])
            attempts = tuple(Attempt(**one) for one in plain["attempts"])
            looks = tuple(FamilyLook(**one) for one in plain.get("looks", ()))
            if plain["verdict"] not in VERDICTS:
                raise TypeError(f"verdict {plain['verdict']!r}, expected one of {', '.join(VERDICTS)}")
            return Verdict(**{**plain, "findings": findings, "attempts": attempts, "looks": looks})
        except (KeyError, TypeError) as error:
            raise BadInput(f"This is no stored verdict ({error}). Audit the run again.") from error


def _finite(value: Any) -> Any:
    # JSON has no NaN, and a network whose logits are infinite must not end an audit
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def read_verdicts(folder: Path) -> list[Verdict]:
    """Return the verdicts of a run directory, none where it was not audited."""
    path = folder / FOLDER / FILE
    if not path.is_file():
        return []
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return [Verdict.of(one) for one in plain]
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path} cannot be read ({error}). Remove it and audit the run again.") from error


def keep_verdicts(folder: Path, verdicts: Iterable[Verdict]) -> None:
    """Write verdicts into a run directory; one about the same number replaces the one that was there."""
    kept = {one.key: one for one in (*read_verdicts(folder), *verdicts)}
    make_folder(folder / FOLDER)
    told = json.dumps([one.plain() for one in kept.values()], indent=1, allow_nan=False)
    write_atomically(folder / FOLDER / FILE, told.encode())
