"""`assay transfer`: images made on surrogates, judged by targets, as a matrix."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assay.console.flags import AllowPickle, AllowRandomData, Batch, Device
from assay.console.output import DisplayOption, chosen, out, say, stoppable, write
from assay.core.errors import BadInput
from assay.display import progress
from assay.meter import Meter
from assay.vocabulary import Norm

if TYPE_CHECKING:
    from assay.core.threat import Threat
    from assay.evaluation.analysis.transfer import Crossing, Crossings, Transfer
    from assay.models import Classifier


@dataclasses.dataclass(frozen=True)
class ImageFlags:
    """Which images."""

    data: Annotated[str, typer.Option(help="A data set: mnist/test, folder:DIR, …")]
    limit: Annotated[int | None, typer.Option(help="The first N images.", show_default=False)] = None
    per_class: Annotated[int | None, typer.Option(help="N images of each class.", show_default=False)] = None


@dataclasses.dataclass(frozen=True)
class BudgetFlags:
    """What an attack may change."""

    eps: Annotated[str, typer.Option(help="The budget: 8/255, 0.1, …")]
    norm: Annotated[Norm, typer.Option(help="The norm of the budget.")] = Norm.LINF
    grid: Annotated[
        int | None, typer.Option(help="Judge images on a grid: 255 for 8-bit ones.", show_default=False)
    ] = None

    def threat(self) -> Threat:
        """Return the threat, one for all models: in pixels."""
        from assay.core.budget import NORMALIZED, check_budget, parse_budget
        from assay.core.threat import threat_in

        budget = check_budget(parse_budget(self.eps), self.norm.value)
        if budget.unit == NORMALIZED:
            raise BadInput(f"--eps {self.eps}: models may be normalised differently; give the budget in pixels.")
        return threat_in(self.norm.value, eps=budget.value, grid=self.grid, budget=budget)


def transfer(
    surrogate: Annotated[list[str], typer.Option(help="A model to attack, or several fused: a+b (repeatable).")],
    target: Annotated[list[str], typer.Option(help="A model that judges (repeatable).")],
    images: ImageFlags,
    budget: BudgetFlags,
    attack: Annotated[
        list[str] | None, typer.Option(help="An attack: mi-fgsm:steps=20, … (mi-fgsm; repeatable).")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of every random draw.")] = 0,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Device = "cpu",
    batch: Batch = None,
    display: DisplayOption = None,
    allow_pickle: AllowPickle = False,
    allow_random_data: AllowRandomData = False,
) -> None:  # shape: one parameter for each flag
    """Attack surrogates, and see how many of the images also break the targets.

    Images are made once per surrogate and attack. Success is the share of the images that surrogate and target both get
    right, and that the target then gets wrong.
    """
    from assay.data import check_steady, load_data
    from assay.models import load_model

    loaded: dict[str, Classifier] = {}

    def model(name: str) -> Classifier:
        if name not in loaded:
            loaded[name] = load_model(name, allow_pickle=allow_pickle, device=device)
        return loaded[name]

    work = _work(surrogate, target, attack or ["mi-fgsm"], budget.threat(), model, seed)
    work = dataclasses.replace(work, batch=batch)
    which: dict[str, Any] = {"limit": images.limit, "per_class": images.per_class}
    data = load_data(images.data, model=model(target[0]), allow_random_data=allow_random_data, **which)
    check_steady(data, allowed=allow_random_data)
    with stoppable(), progress("Transferring", chosen(display)) as watch:
        pace = Meter()
        found = work.measure(data, lambda share: watch.update(share, "", pace.reach(share)))
    if not found.images:
        raise BadInput(f"None of the {found.unreadable} images of {images.data} could be read. Use other data.")
    about = {"data": images.data, "norm": budget.norm.value, "eps": budget.eps, "seed": seed}
    if as_json:
        write(json.dumps(as_plain(found, about), indent=2))
    elif markdown:
        write(as_markdown(found))
    else:
        print_matrix(found, f"{images.data}, {found.images} images, {budget.norm.value} {budget.eps}")


def _work(  # shape: what the flags say
    surrogates: list[str], targets: list[str], attacks: list[str], threat: Threat, model: Any, seed: int
) -> Transfer:
    from assay.attacks import ATTACKS, build
    from assay.evaluation.analysis.transfer import Transfer
    from assay.evaluation.study.attacks import parse_attack
    from assay.evaluation.study.surrogates import names

    methods = {}
    for text in attacks:
        given = parse_attack(text)
        name = given.pop("attack")
        methods[text] = build(name, **given)
        if threat.norm.name not in ATTACKS[name].norms:
            told = ", ".join(ATTACKS[name].norms)
            raise BadInput(f"--attack {text} works in {told}, not in {threat.norm.name}.")
    return Transfer(
        {name: tuple(model(one) for one in names(name)) for name in surrogates},
        {name: model(name) for name in targets},
        methods,
        threat,
        seed,
    )


def as_plain(found: Crossings, about: dict[str, Any]) -> dict[str, Any]:
    """Return what was measured as plain values; shares are fractions, and null where nothing was counted."""
    crossings = [
        {
            **dataclasses.asdict(one),
            "success": one.success if one.both else None,
            "low": one.interval[0],
            "high": one.interval[1],
        }
        for one in found.each
    ]
    return {
        **about,
        "images": found.images,
        "unreadable": found.unreadable,
        "surrogate_forwards": found.made[0],
        "surrogate_backwards": found.made[1],
        "judging_forwards": found.judged,
        "crossings": crossings,
    }


def as_markdown(found: Crossings) -> str:
    """Return the matrix as a Markdown table."""
    head, *body = _lines(found)
    rule = ["---"] * (len(head) - _targets(found)) + ["---:"] * _targets(found)
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in (head, rule, *body)
    )


def print_matrix(found: Crossings, title: str) -> None:
    """Print the matrix for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    head, *body = _lines(found)
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for i, name in enumerate(head):
        table.add_column(Text(name), justify="right" if i >= len(head) - _targets(found) else "left")
    for line in body:
        table.add_row(*map(Text, line))
    console = out()
    console.print(table)
    console.print(
        "success on the images that surrogate and target both get right, its 95 % interval (Wilson), and the counts; "
        "a model against itself is attacked directly.",
        style="dim",
        soft_wrap=True,
    )
    unscored = sum(one.unscored for one in found.each)
    if unscored:
        say(f"{unscored} attacked images had NaN or infinite scores: they are in no share.", style="yellow")
    if found.unreadable:
        say(f"{found.unreadable} images could not be read.", style="yellow")


def _lines(found: Crossings) -> list[list[str]]:
    targets = list(dict.fromkeys(one.target for one in found.each))
    lines: dict[tuple[str, str], list[str]] = {}
    for one in found.each:
        lines.setdefault((one.attack, one.surrogate), []).append(_told(one))
    return [["attack", "made on", *targets], *([*key, *cells] for key, cells in lines.items())]


def _targets(found: Crossings) -> int:
    return len({one.target for one in found.each})


def _told(one: Crossing) -> str:
    if not one.both:
        return "no image both get right"
    low, high = one.interval
    return f"{100 * one.success:.1f} % [{100 * low:.0f}-{100 * high:.0f}] {one.broken}/{one.both}"
