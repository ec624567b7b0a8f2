"""`assay data`: the data sets that have names, and fetching them before they are needed."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from assay.cli.console import out, say, write
from assay.cli.dataclass_options import expanded

app = typer.Typer(name="data", help="List data sets, and fetch them.", no_args_is_help=True)

_WHAT = {
    "mnist": "handwritten digits, 28 x 28 grey",
    "samples": "20 labelled ImageNet pictures: to look at, not to report",
    "cifar10": "small colour pictures in 10 classes, 32 x 32",
}
_DIRECTORIES = {
    "folder:DIR": "your pictures, one folder per class",
    "table:FILE": "pictures named by a table (csv, tsv, parquet, jsonl), with their labels",
    "npz:FILE": "images and labels as NumPy arrays",
    "hdf5:FILE": "images and labels as HDF5 arrays",
    "my.py:dataset": "a data set made by your own code",
    "imagenet:DIR": "ILSVRC validation pictures in class folders, or flat with their ground-truth file",
}


def ls(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the data sets that can be named, and which of them are here."""
    from rich import box
    from rich.table import Table

    from assay.data import NAMES, cache_dir

    cache = cache_dir()
    rows = {name: (_WHAT[_family(name)], _is_here(name)) for name in NAMES}
    if as_json:
        write(json.dumps({name: {"what": what, "cached": here} for name, (what, here) in rows.items()}, indent=2))
        return
    table = Table("data", "what it is", "", box=box.SIMPLE_HEAD)
    for name, (what, here) in rows.items():
        table.add_row(name, what, "here" if here else "fetched when first used")
    for form, what in _DIRECTORIES.items():
        table.add_row(form, what, "yours")
    console = out()
    console.print(table)
    console.print(f"Fetched data lie in {cache} (ASSAY_CACHE changes that).", markup=False, soft_wrap=True)


def get(name: Annotated[str, typer.Argument(help="mnist/test, samples, cifar10/test, …")]) -> None:
    """Fetch a data set now, for a machine that will have no connection later."""
    from assay.data import NAMES, cache_dir, load_data

    data = load_data(name)
    place = f"in {cache_dir() / _family(name)}" if name in NAMES else "of yours: there is nothing to fetch"
    say(f"{name}: {len(data):,} samples {place}.")


def _family(name: str) -> str:
    return name.partition("/")[0]


def _is_here(name: str) -> bool:
    from assay.data import cache_dir

    folder = cache_dir() / _family(name)
    return folder.is_dir() and any(folder.iterdir())


for command in (ls, get):
    app.command()(expanded(command))
