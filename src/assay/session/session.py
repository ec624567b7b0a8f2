"""A session: what is not done gets done and audited, under one lock and one meter."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput
from assay.evaluation.asked import Budget, budgets
from assay.evaluation.contradictions import check_brackets
from assay.evaluation.cost import Speed
from assay.evaluation.endpoints import demands
from assay.evaluation.execution.lock import look as look_who_holds
from assay.evaluation.execution.options import Options
from assay.evaluation.execution.ownership import HeldDirectory, belongs_elsewhere, hold, whole
from assay.evaluation.execution.parts import Standing, alone, locks_of_all, standings
from assay.evaluation.execution.progress import ATTACK, AUDIT, OnProgress, Progress, expected
from assay.evaluation.execution.runner import Runner
from assay.evaluation.execution.share import Share
from assay.evaluation.loader import Loader
from assay.evaluation.plan import Plan, make_plan
from assay.evaluation.records.manifest import SUCCESS, read_manifest
from assay.evaluation.records.store import Store
from assay.evaluation.records.verdicts import Verdict
from assay.evaluation.run import Run
from assay.evaluation.study.spec import Study
from assay.meter import Meter
from assay.models import Classifier
from assay.models.remote.ledger import Ledger, current
from assay.models.remote.place import asked_before, asking
from assay.preflight.checks import Look, look
from assay.session.reporting import Reporter, Tracker, Unreported
from assay.session.shown import AuditShown, Shown
from assay.vocabulary import Question
from assay.wording import queries

if TYPE_CHECKING:
    from assay.audit.progress import AuditProgress, OnAuditProgress


@dataclasses.dataclass(frozen=True)
class AuditSettings:
    """How robust numbers are audited: a preset or "off", an undefended twin, and the seed (default: the run's)."""

    preset: str
    twin: Classifier | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse unknown presets."""
        if self.preset != "off":
            # where nothing is audited, nothing of the audit is loaded
            from assay.audit.audit import check_preset

            check_preset(self.preset)


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run that came to its end, its verdicts, those of them that are new, and what loaded its models.

    `was_done`: nothing was left to do. Where it was a share and others are not done, `shares` says how all stand, and
    `share` which it was; the run is then not finished, and has no verdicts.
    """

    run: Run
    was_done: bool
    loader: Loader
    verdicts: Sequence[Verdict] = ()
    new_verdicts: Sequence[Verdict] = ()
    share: Share | None = None
    shares: Sequence[Standing] = ()


@dataclasses.dataclass(frozen=True)
class Session:
    """A study, the directory it runs in, and how.

    `doctor` looks at a few images of every model and data set before a run that is not done. `audit` stands in the
    place of what the study says. A directory that was not `chosen` by anybody gives way to a free one beside it where
    it belongs to another study. `loader` holds models and data given as Python objects. A `tracker` hears of the run.
    """

    study: Study
    out: Path
    options: Options = dataclasses.field(default_factory=Options)
    doctor: bool = True
    audit: AuditSettings | None = None
    chosen: bool = True
    loader: Loader | None = None
    tracker: Tracker | None = None

    def run(self, reporter: Reporter | None = None, on_progress: OnProgress | None = None) -> Finished:
        """Do what is not done: plan, look, run, audit. Running again goes on where it was stopped.

        Raises what `run_study` raises, and `BadInput` for what the look before a run refuses. A KeyboardInterrupt goes
        on; what is finished, and what the audit has found, is kept.
        """
        reporter = reporter or Unreported()
        self.options.engine()  # an unknown executor is told before anything is loaded
        if self.tracker is not None and self.options.share is not None:
            raise BadInput(
                f"A tracker follows a whole run, and share is {self.options.share!r}. Leave the tracker out, and "
                "export the run when its shares are gathered: assay export DIRECTORY --to mlflow"
            )
        reporter.say("Loading models and data …")
        with Ledger().used() as ledger:
            return self._run(ledger, reporter, on_progress or _unheard)

    def _run(self, ledger: Ledger, reporter: Reporter, on_progress: OnProgress) -> Finished:
        loader, out = self.loader or self.options.loader(), self.out.expanduser()
        # what the model was asked to make the plan, such as labels, is not asked again
        ledger.look_behind(out)
        try:
            plan = make_plan(self.study, loader)
            why = "" if self.chosen else belongs_elsewhere(out, plan)
            fork = self.options.fork or bool(why)
            with hold(out, plan, self.options, fork=fork, say=reporter.say) as directory:
                if why:
                    reporter.note(f"{out} belongs to another study ({why}); this one runs in {directory.folder}.")
                hear = self._tracked(directory.folder, on_progress)
                finished = _Held(self, plan, directory, loader, reporter, hear).work()
            if self.tracker is not None:
                self.tracker.end(finished.run)
            return finished
        except BaseException as error:
            if self.tracker is not None:
                self.tracker.fail(isinstance(error, KeyboardInterrupt))
            raise
        finally:
            loader.close()

    def _tracked(self, folder: Path, on_progress: OnProgress) -> OnProgress:
        tracker = self.tracker
        if tracker is None:
            return on_progress

        def hear(now: Progress) -> None:
            on_progress(now)
            # before the first unit nothing is there to open, and an audit's steps are no cells
            if now.cell is not None and now.stage == ATTACK:
                tracker.hear(folder, now)

        return hear

    @property
    def how_audited(self) -> AuditSettings:
        """How robust numbers are audited."""
        return self.audit or AuditSettings(self.study.audit)


@dataclasses.dataclass(frozen=True)
class _Held:
    """A session that holds its directory."""

    session: Session
    plan: Plan
    directory: HeldDirectory
    loader: Loader
    reporter: Reporter
    on_progress: OnProgress
    meter: Meter = dataclasses.field(default_factory=Meter)

    def work(self) -> Finished:
        """Do what is not done, or what is not of a share; whoever does the last share finishes the run."""
        share, folder = self.session.options.part(), self.directory.folder
        if share is None:
            return self._work_alone()
        seen = self._seen(read_manifest(folder))
        with self.reporter.watch(f"{self._doing}, share {share}") as watch:
            shown = Shown(folder, watch, self.on_progress, self.meter, 0, queries=None)
            settings = (self.session.options, self.loader, seen.warnings, seen.speeds, self.meter)
            run = Runner(self.directory, self.plan, *settings).run(shown.hear)
        with whole(self.directory) as rest:
            if rest is not None:
                options = dataclasses.replace(self.session.options, share=None, retry_errors=False)
                session = dataclasses.replace(self.session, options=options, doctor=False)
                return dataclasses.replace(self, session=session, directory=rest, meter=Meter())._work_alone()
        stand = standings(folder, look_who_holds(locks_of_all(folder), seconds=0.0))
        return Finished(run, shown.was_done, self.loader, share=share, shares=stand)

    def _work_alone(self) -> Finished:
        before = read_manifest(self.directory.folder)
        seen = self._seen(before)
        audits = self._expect_audit(seen.speeds)
        with self.reporter.watch(self._doing) as watch:
            shown = Shown(
                self.directory.folder, watch, self.on_progress, self.meter, audits, queries=self.plan.query_limits
            )
            settings = (self.session.options, self.loader, seen.warnings, seen.speeds, self.meter)
            run = Runner(self.directory, self.plan, *settings).run(shown.hear)
        check_brackets(run, self.loader)
        known = {*before.get("warnings", ()), *seen.warnings}
        for warning in run.manifest["warnings"]:
            if warning not in known:
                self.reporter.note(f"Note: {warning}")
        verdicts, new = self._audited(run, shown)
        return Finished(run, shown.was_done and not new, self.loader, verdicts, new)

    def _seen(self, before: Mapping[str, Any]) -> Look:
        """Look before a run that is not done, and say what may make numbers wrong."""
        done = before.get("status") == SUCCESS and set(before["cells"]) == {cell.digest for cell in self.plan.cells}
        seen = Look() if done or not self.session.doctor else self._looked()
        for warning in dict.fromkeys([*seen.warnings, *self._beyond()]):
            self.reporter.warn(warning)
        return seen

    def _looked(self) -> Look:
        """Look before the run, and say what endpoints were asked for it."""
        before = self._spent()
        with asking("doctor"), self._looked_before():
            seen = look(self.session.study, self.loader)
        for one, then in zip(self._spent(), before, strict=True):
            if asked := one.spent.billed - then.spent.billed:
                self.reporter.say(f"The look before the run took {queries(asked)} of {one.host}: {one.written}.")
        return seen

    def _looked_before(self) -> contextlib.AbstractContextManager[None]:
        # a run that goes on asks endpoints nothing that it has asked; whether they are the same is asked of few rows
        ledger = current()
        looked = {endpoint for endpoint, place in ledger.spent() if place == "doctor"} if ledger is not None else set()
        asked = {one["identity"] for facts in self.plan.models.values() for one in facts.get("endpoints", ())}
        return asked_before() if asked and asked <= looked else contextlib.nullcontext()

    def _spent(self) -> list[Budget]:
        ledger = current()
        asks = ledger is not None and any(facts.get("endpoints") for facts in self.plan.models.values())
        return budgets(self.plan.models, ledger.spent()) if ledger is not None and asks else []

    def _beyond(self) -> list[str]:
        """Return a warning for every endpoint that may be asked more than is allowed."""
        if not any(one.queries is not None for one in self._spent()):
            return []
        ledger = current()
        assert ledger is not None, "something is spent of it"
        todo = self.plan.todo(Store(self.directory.folder).done(self.plan.cells)[0])
        return [
            f"{one.budget.model} may be asked up to {queries(one.rows)}, and {one.budget.left:,} are left "
            f"({one.budget.written}): the run may end before it is done. What is finished is kept, and the same "
            "command with a higher limit goes on."
            for one in demands(todo, self.plan.models, ledger.spent())
            if one.too_much
        ]

    @property
    def attacked(self) -> bool:
        """Whether anything is attacked, rather than looked at alone."""
        return any(grid.attacked for grid in self.session.study.grids)

    @property
    def _doing(self) -> str:
        if self.attacked:
            return "Attacking"
        certifying = any(grid.certify.methods for grid in self.session.study.grids)
        return "Certifying" if certifying else "Looking at corrupted images"

    def _expect_audit(self, speeds: Mapping[str, Speed]) -> int:
        """Expect what the audit may take, and return how many models on data under a threat it is about."""
        settings = self.session.how_audited
        judged = [
            cell
            for cell in self.plan.cells
            if (cell.question, cell.goal) == (Question.WORST_CASE.value, "untargeted") and cell.certificate is None
        ]
        if settings.preset == "off" or not judged:
            return 0
        from assay.audit.audit import LEAST_PASSES, PRESETS

        preset, amount = PRESETS[settings.preset], 0.0
        for cell in judged:
            one_pass = speeds[cell.model.label].forward if cell.model.label in speeds else 1.0
            least, usual = LEAST_PASSES * one_pass, preset.share * expected(cell, speeds)
            amount += min(cell.n, preset.most) * max(least, usual)
        self.meter.expect(AUDIT, amount)
        return len({(cell.model.label, cell.data.label, cell.threat.label, cell.unit) for cell in judged})

    def _audited(self, run: Run, shown: Shown) -> tuple[list[Verdict], list[Verdict]]:
        settings = self.session.how_audited
        if settings.preset == "off" or not self.attacked:
            return [], []
        before = {_identity(one) for one in run.verdicts()}
        # the models of the run itself: a factory may give others each time
        verdicts = _audit(run, settings, self.loader, self.reporter, shown.hear_audit)
        self.meter.finish(AUDIT)
        shown.end()
        return verdicts, [one for one in verdicts if _identity(one) not in before]


def audit_directory(
    run: Run,
    settings: AuditSettings,
    loader: Loader,
    reporter: Reporter | None = None,
    on_progress: OnAuditProgress | None = None,
) -> list[Verdict]:
    """Audit a finished run, holding its directory, and return its verdicts.

    The `reporter` shows how far it is, and `on_progress` hears it. Raises what `audit_run` raises.
    """
    if run.far:
        raise BadInput(
            f"{run.far} lies in a store: it can be read, and nothing is written there. Copy it to this machine and "
            "audit the copy."
        )
    with alone(run.path), Ledger.of_run(run.path).used():
        return _audit(run, settings, loader, reporter or Unreported(), on_progress or (lambda progress: None))


def _audit(
    run: Run, settings: AuditSettings, loader: Loader, reporter: Reporter, on_progress: OnAuditProgress
) -> list[Verdict]:
    from assay.audit.audit import audit_run

    seed = settings.seed if settings.seed is not None else _seed(run)
    with reporter.watch("Auditing") as watch:
        shown = AuditShown(watch)

        def hear(now: AuditProgress) -> None:
            shown.hear(now)
            on_progress(now)

        with asking("audit"):
            return audit_run(
                run, settings.preset, loader=loader, twin=settings.twin, seed=seed, say=watch.tell, on_progress=hear
            )


def _identity(verdict: Verdict) -> tuple[object, ...]:
    """Return what tells a verdict from an earlier one on the same number."""
    return (*verdict.key, tuple(verdict.cells), verdict.preset, verdict.seed, verdict.checks, verdict.n)


def _seed(run: Run) -> int:
    return min((int(cell["seed"]) for cell in run.cells.values()), default=0)


def _unheard(progress: Progress) -> None:
    return None


__all__ = ["AuditSettings", "Finished", "Session", "audit_directory"]
