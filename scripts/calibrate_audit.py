"""Measure what every check says of honest and of broken models, and write it where the docs show it.

Usage: python scripts/calibrate_audit.py [--digits 200] [--seeds 3] [--only NAME ...]

Broken defences around `zoo:mnist-cnn` are evaluated as most papers do, with 40 steps of PGD on the cross-entropy at
Linf 0.3; honest networks with the cascade, in Linf and L2. Each evaluation is audited (quick) under several seeds.
Writes `docs/audit/calibration.json`, from which `scripts/checks_page.py` makes pages and plots.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import assay
from assay.audit.audit import audit_run
from assay.audit.zoo import BROKEN, wrap
from assay.evaluate.loading import Loader
from assay.evaluate.verdict import Verdict
from assay.models import Classifier

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
TARGET = ROOT / "docs" / "audit" / "calibration.json"

BUDGETS = {
    "plain": ("0.1", "1"),
    "pgd": ("0.3", "2"),
    "trades": ("0.3", "2"),
    "linear": ("0.03", "0.5"),
    "rbf": ("0.1", "1"),
    "smooth-cnn": ("0.1", "1"),
    "transformer": ("0.05", "0.5"),
}
"""Budgets in Linf and L2 that leave something standing."""


def main() -> None:
    """Run every case that is asked for, and keep each as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    asked = parser.parse_args()
    known: dict[str, Any] = json.loads(TARGET.read_text()) if TARGET.is_file() else {}
    for name, group, classifier, attack, norm, eps in cases(asked.only):
        known[name] = {
            "group": group,
            "attack": attack,
            "norm": norm,
            "eps": eps,
            "digits": asked.digits,
            "audits": [plain(one) for one in audits(classifier(), (attack, norm, eps), asked.digits, asked.seeds)],
        }
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        told = ", ".join(f"{one['verdict']} {one['first']:.3f} -> {one['after']:.3f}" for one in known[name]["audits"])
        print(f"{name}: {told}", flush=True)


def cases(only: list[str]) -> Iterator[tuple[str, str, Any, str, str, str]]:
    """Yield a name, the group, a function that gives the model, the attack, the norm and the budget."""
    from tests.honest import HONEST, honest

    for name in BROKEN:
        if not only or name in only:
            yield name, "broken", lambda name=name: wrap(name, assay.load_model("zoo:mnist-cnn")), "pgd", "linf", "0.3"
    for name in HONEST:
        for norm, eps in zip(("linf", "l2"), BUDGETS[name], strict=True):
            if not only or name in only:
                yield f"{name} {norm}", "honest", lambda name=name: honest(name), "cascade", norm, eps


def audits(classifier: Classifier, how: tuple[str, str, str], digits: int, seeds: int) -> Iterator[Verdict]:
    """Evaluate once, and audit under each seed."""
    attack, norm, eps = how
    data = assay.load_data("mnist/test", model=classifier, limit=digits)
    with tempfile.TemporaryDirectory() as folder:
        threat = {"norm": norm, "eps": [eps]}
        run = assay.evaluate(classifier, data, [attack], threat, folder).run
        for seed in range(seeds):
            loader = Loader(models={classifier.spec: classifier}, datasets={data.source: data})
            yield from audit_run(run, loader=loader, seed=seed)
            loader.close()


def plain(one: Verdict) -> dict[str, Any]:
    """Return what the page shows of a verdict."""
    return {
        "seed": one.seed,
        "verdict": one.verdict,
        "why": one.why,
        "first": one.as_first_measured,
        "after": one.after_escalation,
        "passes": one.passes,
        "escalation": one.escalation,
        "evaluation": one.evaluation_passes,
        "checks": {
            finding.check: [finding.value, finding.flag, finding.n, finding.threshold] for finding in one.findings
        },
        "costs": one.per_check,
    }


if __name__ == "__main__":
    main()
