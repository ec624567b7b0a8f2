"""The extension "defenses": four angles of defence, each with the number of a naive attack and of one that knows it.

Chen et al., in the paper's related work, name gradient masking, adversarial training, detection and modified inputs. A
naive attack ignores the defence: its images are made on the undefended network, or, where a network has none, by plain
PGD. The adaptive attack is the table's own for the defence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.paper.studies import raw_study
from assay.wording import bare

if TYPE_CHECKING:
    from assay.evaluation.analysis.score import Result
    from assay.evaluation.run import Run
    from assay.evaluation.study.spec import Study

NAME = "defenses"
"""What the extension, its study and its page are called."""

NOTHING, MASKING, TRAINING, DETECTION, INPUTS = (
    "no defence", "gradient masking", "adversarial training", "detection", "modified inputs",
)  # fmt: skip
ANGLES = (NOTHING, MASKING, TRAINING, DETECTION, INPUTS)

_NETWORKS = {
    "zoo:mnist-cnn": (NOTHING, "the network alone"),
    "zoo:mnist-distilled-t100": (MASKING, "defensive distillation, T = 100"),
    "zoo:mnist-pgd": (TRAINING, "trained on PGD's images"),
}


@dataclasses.dataclass(frozen=True)
class Number:
    """A share of the images with its 95 % interval."""

    share: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class Row:
    """A defence at one budget: its clean accuracy, and what a naive and an adaptive attack leave, where measured.

    Accuracies are those with rejection where the model `rejects`. `verdict` is the audit's on the adaptive number.
    """

    angle: str
    defense: str
    model: str
    rejects: bool
    norm: str
    eps: float
    eps_written: str
    clean: Number
    naive: Number | None = None
    adaptive: Number | None = None
    attack: str = ""
    verdict: str | None = None

    @property
    def gap(self) -> float | None:
        """How much of the naive number the adaptive attack takes."""
        return None if self.naive is None or self.adaptive is None else self.naive.share - self.adaptive.share


def study(limit: int | None = None) -> Study:
    """Return the study, of so many digits where a `limit` is given."""
    from assay.evaluation.study.spec import Study

    raw = raw_study(NAME)
    if limit is not None:
        raw["data"] = {**raw["data"], "sample": limit}
    return Study.of(raw)


def chains(asked: Study) -> Iterator[tuple[str, str]]:
    """Yield network and chain of each defended model of a study that has to be fitted."""
    from assay.defenses.chain import SEPARATOR, parse_chain

    for grid in asked.grids:
        for spec in grid.models:
            network, bar, chain = spec.model.partition(SEPARATOR)
            if bar and any(step.needs_fit for step in parse_chain(chain)):
                yield network.strip(), chain


def rows(run: Run) -> list[Row]:
    """Return the rows that a run of the study holds, angle by angle, in the order of the study."""
    found: dict[tuple[Any, ...], Row] = {}
    for result in run.results():
        row = _row(result, run.manifest["models"])
        key = (row.model, row.norm, row.eps)
        found[key] = _joined(found[key], row) if key in found else row
    return sorted(found.values(), key=lambda row: ANGLES.index(row.angle))


def budgets(found: Sequence[Row]) -> list[tuple[str, str]]:
    """Return norm and written budget of each group of rows, in their order."""
    return list(dict.fromkeys((row.norm, row.eps_written) for row in found))


def is_naive(attack: str, model: str) -> bool:
    """Whether an attack, as records name it, knows nothing of a model's defence."""
    return "surrogate" in attack if "|" in model else attack.startswith("pgd")


def _row(result: Result, models: Mapping[str, Any]) -> Row:
    angle, defense = _of(result.model)
    clean = Number(result.clean_accuracy, result.clean_low, result.clean_high, result.n)
    left = Number(result.robust_accuracy, result.robust_low, result.robust_high, result.n)
    rejects = bool(models.get(result.model, {}).get("rejects"))
    norm = result.threat.split()[0]
    common = (angle, defense, result.model, rejects, norm, result.eps, bare(result.eps_written), clean)
    if is_naive(result.attack, result.model):
        return Row(*common, naive=left)
    return Row(*common, adaptive=left, attack=result.attack, verdict=result.verdict)


def _joined(one: Row, other: Row) -> Row:
    return dataclasses.replace(
        one,
        naive=one.naive or other.naive,
        adaptive=one.adaptive or other.adaptive,
        attack=one.attack or other.attack,
        verdict=one.verdict or other.verdict,
    )


def _of(model: str) -> tuple[str, str]:
    from assay.defenses.chain import detects, parse_chain, written_chain

    network, bar, chain = model.partition("|")
    if not bar:
        return _NETWORKS.get(network, (NOTHING, network))
    steps = parse_chain(chain)
    return (DETECTION if detects(steps) else INPUTS), written_chain(steps, file=False)


def directory(out: Path) -> Path:
    """Return where the study runs."""
    return out / NAME


def page_path(out: Path) -> Path:
    """Return where its page is written."""
    return out / f"{NAME}.html"
