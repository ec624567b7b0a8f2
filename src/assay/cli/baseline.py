"""`assay baseline save`: what a run measured, small enough to be committed, for later runs to be compared with."""

# shape: a file for each group of commands

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.console.dataclass_options import expanded
from assay.console.output import say
from assay.console.places import Force, refuse_taken
from assay.files import make_folder, write_atomically
from assay.wording import file_size

app = typer.Typer(
    name="baseline", help="Keep what a run measured, to compare later runs with it.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Keep what a run measured, to compare later runs with it."""


def save(
    directory: Annotated[Path, typer.Argument(help="A finished run directory, such as runs/demo.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("assay-baseline.json"),
    force: Force = False,
) -> None:
    """Write a run's baseline: the counts of each cell and what became of each sample, to be committed."""
    from assay.evaluation.run import Run
    from assay.gate.baseline import FILE, baseline_text

    run = Run.open(directory)
    content = baseline_text(run).encode()
    out = out / FILE if out.is_dir() else out
    if not (out.is_file() and out.read_bytes() == content):
        refuse_taken(out, force=force)
        make_folder(out.absolute().parent)
        write_atomically(out, content)
    say(f"Written: {out} ({file_size(len(content))}). Commit it; assay gate and assay compare read it.")
    if not run.reportable:
        reasons = "; ".join(run.manifest["not_reportable_because"])
        say(f"Warning: the run is not reportable ({reasons}), and no gate against it can be met.", style="yellow")


app.command("save", context_settings={"auto_envvar_prefix": "ASSAY_BASELINE_SAVE"})(expanded(save))
