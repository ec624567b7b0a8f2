"""The audit at the end of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from assay.cli.console import Display, say
from assay.cli.launch import Finished, Launch
from assay.cli.progress import Watch, progress
from assay.wording import plural, rough_duration

if TYPE_CHECKING:
    from assay.audit.progress import AuditProgress
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
    try:
        # the models of the run itself: a factory may give others each time
        with told_audit(launch.display) as told:
            verdicts = audit_run(run, chosen, loader=finished.loader, seed=_seed(run), **told)
    finally:
        finished.loader.close()
    new = [one for one in verdicts if id_of(one) not in before]
    if new:
        say(cost_of(new))
    return Finished(run, finished.was_done and not new, finished.loader)


@contextlib.contextmanager
def told_audit(display: Display) -> Iterator[dict[str, Any]]:
    """Give what `audit_run` tells how far it is, as progress with the time left on standard error."""
    with progress("Auditing", display) as watch:
        said = watch.tell if display is not Display.NONE else _silent
        yield {"say": said, "on_progress": _Teller(watch).hear}


class _Teller:
    """Shows how far an audit is, and says before an escalation what it takes at most."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._stage: tuple[str, str] | None = None

    def hear(self, now: AuditProgress) -> None:
        """Take in how far the audit is."""
        stage = (now.about, now.stage)
        if stage != self._stage and now.stage == "escalation":
            left = "" if now.seconds_left is None else f", {rough_duration(now.seconds_left)}"
            self._watch.tell(f"Escalating {now.about}: at most {now.most:,} passes{left}. Ctrl-C keeps what is found.")
        self._stage = stage
        tried = " ".join(part for part in (now.stage, "at", now.budget, now.tried and f"({now.tried})") if part)
        self._watch.update(now.share, f"{tried}, {now.passes:,} of {now.most:,} passes", now.seconds_left)


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
        if attempt.asked or not attempt.skipped:
            yield f"  tried   {attempt.name} on {attempt.asked}: broke {attempt.broken} ({attempt.passes:,} passes)"
        if attempt.skipped:
            yield f"  skipped {attempt.name} on {attempt.skipped}: {verdict.why_skipped}"


def _seed(run: Run) -> int:
    return min((int(cell["seed"]) for cell in run.cells.values()), default=0)


def _silent(text: str) -> None:
    return None
