"""`assay attacks`, `assay defenses`, `assay models` and `assay data`: what there is, and what may be said of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.console.dataclass_options import expanded
from assay.console.output import out, say, write
from assay.core.errors import BadInput, did_you_mean

if TYPE_CHECKING:
    from assay.attacks import AttackEntry
    from assay.attacks.options import Option
    from assay.certification import CertificateEntry
    from assay.defenses import Defense
    from assay.models import Listed


def attacks(
    name: Annotated[str | None, typer.Argument(help="An attack, to see its options.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_page: Annotated[bool, typer.Option("--markdown", help="Print the reference page of them all.")] = False,
) -> None:
    """List the attacks, or the options of one."""
    from assay.evaluation.study.attacks import STUDY_ATTACKS

    if name is not None and name not in STUDY_ATTACKS:
        raise BadInput(f"Unknown attack {name!r}.{did_you_mean(name, STUDY_ATTACKS)}  (assay attacks lists them)")
    listed = {key: _facts(entry) for key, entry in STUDY_ATTACKS.items() if name in (None, key)}
    if as_page:
        from assay.report.attack_page import attack_page

        write(attack_page())
    elif as_json:
        write(json.dumps(listed, indent=2))
    elif name is not None:
        _one(name, STUDY_ATTACKS[name])
    else:
        _all(listed)


def _facts(entry: AttackEntry) -> dict[str, Any]:
    return {
        "summary": entry.summary,
        "family": entry.family,
        "norms": list(entry.norms),
        "needs": entry.access.name.lower(),
        "paper": entry.paper,
        "paper_id": entry.paper_id,
        "version": entry.version,
        "options": {option: one.default for option, one in entry.all_options.items()},
        "details": {option: one.plain() for option, one in entry.all_options.items()},
    }


def _all(listed: dict[str, dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("attack", "norms", "needs", "what it does", "source", box=box.SIMPLE_HEAD)
    for name, facts in listed.items():
        table.add_row(name, " ".join(facts["norms"]), facts["needs"], facts["summary"], facts["paper"])
    console = out()
    console.print(table)
    console.print("assay attacks NAME lists its options; write them as NAME:option=value,option=value.")


def _one(name: str, entry: AttackEntry) -> None:
    console = out()
    source = f"{entry.paper}, arXiv:{entry.paper_id}" if entry.paper_id else entry.paper
    console.print(f"{name}: {entry.summary} ({source}); norms: {', '.join(entry.norms)}", soft_wrap=True)
    _options(entry.all_options)
    option, one = next(iter(entry.all_options.items()))
    value = "PATCH.safetensors" if option == "file" else one.default_text
    console.print(f"Example: --attack {name}:{option}={value}", markup=False, soft_wrap=True)


def _options(options: Mapping[str, Option]) -> None:
    from rich import box
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(Column("option", no_wrap=True), "values", "unit", "what it is", box=box.SIMPLE_HEAD)
    for option, one in options.items():
        table.add_row(*map(Text, (f"{option} = {one.default_text}", one.values, one.unit, one.help)))
    out().print(table)


def defenses(
    name: Annotated[str | None, typer.Argument(help="A defence, to see its options.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_page: Annotated[bool, typer.Option("--markdown", help="Print the reference page of them all.")] = False,
) -> None:
    """List the defences that can stand around a model, or the options of one."""
    from assay.defenses.table import DEFENSES, defense

    if name is not None:
        defense(name)
    listed = {key: _defense_facts(entry) for key, entry in DEFENSES.items() if name in (None, key)}
    if as_page:
        from assay.report.defense_page import defense_page

        write(defense_page())
    elif as_json:
        write(json.dumps(listed, indent=2))
    elif name is not None:
        _one_defense(name, DEFENSES[name])
    else:
        _all_defenses(listed)


def _defense_facts(entry: Defense) -> dict[str, Any]:
    from assay.defenses.chain import passes_at_defaults

    return {
        "summary": entry.summary,
        "passes": {kind: count for kind, count in passes_at_defaults(entry)._asdict().items() if count is not None},
        "random": entry.random,
        "differentiable": entry.differentiable,
        "backward": entry.backward,
        "detects": entry.detects,
        "fitted": entry.fitted,
        "adaptive": list(entry.adaptive),
        "channels": list(entry.channels),
        "least_side": entry.least_side,
        "paper": entry.paper,
        "paper_id": entry.paper_id,
        "version": entry.version,
        "options": {option: one.default for option, one in entry.all_options.items()},
        "details": {option: one.plain() for option, one in entry.all_options.items()},
    }


def _all_defenses(listed: dict[str, dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("defence", "what it does", "passes", "", "source", box=box.SIMPLE_HEAD)
    for name, facts in listed.items():
        told = ", ".join(word for word in ("detects", "random", "fitted") if facts[word])
        table.add_row(name, facts["summary"], str(facts["passes"]["forwards"]), told, facts["paper"])
    console = out()
    console.print(table)
    console.print(
        "assay defenses NAME lists its options; write it behind a model: 'MODEL|NAME:option=value'.", markup=False
    )


def _one_defense(name: str, entry: Defense) -> None:
    console = out()
    source = f"{entry.paper}, arXiv:{entry.paper_id}" if entry.paper_id else entry.paper
    console.print(f"{name}: {entry.summary} ({source}); backwards: {entry.backward}", markup=False, soft_wrap=True)
    if entry.all_options:
        _options(entry.all_options)
    shown = [f"{option}={one.default_text}" for option, one in entry.options.items() if one.default is not None]
    told = ":".join([name, *shown[:1]])
    console.print(f"Example: --model 'zoo:mnist-cnn|{told}'", markup=False, soft_wrap=True)


def certificates(
    name: Annotated[str | None, typer.Argument(help="A certificate, to see its options.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the methods that certify, or the options of one."""
    from assay.certification import CERTIFICATES, certificate_entry, certificate_options

    if name is not None:
        certificate_entry(name)
    listed = {key: one for key, one in CERTIFICATES.items() if name in (None, key)}
    if as_json:
        plain = {key: _certificate_facts(key) for key in listed}
        write(json.dumps(plain, indent=2))
        return
    if name is None:
        _all_certificates(listed)
        return
    one = listed[name]
    source = f"{one.paper}, arXiv:{one.paper_id}" if one.paper_id else one.paper
    out().print(f"{name}: {one.summary} ({source}); of {one.models}", markup=False, soft_wrap=True)
    options = certificate_options(name)
    if options:
        _options(options)
    out().print(f"Example: assay certify --method {name} --model … --data … --eps …", markup=False, soft_wrap=True)


