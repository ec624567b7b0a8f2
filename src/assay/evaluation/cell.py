"""A cell: one model, data set, attack, threat and list of budgets under one question; and its units of work."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from assay.core.budget import Budget
from assay.evaluation.planned import CERTIFYING, SCHEMA_VERSION, InChunks
from assay.evaluation.study.certify import CertificateSpec
from assay.evaluation.study.goal_words import telling
from assay.evaluation.study.spec import AttackSpec, DataSpec, ModelSpec, ThreatSpec
from assay.models.spec import without_limits


@dataclasses.dataclass(frozen=True)
class Cell(InChunks):
    """One model, data set, attack, threat and list of budgets under one question: plain values, fully resolved.

    A cell with a `certificate` is not attacked: it says what that proves. `before` names the bound that an attack's
    images meet first, "" where there is none.
    """

    model: ModelSpec
    weights: str
    preprocess: str
    data: DataSpec
    fingerprint: str
    ids_digest: str
    n: int
    attack: AttackSpec
    version: int
    threat: ThreatSpec
    question: str
    goal: str
    order: str
    seed: int
    chunk: int
    # where neither model nor data say how large images are, the size of most; only estimates ask
    image: tuple[int, int] = (224, 224)
    certificate: CertificateSpec | None = None
    before: str = ""

    @functools.cached_property
    def digest(self) -> str:
        """The cell's name: 16 hexadecimal digits over everything its numbers depend on."""
        told = json.dumps({"record": SCHEMA_VERSION, **self._telling()}, sort_keys=True)
        digest = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
        # a digest of digits alone, or with one e, would be taken for a number by readers that guess types
        first = "abcdef"[int(digest[0], 16) % 6] if self.certificate is None else CERTIFYING
        return first + digest[1:]

    def _telling(self) -> dict[str, Any]:
        # where a patch, a mask or a file of targets lies changes no number: digests name what they hold; nor does what
        # estimates go by,
        # or what an endpoint may be asked
        plain = {key: value for key, value in self.plain().items() if key not in ("image", "mask", "mask_share")}
        attack = {key: value for key, value in plain["specs"]["attack"].items() if key != "file"}
        specs = plain["specs"]
        model = {**specs["model"], "model": without_limits(self.model.model)}
        return {**plain, "goal": telling(self.goal), "specs": {**specs, "model": model, "attack": attack}}

    def plain(self) -> dict[str, Any]:
        """Return the cell as plain values, as the manifest keeps it; `Cell.of` reads them back."""
        flat = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        # what few cells have is told of these alone: digests of others stay as they are
        told = {name: value for name, value in flat.items() if isinstance(value, (str, int)) and name not in _RARE}
        rare: dict[str, Any] = {"before": self.before} if self.before else {}
        if self.certificate is not None:
            rare["certificate"] = self.certificate.model_dump(mode="json")
        return {
            **told,
            **rare,
            "model": self.model.label,
            "outputs": self.model.outputs,
            "data": self.data.label,
            "attack": self.attack.label,
            "threat": self.threat.label,
            "norm": self.threat.norm,
            "box": self.threat.box,
            "grid": self.threat.grid,
            "eps": [budget.written for budget in self.threat.eps],
            **self.threat.masking(),
            "unit": self.unit,
            "image": list(self.image),
            "specs": {
                "model": self.model.model_dump(mode="json", exclude_none=True),
                "data": self.data.model_dump(mode="json", exclude_none=True),
                "attack": {"attack": self.attack.attack, **self.attack.options},
            },
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Cell:
        """Return the cell that plain values describe."""
        specs = plain["specs"]
        masked = ("mask", "channels", "components", "mask_digest", "mask_share")
        threat = {key: plain[key] for key in ("norm", "eps", "box", "grid", *masked) if key in plain}
        kept = {field.name: plain[field.name] for field in dataclasses.fields(cls) if field.name not in _APART}
        return cls(
            model=ModelSpec.model_validate(specs["model"]),
            data=DataSpec.model_validate(specs["data"]),
            attack=AttackSpec.model_validate(specs["attack"]),
            threat=ThreatSpec.model_validate(threat),
            image=tuple(plain.get("image", cls.image)),
            certificate=CertificateSpec.model_validate(plain["certificate"]) if "certificate" in plain else None,
            before=plain.get("before", ""),
            **kept,
        )

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets, smallest first."""
        return self.threat.eps

    @property
    def unit(self) -> str:
        """The unit of the budgets."""
        return self.budgets[0].unit


_RARE = ("certificate", "before")
_APART = ("model", "data", "attack", "threat", "image", *_RARE)


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """A cell and one of its chunks: what is done, stored and counted as one."""

    cell: Cell
    chunk: int

    @property
    def rows(self) -> int:
        """The records it will have."""
        return self.cell.rows(self.chunk)
