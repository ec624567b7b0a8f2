"""`assay audit`: how far the robust numbers of a run can be trusted, and what proves the contrary."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.console.flags import AllowPickle, AllowRandomData, Batch, Device, StudyFlags
from assay.console.output import DisplayOption, chosen, spoken_command, stoppable, write
from assay.console.sessions import Terminal, run_session
from assay.console.study_from_flags import read_study
from assay.console.usual_attack import with_usual_attack
from assay.console.verdict_text import cost_of, lines
from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.evaluation.execution.options import Options
    from assay.evaluation.records.verdicts import Verdict
    from assay.evaluation.run import Run


class Preset(enum.StrEnum):
    """How much an audit may do."""

    QUICK = "quick"
    STANDARD = "standard"
    THOROUGH = "thorough"


@dataclasses.dataclass(frozen=True)
class AuditFlags:
    """How it is audited."""

    preset: Annotated[
        Preset,
        typer.Option(help="How much it may do: of 100 images 5 may go unseen (quick), 2 (standard), 0 (thorough)."),
    ] = Preset.QUICK
    twin: Annotated[
        str | None,
        typer.Option(
            help="An undefended model for the same images, to compare and transfer from; on a model that gives scores "
            "or labels alone, the white-box network that leads.",
            show_default=False,
        ),
    ] = None
    out: Annotated[Path | None, typer.Option(help="The run directory (runs/STUDY).", show_default=False)] = None
    device: Device = "cpu"
    batch: Batch = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    display: DisplayOption = None
    allow_pickle: AllowPickle = False
    allow_random_data: AllowRandomData = False

    def options(self, command: str) -> Options:
        """Return the options of the run that is audited."""
        from assay.evaluation.execution.options import Options

        return Options(
            device=self.device,
            batch=self.batch,
            allow_pickle=self.allow_pickle,
            allow_random_data=self.allow_random_data,
            command=command,
        )


def audit(ctx: typer.Context, flags: StudyFlags, how: AuditFlags) -> None:
    """Say how far robust numbers can be trusted: trusted, suspect or refuted, with the evidence.

    Takes a finished run directory, or what `assay run` takes.
    """
    command = spoken_command(ctx.obj or ())
    with stoppable(command):
        run, verdicts = _audited(flags, how, command)
    if not verdicts:
        raise BadInput(
            f"{run.path} has no robust number to audit: no worst-case, untargeted cell with a budget above 0."
        )
    if how.as_json:
        found = [as_plain(one) for one in verdicts]
        write(json.dumps(found[0] if len(found) == 1 else found, indent=2, allow_nan=False))
        return
    for one in verdicts:
        write("\n".join(lines(one)))
        if one.images:
            write(f"Images    {run.path / 'audit' / one.images}")
    write(cost_of(verdicts))
    write(f"Page      assay report {run.path}")


def as_plain(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as plain values, what scripts rely on first."""
    findings = [
        {
            "check": one.check, "value": one.value, "threshold": one.threshold, "flag": one.flag,
            "mandatory": one.mandatory, "n": one.n, "meaning": one.meaning, "remedy": one.remedy,
        }
        for one in verdict.findings
    ]  # fmt: skip
    plain = verdict.plain()
    head = {name: plain[name] for name in ("verdict", "as_first_measured", "after_escalation")}
    rest = {name: value for name, value in plain.items() if name not in (*head, "findings", "curves")}
    return {**head, "findings": findings, **rest}


def _same_run(flags: StudyFlags) -> None:
    given = [field.name for field in dataclasses.fields(flags) if getattr(flags, field.name) not in (None, [])]
    others = [name for name in given if name not in ("study", "seed")]
    if others:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        raise BadInput(f"{flags.study} is a finished run; {words} would change it. Leave that out, or run it anew.")


def _audited(flags: StudyFlags, how: AuditFlags, command: str) -> tuple[Run, Sequence[Verdict]]:
    from assay.evaluation.run import Run
    from assay.models import load_model
    from assay.session import AuditSettings, audit_directory

    options = how.options(command)
    finished = flags.study is not None and (Path(flags.study).expanduser() / "manifest.json").is_file()
    if finished:
        _same_run(flags)
    loader = options.loader()
    asked = None if finished else read_study(with_usual_attack(flags, loader), how.out)
    twin = None if how.twin is None else load_model(how.twin, allow_pickle=how.allow_pickle, device=how.device)
    settings = AuditSettings(how.preset.value, twin, flags.seed or 0)
    if asked is not None:
        done = run_session(asked, options, chosen(how.display), audit=settings, tell_cost=False, loader=loader)
        return done.run, done.verdicts
    run = Run.open(str(flags.study))
    return run, audit_directory(run, settings, loader, Terminal(chosen(how.display)))
