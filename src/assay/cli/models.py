"""`assay models`: the models that have names."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from assay.cli.console import out, say, write
from assay.core.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from assay.models import Listed

_FORMS = (
    ("my.py:factory", "a function in your file that returns a torch.nn.Module"),
    ("package.module:factory", "the same in a package that can be imported"),
    ("file:PATH?arch=NAME", "a safetensors file or state dict of a named architecture"),
)
# of a family with more names than anyone reads, those that papers compare with
_MANY = 30
_WELL_KNOWN = {
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "mobilenet_v3_large", "regnet_y_400mf", "resnet18",
    "resnet50", "resnet101", "swin_t", "vgg16", "vit_b_16",
}  # fmt: skip


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
        raise BadInput(f"No model's name contains {search!r}.{did_you_mean(search or '', map(_name, listed))}")
    if as_json:
        facts = [{"spec": m.spec, "summary": m.summary, "published_accuracy": m.published_accuracy} for m in found]
        write(json.dumps(facts, indent=2))
        return
    shown = found if every or search else _worth_showing(found)
    _table(shown)
    if len(shown) < len(found):
        say(f"{len(shown)} of {len(found):,} names; assay models NAME finds one, --all lists all.")


def _worth_showing(found: list[Listed]) -> list[Listed]:
    sizes = Counter(_family(one) for one in found)
    return [one for one in found if sizes[_family(one)] < _MANY or _name(one) in _WELL_KNOWN]


def _family(one: Listed) -> str:
    return one.spec.partition(":")[0] if ":" in one.spec else ""


def _name(one: Listed) -> str:
    return one.spec.partition(":")[2].partition("@")[0] or one.spec


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
