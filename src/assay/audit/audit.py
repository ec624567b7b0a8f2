"""Auditing a run: every worst-case number in it gets a verdict, with the evidence and the images that refute it.

Evidence is gathered once for all budgets of a model, data set and threat, at one of them; where a check throws doubt on
the attacks, stronger ones try every budget, smallest first.
"""

from __future__ import annotations

from collections.abc import Callable

from assay.audit.auditor import LEAST_PASSES, PRESETS, Auditor, holds
from assay.audit.progress import OnAuditProgress
from assay.audit.robust_numbers import groups, not_adaptive
from assay.core.errors import BadInput, did_you_mean
from assay.evaluation.cell import Unit
from assay.evaluation.endpoints import check_unchanged
from assay.evaluation.loader import Loader
from assay.evaluation.records.verdicts import Verdict, keep_verdicts
from assay.evaluation.run import Run
from assay.models import Classifier
from assay.models.remote.ledger import QueriesSpent, current

Say = Callable[[str], None]


def check_preset(preset: str) -> str:
    """Return the name of a preset. Raises `BadInput` for an unknown one."""
    if preset not in PRESETS:
        raise BadInput(f"Unknown preset {preset!r}.{did_you_mean(preset, PRESETS)} There are: {', '.join(PRESETS)}.")
    return preset


def audit_run(  # shape: the options of an audit, each with its own default
    run: Run,
    preset: str = "quick",
    *,
    loader: Loader | None = None,
    twin: Classifier | None = None,
    seed: int = 0,
    say: Say = lambda text: None,
    on_progress: OnAuditProgress = lambda progress: None,
) -> list[Verdict]:
    """Audit every worst-case number of a run, keep the verdicts in its directory, and return them.

    Numbers that have verdicts by these checks, this preset or a deeper one, and this seed are not audited again. Those
    of attacks that all ignore the model's defence get none: they are not adaptive. `twin` is an undefended network for
    the same images; behind defences it is the network inside, unless another is given. `loader` holds models and data
    given as Python objects. `on_progress` hears how far the audit is, and before an escalation what it takes at most.
    Raises `BadInput` for an unknown preset.
    On Ctrl-C (`KeyboardInterrupt`) the verdicts so far are kept, and of the number that is being escalated what broke
    until then; another call goes on from there.
    """
    check_preset(preset)
    own = loader or Loader()
    known = {one.key: one for one in run.verdicts()}
    auditor = Auditor(run, own, preset, seed, twin, on_progress, say)
    verdicts: list[Verdict] = []
    try:
        for cell in not_adaptive(run):
            say(
                f"{cell.model.label} on {cell.data.source}, {cell.threat.label}: not adaptive, so no verdict. Every "
                "attack was made on another model and ignores the defence; attack the defended model itself."
            )
        for group in groups(run):
            before = [known.get(number.key) for number in group.numbers]
            pairs = zip(before, group.numbers, strict=True)
            held = [one for one, number in pairs if holds(one, number, preset, seed, twin)]
            if len(held) == len(before):
                verdicts += [one for one in held if one is not None]
                continue
            if (ledger := current()) is not None:
                check_unchanged([Unit(group.pivot.head, 0)], own, ledger)
            say(f"Auditing {group.pivot.head.model.label} on {group.pivot.head.data.source} …")
            try:
                for verdict in auditor.audit(group, before):
                    keep_verdicts(run.path, [verdict])
                    verdicts.append(verdict)
                    if verdict.stopped:
                        raise KeyboardInterrupt
            except QueriesSpent as error:
                # the run is whole: what lacks is a verdict
                say(
                    f"The audit of {group.pivot.head.model.label} was not finished, and its numbers have no verdict: "
                    f"{error} With more, `assay audit {run.path}` goes on from the answers so far."
                )
    finally:
        # a model given as an object goes back to its user as it was
        own.close()
    return verdicts


__all__ = ["LEAST_PASSES", "PRESETS", "audit_run", "check_preset"]
