"""Where commands may write: nothing that is there already is overwritten unless the user says so."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Container
from pathlib import Path
from typing import Annotated

import typer

from assay.core.errors import BadInput

Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]


class Figure(enum.StrEnum):
    """What charts can be written as."""

    SVG = "svg"
    PNG = "png"
    PDF = "pdf"


def refuse_taken(*paths: Path, force: bool, flag: str = "--out") -> None:
    """Raise `BadInput` for a file that is there already, unless `force`; `flag` is what names another one."""
    for path in paths:
        if path.exists() and not force:
            raise BadInput(f"{path} is there already. Name another {flag}, or replace it with --force.")


def refuse_figures(folder: Path, form: str, force: bool, flag: str = "--out") -> None:
    """Raise `BadInput` for a folder that holds files of this form, unless `force`."""
    there = sorted(path.name for path in folder.glob(f"*.{form}")) if folder.is_dir() else []
    if there and not force:
        raise BadInput(
            f"{folder} holds {form} files already ({', '.join(there[:3])}). Name another {flag}, or replace them with "
            "--force."
        )


def free_name(path: Path, content: bytes, taken: Container[Path] = ()) -> Path:
    """Return `path`, or the first of `NAME-2`, `NAME-3`, … that is free: not in `taken`, and not there.

    A file that is there with this very `content` counts as free: writing it again changes nothing.
    """
    for number in itertools.count(1):
        here = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        if here not in taken and (not here.exists() or (here.is_file() and here.read_bytes() == content)):
            return here
    raise AssertionError("unreachable: some number is free")
