"""`assay patch`: train an adversarial patch, measure it, paste it, print it."""

from __future__ import annotations

from collections.abc import Callable

import typer

from assay.cli.dataclass_options import expanded
from assay.cli.patch_evaluate import evaluate
from assay.cli.patch_files import apply, sheet
from assay.cli.patch_train import train

app = typer.Typer(name="patch", help="Train, measure, paste and print adversarial patches.", no_args_is_help=True)

_COMMANDS: dict[str, Callable[..., None]] = {"train": train, "evaluate": evaluate, "apply": apply, "sheet": sheet}
for _name, _command in _COMMANDS.items():
    app.command(_name, context_settings={"auto_envvar_prefix": "ASSAY_PATCH"})(expanded(_command))
