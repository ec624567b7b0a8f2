"""From the directory of the paper's runs to what its page shows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import wording as words
from assay.core.errors import AssayError, BadInput
from assay.paper.figures import training_logs
from assay.paper.inputs import Example, Panel, PaperContents, Probe, TemperatureRow
from assay.paper.smallest import smallest_changes
from assay.paper.tables import TableView
from assay.report.breakdown import class_names, name_of
from assay.report.gallery import bars, magnification
from assay.report.groups import NORMALIZED, groups
from assay.report.provenance import Source, sources

if TYPE_CHECKING:
    from torch import Tensor

    from assay.evaluation.records.gallery import Picture
    from assay.evaluation.run import Run

_NETWORK = "mnist-cnn"
_BUDGETS = (0.0, 0.007, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3)
_DIGITS = 5
# the runs that the panels of a figure come from, the first one that is there
_PANELS = {1: ("table-ii",), 2: ("table-iii-as-published", "table-iii-corrected")}
_STAND_IN = "-stand-in"


def contents(
    out: Path,
    *,
    views: Sequence[TableView] = (),
    errata: Mapping[str, tuple[str, ...]] | None = None,
    temperatures: Sequence[TemperatureRow] = (),
    patches: Mapping[tuple[str, int], Tensor] | None = None,
    panels: Mapping[int, tuple[Panel, ...]] | None = None,
) -> PaperContents:
    """Return what the page shows of the runs in `out`; what is not there yet is left out.

    Tables, errata, temperatures, patches and the panels of images with patches are given; panels of other figures,
    smallest changes, probes, logs, examples and provenance are read from `out`. Attacks five MNIST digits, for
    Figure 9.
    """
    runs = list(_runs(out))
    return PaperContents(
        views=tuple(views),
        errata=errata or {},
        panels={**_panels(out), **(panels or {})},
        patches=patches or {},
        logs=training_logs(),
        examples=_examples(),
        probes=tuple(_probes(out)),
        smallest=smallest_changes(out),
        temperatures=tuple(temperatures),
        unfit={run.path: tuple(run.manifest["not_reportable_because"]) for run in runs if not run.reportable},
        sources=_sources(runs),
        commands=tuple(dict.fromkeys(str(run.manifest["command"]) for run in runs if run.manifest.get("command"))),
        out=out,
    )


def _runs(out: Path) -> Iterator[Run]:
    from assay.evaluation.records.manifest import NAME
    from assay.evaluation.run import Run

    for path in sorted(out.glob(f"table-*/{NAME}")):
        yield Run.open(path.parent)


def _sources(runs: Sequence[Run]) -> tuple[Source, ...]:
    """Return the facts of all runs, each once, with the runs that say the same behind one title."""
    found: dict[Source, list[str]] = {}
    for run in runs:
        for source in sources(run, groups(run)):
            found.setdefault(source, []).append(run.path.name)
    shared = len(runs)
    return tuple(
        source if len(names) == shared or not _of_a_run(source) else Source(f"{source.title}: {names[0]}", source.facts)
        for source, names in found.items()
    )


def _of_a_run(source: Source) -> bool:
    return not source.title.startswith(("Model ", "Data "))


def _panels(out: Path) -> dict[int, tuple[Panel, ...]]:
    from assay.evaluation.run import Run

    found = {}
    for figure, names in _PANELS.items():
        for name in (*names, *(f"{name}{_STAND_IN}" for name in names)):
            try:
                run = Run.open(out / name)
            except BadInput:
                continue
            shown = run_panels(run, attacked=figure != 1)
            if shown:
                found[figure] = shown
                break
    return found


def run_panels(run: Run, *, attacked: bool) -> tuple[Panel, ...]:
    """Return a panel per image of a run: the image alone, or with its change and what the attack made of it.

    Of several budgets the smallest that changes anything is shown. Images come in the order of the study, where it
    names them.
    """
    shown: dict[str, Panel] = {}
    for cell, spec in run.cells.items():
        pictures = sorted(run.gallery(cell), key=lambda picture: (attacked and picture.eps == 0, picture.eps))
        names = class_names(run, spec["model"], spec["data"])
        order = {name: place for place, name in enumerate(spec.get("specs", {}).get("data", {}).get("ids") or ())}
        for picture in sorted(pictures, key=lambda one: order.get(one.sample_id, len(order))):
            shown.setdefault(picture.sample_id, _panel(picture, names, spec["model"], attacked))
    return tuple(shown.values())


def _panel(picture: Picture, names: list[str] | None, network: str, attacked: bool) -> Panel:
    original, change = picture.original.float(), picture.perturbation.float()
    title = name_of(names, picture.label)
    if not attacked:
        return Panel(title, {"": original}, bars(picture.clean_logits, picture.label, names), network)
    factor = magnification(change)
    images = {"original": original, f"change × {factor}": 0.5 + factor * change, "after": original + change}
    unit = ", normalised units" if picture.eps_written.startswith(NORMALIZED) else ""
    about = f"{network}, eps {words.bare(picture.eps_written)}{unit}"
    return Panel(title, images, bars(picture.logits, picture.label, names), about)


def _probes(out: Path) -> Iterator[Probe]:
    for path in sorted(out.glob("probe-*.json")):
        try:
            yield read_probe(path)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a half-written file: the page says what to run


def read_probe(path: Path) -> Probe:
    """Read a stored probe of gradients; its network is in the file's name. Raises `ValueError` or `KeyError`."""
    plain: dict[str, Any] = json.loads(path.read_text("utf-8"))
    bins = plain.get("histogram") or {"edges": (), "counts": ()}
    gaps = {float(key): value for key, value in plain["gaps"].items() if value is not None and math.isfinite(value)}
    return Probe(
        network=path.stem.removeprefix("probe-"), n=int(plain["n"]), accuracy=float(plain["accuracy"]),
        zero=float(plain["zero"]), zero_in_double=plain["zero_in_double"], gaps=gaps,
        edges=tuple(bins["edges"]), counts=tuple(bins["counts"]),
    )  # fmt: skip


def _examples() -> dict[float, tuple[Example, ...]]:
    try:
        return examples()
    except AssayError:  # MNIST can be neither found nor fetched: no reason to go without the rest
        return {}


def examples(budgets: Sequence[float] = _BUDGETS, many: int = _DIGITS) -> dict[float, tuple[Example, ...]]:
    """Attack the first digits of MNIST's test images with FGSM, and return per eps what became of them."""
    import torch

    import assay
    from assay.data import Sample

    model = assay.load_model(f"zoo:{_NETWORK}")
    data = assay.load_data("mnist/test", model=model, limit=many)
    samples = [one for one in data.load(range(len(data))) if isinstance(one, Sample)]
    x, y = torch.stack([one.image for one in samples]), torch.tensor([one.label for one in samples])
    curve = assay.sweep(assay.FGSM(), model, x, y, [assay.Linf(eps) for eps in budgets])
    return {
        eps: tuple(
            Example(image, int(true), int(logits.argmax()))
            for image, true, logits in zip(attacked.x_adv, y, attacked.logits, strict=True)
        )
        for eps, attacked in zip(budgets, curve, strict=True)
    }
