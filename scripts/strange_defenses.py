"""Print the table of docs/strange-defenses.md: what PGD leaves of every strange defence, the truth, and the verdict.

python scripts/strange_defenses.py --part "held out"        # 50 digits each; an hour on one core, most of it audits
python scripts/strange_defenses.py --only wave humps --digits 20

The number is what 40 steps of PGD on the cross-entropy leave, as most papers measure. The truth is bounded from above
by attacks that know the defence: PGD on the margin of what its module says in `climbed`, at the point and averaged over
a neighbourhood as wide as the budget, every step judged by the whole; and by what the audit itself breaks.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator

import torch
from torch import Tensor

import assay
from assay.attacks import build
from assay.audit.audit import audit_run
from assay.audit.broken.strange import PARTS, STRANGE, StrangeDefense, part
from assay.audit.guides import Guided
from assay.audit.probes.other_slopes import smoothed
from assay.core.compose import Method, run
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.oracle import TorchOracle
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.threat import L1, L2, Linf, Threat
from assay.data import Data
from assay.evaluation.loader import Loader
from assay.evaluation.records.verdicts import Verdict
from assay.models import Classifier

THREATS = {"linf": Linf, "l2": L2, "l1": L1}
EVALUATION = {"attack": "pgd", "steps": 40}


def left(one: StrangeDefense, model: Classifier, data: Data) -> float:
    """Return the share of images that attacks leave standing that know the defence."""
    samples = list(data.load(range(len(data.ids))))
    x, y = torch.stack([sample.image for sample in samples]), torch.tensor(data.labels)  # type: ignore[union-attr]  # readable
    threat = THREATS[one.norm](one.eps)
    with model.held() as held:
        with torch.no_grad():
            standing = (held.module(x).argmax(1) == y).nonzero().squeeze(1)
        for number, (guide, method) in enumerate(knowing(held.module, threat, x)):
            if not len(standing):
                break
            problem = Problem(guide, x[standing], Untargeted(y[standing]), threat)
            draws = Draws.of([f"{number} {i}" for i in standing.tolist()], 0)
            standing = standing[~run(method, problem, draws, keeps=Keeps.FIRST).success]
    return len(standing) / len(y)


def knowing(module: torch.nn.Module, threat: Threat, x: Tensor) -> Iterator[tuple[Guided, Method]]:
    """Yield the attacks that know a defence."""
    for climbed in module.climbed():  # type: ignore[operator]  # the modules of the zoo have it
        guide = Guided(TorchOracle(module), TorchOracle(climbed))
        yield guide, build("pgd", steps=40, objective="margin")
        yield guide, smoothed(threat, x, 15, 5)


def audited(name: str, one: StrangeDefense, digits: int, preset: str) -> tuple[Verdict, float]:
    """Evaluate and audit a strange defence, and return the verdict and the known truth."""
    model = assay.load_model(f"assay.audit.zoo.strange:{name}")
    data = assay.load_data("mnist/test", model=model, limit=digits)
    with tempfile.TemporaryDirectory() as folder:
        threat = {"norm": one.norm, "eps": [one.eps]}
        found = assay.evaluate(model, data, [EVALUATION], threat, folder, doctor=False, audit="off").run
        loader = Loader(models={model.spec: model}, datasets={data.source: data})
        (verdict,) = audit_run(found, preset, loader=loader)
        loader.close()
    return verdict, left(one, model, data)


def main() -> None:
    """Measure one row after the other."""
    flags = argparse.ArgumentParser()
    flags.add_argument("--digits", type=int, default=50)
    flags.add_argument("--preset", default="quick")
    flags.add_argument("--part", choices=PARTS)
    flags.add_argument("--only", nargs="*", choices=tuple(STRANGE), default=[])
    given = flags.parse_args()
    print("| defence | threat | first | known truth | after the audit | verdict | what flags | what breaks most |")
    print("| --- | --- | ---: | ---: | ---: | --- | --- | --- |", flush=True)
    for name, one in STRANGE.items():
        if (given.part and part(name) != given.part) or (given.only and name not in given.only):
            continue
        verdict, truth = audited(name, one, given.digits, given.preset)
        known = min(truth, verdict.after_escalation)
        said = ", ".join(finding.check for finding in verdict.findings if finding.flag and finding.mandatory)
        most = max(verdict.attempts, key=lambda attempt: attempt.broken, default=None)
        broke = "" if most is None or not most.broken else f"{most.name}: {most.broken} of {most.asked}"
        shares = " | ".join(
            f"{100 * share:.1f}" for share in (verdict.as_first_measured, known, verdict.after_escalation)
        )
        print(
            f"| `{name}`{' (honest)' if one.honest else ''} | {one.norm} {one.eps:g} | {shares} | {verdict.verdict} | "
            f"{said or 'none'} | {broke or 'nothing'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
