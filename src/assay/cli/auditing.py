"""The audit at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from assay.cli.console import Display, say
from assay.cli.launch import Finished, Launch
from assay.wording import plural, rough_duration

if TYPE_CHECKING:
    from assay.evaluation.records.verdicts import Verdict
    from assay.evaluation.run import Run


def audited(launch: Launch, finished: Finished, preset: str | None = None) -> Finished:
    """Audit what a launch ran, as its study says or by `preset`, and say what that cost; return the run."""
    from assay.audit.audit import audit_run

    chosen = preset or launch.asked.study.audit
    if chosen == "off":
        return finished
    run = finished.run
    before = {id_of(one) for one in run.verdicts()}
    said = say if launch.display is not Display.NONE else _silent
    try:
        # the models of the run itself: a factory may give others each time
        verdicts = audit_run(run, chosen, loader=finished.loader, say=said, seed=_seed(run))
    finally:
        finished.loader.close()
    new = [one for one in verdicts if id_of(one) not in before]
    if new:
        say(cost_of(new))
    return Finished(run, finished.was_done and not new, finished.loader)


def id_of(verdict: Verdict) -> tuple[object, ...]:
    """Return what tells a verdict from an earlier one on the same number."""
    return (*verdict.key, tuple(verdict.cells), verdict.preset, verdict.seed, verdict.checks, verdict.n)


def cost_of(verdicts: Sequence[Verdict]) -> str:
    """Say what an audit cost."""
    passes, more = sum(one.passes for one in verdicts), sum(one.escalation for one in verdicts)
    seconds = sum(one.seconds for one in verdicts)
    escalation = f", {more:,} to escalate" if more else ""
    numbers = plural(len(verdicts), "number")
    return f"Audit     {numbers} in {rough_duration(seconds)}: {passes:,} passes to look{escalation}"


def lines(verdict: Verdict) -> Iterator[str]:
    """Yield a verdict for people: the number, what stands against it, what proves it."""
    first, after = 100 * verdict.as_first_measured, 100 * verdict.after_escalation
    told = f"{first:.1f} % as first measured" + (f", {after:.1f} % after escalation" if verdict.asked else "")
    yield f"{verdict.verdict.upper():10}{verdict.model}, {verdict.data}, {verdict.threat} {verdict.eps_written}: {told}"
    yield f"          {verdict.why}"
    for one in verdict.findings:
        if one.flag:
            yield f"  {'flag' if one.mandatory else 'note':7} {one.check}: {one.meaning}"
            if one.mandatory:
                yield f"          {one.remedy}"
    for attempt in verdict.attempts:
        yield f"  tried   {attempt.name} on {attempt.asked}: broke {attempt.broken} ({attempt.passes:,} passes)"


def _seed(run: Run) -> int:
    return min((int(cell["seed"]) for cell in run.cells.values()), default=0)


def _silent(text: str) -> None:
    return None