def _certificate_facts(name: str) -> dict[str, Any]:
    from assay.certification import certificate_entry, certificate_options

    entry = certificate_entry(name)
    facts = ("summary", "norms", "models", "statistical", "bounds", "paper", "paper_id", "version")
    details = {option: one.plain() for option, one in certificate_options(name).items()}
    return {**{fact: getattr(entry, fact) for fact in facts}, "details": details}


def _all_certificates(listed: dict[str, CertificateEntry]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("certificate", "what it does", "norms", "of which models", "holds", "source", box=box.SIMPLE_HEAD)
    for name, one in listed.items():
        holds = "with probability 1 - alpha" if one.statistical else "always"
        table.add_row(name, one.summary, ", ".join(one.norms), one.models, holds, one.paper)
    console = out()
    console.print(table)
    console.print("assay certificates NAME lists its options; assay certify --method NAME uses it.", markup=False)


# kinds whose names are listed one by one
_NAMED = ("torchvision", "timm", "zoo")
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
    kinds: Annotated[bool, typer.Option("--kinds", help="What each kind gives, needs and lacks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_page: Annotated[bool, typer.Option("--markdown", help="Print the reference page of the kinds.")] = False,
) -> None:
    """List the models that can be named, with the accuracy their authors publish."""
    from assay.models import list_models

    if as_page:
        from assay.report.models_page import models_page

        write(models_page())
        return
    if kinds:
        write(json.dumps(_kinds(), indent=2)) if as_json else _print_kinds()
        return
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
    sizes = Counter(_model_family(one) for one in found)
    return [one for one in found if sizes[_model_family(one)] < _MANY or _name(one) in _WELL_KNOWN]


def _model_family(one: Listed) -> str:
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
    console.print("Your own, and files and endpoints (assay models --kinds says what each gives and lacks):")
    own = {name: kind for name, kind in _kinds().items() if name not in _NAMED}
    wide = max(len(kind["form"]) for kind in own.values())
    for kind in own.values():
        needs = f" (extra {kind['extra']})" if kind["extra"] else ""
        console.print(f"  {kind['form']:<{wide}}  {kind['gives']}: {kind['what']}{needs}", markup=False, soft_wrap=True)


def _kinds() -> dict[str, dict[str, str]]:
    import dataclasses

    from assay.models.kinds import KINDS
    from assay.models.load import PYTHON, SCHEMES

    forms = {**{name: scheme.form for name, scheme in SCHEMES.items()}, "python": PYTHON.form}
    return {name: {"form": forms[name], **dataclasses.asdict(kind)} for name, kind in KINDS.items()}


def _print_kinds() -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("kind", "gives", "extra", "digest over", "cannot be had", box=box.SIMPLE_HEAD)
    for one in _kinds().values():
        table.add_row(*map(Text, (one["form"], one["gives"], one["extra"], one["digest"], one["lacks"])))
    out().print(table)


app = typer.Typer(name="data", help="List data sets, and fetch them.", no_args_is_help=True)

_WHAT = {
    "mnist": "handwritten digits, 28 x 28 grey",
    "samples": "20 labelled ImageNet pictures: to look at, not to report",
    "cifar10": "small colour pictures in 10 classes, 32 x 32",
}
_DIRECTORIES = {
    "folder:DIR": "your pictures, one folder per class",
    "folder:s3://BUCKET/DIR": "the same in a store: s3, gs, abfs, https (pip install 'assay[s3]')",
    "wds:val-{000..099}.tar": "WebDataset's tar shards, here or in a store, in any order",
    "hf-data:DIR": "a Hugging Face data set as Parquet files, here or in a store",
    "table:FILE": "pictures named by a table (csv, tsv, parquet, jsonl), with their labels",
    "npz:FILE": "images and labels as NumPy arrays",
    "hdf5:FILE": "images and labels as HDF5 arrays",
    "my.py:dataset": "a data set made by your own code",
    "imagenet:DIR": "ILSVRC validation pictures in class folders, or flat with their ground-truth file",
    "imagenet-c:DIR": "a published ImageNet-C tree, for assay corrupt",
    "DATA|fog:severity=3": "any of these with every image corrupted",
}


def ls(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the data sets that can be named, and which of them are here."""
    from rich import box
    from rich.table import Table

    from assay.data import NAMES, cache_dir

    cache = cache_dir()
    rows = {name: (_WHAT[_data_family(name)], _is_here(name)) for name in NAMES}
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
    place = f"in {cache_dir() / _data_family(name)}" if name in NAMES else "of yours: there is nothing to fetch"
    say(f"{name}: {len(data):,} samples {place}.")


def _data_family(name: str) -> str:
    return name.partition("/")[0]


def _is_here(name: str) -> bool:
    from assay.data import cache_dir

    folder = cache_dir() / _data_family(name)
    return folder.is_dir() and any(folder.iterdir())


for command in (ls, get):
    app.command()(expanded(command))
