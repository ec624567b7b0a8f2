"""Measure what every check says of honest and of broken models, and write it where the docs show it.

Usage: python scripts/calibrate_audit.py [--digits 200] [--seeds 3] [--only NAME ...] [--into FILE]

Broken defences around `zoo:mnist-cnn` are evaluated as most papers do, with 40 steps of PGD on the cross-entropy at
Linf 0.3; honest networks with the cascade, in Linf, L2 and L1; those around `efficientnet-lite0` on the 20 sample
pictures at Linf 8/255. Each evaluation is audited (quick) under several seeds; under one seed alone the pictures, and
once more the broken defences that are not random, with the undefended network as their twin.
Adds to FILE, `docs/audit/calibration.json` if none is named, from which `scripts/checks_page.py` makes pages and plots.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import assay
from assay.attacks import ATTACKS
from assay.audit.audit import audit_run
from assay.audit.checks import VERSION
from assay.audit.zoo import BROKEN, wrap
from assay.data import Data
from assay.evaluation.loader import Loader
from assay.evaluation.records.verdicts import Verdict
from assay.models import Classifier

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
TARGET = ROOT / "docs" / "audit" / "calibration.json"

BUDGETS = {
    "plain": ("0.1", "1", "5"),
    "pgd": ("0.3", "2", "7"),
    "trades": ("0.3", "2", "7"),
    "linear": ("0.03", "0.5", "2"),
    "rbf": ("0.1", "1", "5"),
    "smooth-cnn": ("0.1", "1", "5"),
    "transformer": ("0.05", "0.5", "2"),
}
"""Budgets in Linf, L2 and L1 that leave something standing."""

PICTURES, TWIN, GUARDED = "lite0", "broken, with a twin", "guarded"
ONCE = (PICTURES, TWIN)
# distillation is a network of its own, and without its own training nothing is left of a network with k winners
ON_PICTURES = tuple(name for name in BROKEN if name not in ("distillation", "k_winners"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every case that is asked for, and keep each as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--into", type=Path, default=TARGET)
    asked = parser.parse_args(arguments)
    target: Path = asked.into
    known: dict[str, Any] = json.loads(target.read_text()) if target.is_file() else {}
    for name, group, classifier, how in cases(asked.only):
        model = classifier()
        pictures = group == PICTURES
        data = assay.load_data("samples" if pictures else "mnist/test", model=model, limit=asked.digits)
        seeds = 1 if group in ONCE else asked.seeds
        twin = assay.load_model("zoo:mnist-cnn") if group == TWIN else None
        known[name] = {
            "group": group,
            "attack": how[0],
            "norm": how[1],
            "eps": how[2],
            "versions": {"checks": VERSION, how[0]: ATTACKS[how[0]].version},
            "digits": len(data.ids),
            "audits": [plain(one) for one in audits(model, data, how, seeds, twin)],
        }
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        told = ", ".join(f"{one['verdict']} {one['first']:.3f} -> {one['after']:.3f}" for one in known[name]["audits"])
        print(f"{name}: {told}", flush=True)


def cases(only: list[str]) -> Iterator[tuple[str, str, Any, tuple[str, str, str]]]:
    """Yield a name, the group, a function that gives the model, and the attack, the norm and the budget.

    `only` names models (all norms of one), single cases, or groups.
    """
    for name, group, model, how in every_case():
        if not only or {name, name.split()[0], group} & set(only):
            yield name, group, model, how


def every_case() -> Iterator[tuple[str, str, Any, tuple[str, str, str]]]:
    """Yield every case, see `cases`."""
    from tests.support.honest import HONEST, honest

    for name in BROKEN:
        yield name, "broken", partial(defended, name), ("pgd", "linf", "0.3")
    for name in HONEST:
        for norm, eps in zip(("linf", "l2", "l1"), BUDGETS[name], strict=True):
            yield f"{name} {norm}", "honest", partial(honest, name), ("cascade", norm, eps)
    for norm, eps in zip(("linf", "l2", "l1"), BUDGETS["plain"], strict=True):
        yield f"guarded {norm}", GUARDED, guarded, ("cascade", norm, eps)
    for name, broken in BROKEN.items():
        if not broken.random:
            yield f"{name} twinned", TWIN, partial(defended, name), ("pgd", "linf", "0.3")
    for name in ON_PICTURES:
        model = partial(assay.load_model, f"assay.audit.zoo.lite0:{name}")
        yield f"{name} lite0", PICTURES, model, ("pgd", "linf", "8/255")


def defended(name: str) -> Classifier:
    """Return a broken defence around the MNIST network."""
    return wrap(name, assay.load_model("zoo:mnist-cnn"))


def guarded() -> Classifier:
    """Return the MNIST network behind `x.clamp(0, 1)`, which changes no digit."""
    return assay.load_model("benchmarks.strength.guarded:cnn")


def audits(
    classifier: Classifier, data: Data, how: tuple[str, str, str], seeds: int, twin: Classifier | None
) -> Iterator[Verdict]:
    """Evaluate once, and audit under each seed."""
    attack, norm, eps = how
    with tempfile.TemporaryDirectory() as folder:
        threat = {"norm": norm, "eps": [eps]}
        run = assay.evaluate(classifier, data, [attack], threat, folder, doctor=False, audit="off").run
        for seed in range(seeds):
            loader = Loader(models={classifier.spec: classifier}, datasets={data.source: data})
            yield from audit_run(run, loader=loader, seed=seed, twin=twin)
            loader.close()


def plain(one: Verdict) -> dict[str, Any]:
    """Return what the page shows of a verdict."""
    return {
        "seed": one.seed,
        "verdict": one.verdict,
        "why": one.why,
        "first": one.as_first_measured,
        "after": one.after_escalation,
        "resolution": one.resolution,
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
