"""`assay audit`: how far the robust numbers of a run can be trusted, and what proves the contrary."""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.cli.auditing import cost_of, lines, told_audit
from assay.cli.console import DisplayOption, chosen, say, spoken_command, write
from assay.cli.exit_codes import Exit
from assay.cli.flagged_study import read_study
from assay.cli.flags import AllowPickle, AllowRandomData, Batch, Device, StudyFlags
from assay.cli.launch import Finished, Launch
from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.evaluation.execution.options import Options
    from assay.evaluation.loader import Loader
    from assay.evaluation.records.verdicts import Verdict
    from assay.evaluation.run import Run

USUAL = "pgd"


class Preset(enum.StrEnum):
    """How much an audit may do."""

    QUICK = "quick"
    STANDARD = "standard"
    THOROUGH = "thorough"


@dataclasses.dataclass(frozen=True)
class AuditFlags:
    """How it is audited."""

    preset: Annotated[Preset, typer.Option(help="How much it may do.")] = Preset.QUICK
    twin: Annotated[
        str | None,
        typer.Option(help="An undefended model for the same images, to compare and transfer from.", show_default=False),
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

    Takes a finished run directory, or what `assay run` takes; the attack is then pgd unless another is named.
    """
    from assay.evaluation.run import Run

    command = spoken_command(ctx.obj or ())
    try:
        if flags.study is not None and (Path(flags.study).expanduser() / "manifest.json").is_file():
            run, loader = Run.open(flags.study), how.options(command).loader()
            _same_run(flags)
        else:
            finished = _evaluated(flags, how, command)
            run, loader = finished.run, finished.loader
        verdicts = _audited(run, flags, how, loader)
    except KeyboardInterrupt:
        say(f"Stopped. What is finished is kept; the same command continues:\n  {command}")
        raise typer.Exit(Exit.STOPPED) from None
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


def _evaluated(flags: StudyFlags, how: AuditFlags, command: str) -> Finished:
    asked = dataclasses.replace(flags, attack=flags.attack or [USUAL]) if flags.study is None else flags
    launch = Launch(read_study(asked, how.out), how.options(command), chosen(how.display))
    return launch.start()


def _audited(run: Run, flags: StudyFlags, how: AuditFlags, loader: Loader) -> list[Verdict]:
    from assay.audit.audit import audit_run
    from assay.models import load_model

    twin = None if how.twin is None else load_model(how.twin, allow_pickle=how.allow_pickle, device=how.device)
    try:
        with told_audit(chosen(how.display)) as told:
            return audit_run(run, how.preset.value, loader=loader, twin=twin, seed=flags.seed or 0, **told)
    finally:
        loader.close()
