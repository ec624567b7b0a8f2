"""`assay models`: the models that have names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.terminal import out, say, write
from assay.core.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from assay.models import Listed

_FORMS = (
    ("my.py:factory", "a function in your file that returns a torch.nn.Module"),
    ("package.module:factory", "the same in a package that can be imported"),
    ("file:PATH?arch=NAME", "a safetensors file or state dict of a named architecture"),
)
_FEW = 30


def models(
    search: Annotated[
        str | None, typer.Argument(help="Only names that contain this, such as resnet.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of torchvision's and timm's names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that can be named, with the accuracy their authors publish."""
    from assay.models import list_models

    listed = list_models()
    found = [one for one in listed if search is None or search.lower() in one.spec.lower()]
    if not found:
        names = [one.spec.partition(":")[2].partition("@")[0] or one.spec for one in listed]
        raise BadInput(f"No model's name contains {search!r}.{did_you_mean(search or '', names)}")
    if as_json:
        facts = [{"spec": m.spec, "summary": m.summary, "published_accuracy": m.published_accuracy} for m in found]
        write(json.dumps(facts, indent=2))
        return
    shown = found if every or search else _first_of_each(found)
    _table(shown)
    if len(shown) < len(found):
        say(f"{len(shown)} of {len(found):,} names; assay models NAME finds one, --all lists all.")


def _first_of_each(found: list[Listed]) -> list[Listed]:
    """Return the names of our own, and a few of each large family."""
    families: dict[str, list[Listed]] = {}
    for one in found:
        families.setdefault(one.spec.partition(":")[0] if ":" in one.spec else "", []).append(one)
    return [one for family in families.values() for one in (family if len(family) < _FEW else family[:12])]


def _table(found: list[Listed]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    table.add_column("published top-1", justify="right")
    table.add_column("what it is")
    for one in found:
        accuracy = f"{100 * one.published_accuracy:.1f} %" if one.published_accuracy else ""
        table.add_row(Text(one.spec), accuracy, Text(one.summary))
    console = out()
    console.print(table)
    console.print("Your own:")
    for form, meaning in _FORMS:
        console.print(f"  {form:<24} {meaning}", markup=False)
