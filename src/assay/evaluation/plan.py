"""The plan: a study resolved into cells, cells cut into chunks, and what is refused beforehand."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from assay.attacks import fitting
from assay.certification import certificate_entry
from assay.core.budget import NORMALIZED
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.data import Data
from assay.data.corruption import written_view
from assay.defenses.chain import written_chain
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.certify_first import bounded_first, check_certificate
from assay.evaluation.endpoints import endpoint_facts
from assay.evaluation.held_out import check_data_apart
from assay.evaluation.judging import check_images, check_models, made_on, turns, two_ways
from assay.evaluation.loader import Loader
from assay.evaluation.methods import told_method
from assay.evaluation.passes import queries_per_image
from assay.evaluation.study import masks
from assay.evaluation.study import surrogates as surrogate
from assay.evaluation.study.adaptive import NO_DETECTOR, parts_for
from assay.evaluation.study.attacks import ADAPTIVE, entry_of, method_of, resolved
from assay.evaluation.study.corruptions import corruptions_of, is_tree
from assay.evaluation.study.spec import AttackSpec, DataSpec, Grid, ModelSpec, Study, ThreatSpec
from assay.evaluation.study.targets import aimed
from assay.models import Classifier
from assay.models.classifier import check_identity
from assay.vocabulary import UNATTACKED


def check_units(grid: Grid, model: Classifier) -> None:
    """Raise `BadInput` for normalised budgets of a model whose normalisation is unknown."""
    for threat in grid.threats:
        if threat.eps[0].unit == NORMALIZED and model.std is None:
            raise BadInput(
                f"The budget {threat.eps[0].written!r} is in the model's normalised units, but the normalisation of "
                f"{model.spec} is unknown. Put it inside the model (assay.models.Normalized(module, mean, std)), or "
                "write the budget in pixels, such as 8/255."
            )


def check_access(grid: Grid, model: Classifier) -> None:
    """Raise `BadInput` for an attack that needs more than the model gives, naming those that fit."""
    for attack in grid.attacks:
        # images made elsewhere are only judged here
        needs = Access.LABELS if attack.options.get("surrogate") else _needs(attack)
        if needs > model.access:
            fit = dict.fromkeys(name for threat in grid.threats for name in fitting(model.access, threat.norm))
            raise BadInput(
                f"{attack.attack} needs {needs.name.lower()}, and {model.spec} gives {model.access.name.lower()} "
                f"alone. Attacks that fit: {', '.join(fit) or 'none'}; or make the images on another model: "
                f"{attack.attack}:surrogate=MODEL. In a study of several models, give each kind its own attacks, in a "
                "grid of its own (grids:)."
            )


def _needs(attack: AttackSpec) -> Access:
    if attack.attack == ADAPTIVE:
        # what it needs depends on what it is made of
        return method_of(attack.attack, attack.options, (1, 1)).access
    return entry_of(attack.attack).access


def check_detector(grid: Grid, model: Classifier) -> None:
    """Raise `BadInput` for an attack that knows a detector, of a model that refuses nothing."""
    for attack in grid.attacks:
        if not model.rejects and attack.options.get("adaptive", "none") != "none":
            raise BadInput(f"{attack.label}: {NO_DETECTOR.format(model=model.spec)}")


def mask_notes(threats: Sequence[ThreatSpec]) -> list[str]:
    """Return notes on masks that limit nothing. Raises `BadInput` for two masks of one name."""
    digests: dict[str, str | None] = {}
    for threat in threats:
        if digests.setdefault(threat.label, threat.mask_digest) != threat.mask_digest:
            raise BadInput(f"Two masks go by the name of {threat.label!r}. Give them different file names.")
    whole = [threat.label for threat in threats if threat.mask_share == 1]
    return [f"{label}: every value may change, so that the mask limits nothing." for label in whole]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A resolved study: its cells, what the manifest says about its models and data, and notes for the user."""

    study: Study
    cells: tuple[Cell, ...]
    models: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...] = ()

    @property
    def query_limits(self) -> dict[str, int]:
        """How often attacks may ask a model that gives scores or labels alone about an image, per cell digest."""
        asked = [cell for cell in self.cells if cell.certificate is None and cell.attack.attack != UNATTACKED]
        return {
            cell.digest: queries_per_image(cell) for cell in asked if "access" in self.models.get(cell.model.label, {})
        }

    @property
    def methods(self) -> dict[str, dict[str, Any]]:
        """What readers of the records have to know of the attacks, per cell digest."""
        return {cell.digest: told_method(cell.plain()) for cell in self.cells if cell.certificate is None}

    @property
    def units(self) -> list[Unit]:
        """All units; those of one model follow each other, so that it is loaded once."""
        return [Unit(cell, chunk) for cell in self.cells for chunk in range(cell.chunks)]

    def todo(self, done: Mapping[str, set[int]]) -> list[Unit]:
        """Return what is planned and not done; `done` holds the finished chunks per cell digest."""
        return [unit for unit in self.units if unit.chunk not in done.get(unit.cell.digest, ())]


def make_plan(study: Study, loads: Loader) -> Plan:
    """Resolve a study: load each model and data set once, and name every cell by what its numbers depend on.

    Raises `BadInput` where a cell cannot be: normalised budgets for a model of unknown normalisation, two cells
    that are one, one data source in two selections.
    """
    made = _Making(loads)
    for turn in turns(study):
        grid, spec = turn.grid, turn.spec
        model = loads.model(spec)
        check_identity(model)
        maker = None if turn.maker is None else loads.surrogate(made_on(turn.maker), model)[0]
        if maker is not None:
            check_models(model, maker)
        grid = grid.model_copy(update={"attacks": tuple(_resolved(one, model, loads, maker) for one in grid.attacks)})
        if made.models.setdefault(spec.label, _model_facts(model)) != _model_facts(model):
            raise two_ways(spec.label)
        check_units(grid, model)
        check_access(grid, model)
        check_detector(grid, model)
        for chosen in grid.data:
            if made.selections.setdefault(chosen.source, chosen) != chosen:
                raise BadInput(f"{chosen.source} is selected in two ways in one study. Make it two studies.")
            if maker is not None:
                check_images(loads.data(chosen, model), loads.data(chosen, maker), (model.spec, maker.spec))
            if grid.attacked:
                made.add(grid, spec, chosen, model)
            if grid.certify.methods:
                made.certify(grid, spec, chosen, model)
            if grid.corruptions is not None:
                for view in made.views(grid, chosen, model):
                    made.add(_looked_at(grid), spec, view, model)
    return Plan(study, tuple(made.cells.values()), made.models, made.data, tuple(made.notes))


@dataclasses.dataclass(frozen=True)
class _Making:
    """A plan that is being made."""

    loads: Loader
    cells: dict[str, Cell] = dataclasses.field(default_factory=dict)
    models: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    data: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    selections: dict[str, DataSpec] = dataclasses.field(default_factory=dict)
    notes: dict[str, None] = dataclasses.field(default_factory=dict)

    def add(self, grid: Grid, spec: ModelSpec, chosen: DataSpec, model: Classifier) -> None:
        """Add the cells of one model on one data set."""
        loaded = self.loads.data(chosen, model)
        check_data_apart(model, loaded)
        facts = _data_facts(loaded)
        self.data.setdefault(chosen.label, facts)
        self.notes.update(dict.fromkeys(f"{chosen.original}: {note}" for note in loaded.notes))
        shape = model.input_shape or loaded.input_shape
        threats = [masks.resolved(one, loaded, shape, self.loads.masks) for one in grid.threats]
        self.notes.update(dict.fromkeys(mask_notes(threats)))
        goal = aimed(grid.goal, loaded, model.classes or loaded.classes)[0]
        here = grid.model_copy(update={"goal": goal, "threats": tuple(threats)})
        for cell in _cells(here, spec, chosen, model=model, data=facts):
            bounded = bounded_first(cell, grid.certify.before, model, self.loads)
            self.cells.setdefault(bounded.digest, bounded)

    def certify(self, grid: Grid, spec: ModelSpec, chosen: DataSpec, model: Classifier) -> None:
        """Add the certificates of one model on one data set. Raises `BadInput` for what a method does not speak of."""
        loaded = self.loads.data(chosen, model)
        check_data_apart(model, loaded)
        facts = _data_facts(loaded)
        self.data.setdefault(chosen.label, facts)
        same = {"question": "worst_case", "goal": "untargeted", "order": "ascending"}
        here = grid.model_copy(update={"attacks": (AttackSpec(attack=UNATTACKED),), **same})
        for plain in _cells(here, spec, chosen, model=model, data=facts):
            for one in grid.certify.methods:
                version = certificate_entry(one.certificate).version
                cell = dataclasses.replace(plain, certificate=one, version=version)
                check_certificate(cell, self.loads)
                self.cells.setdefault(cell.digest, cell)

    def views(self, grid: Grid, chosen: DataSpec, model: Classifier) -> list[DataSpec]:
        """Return the data as they are, where a source has such, and each corruption of them."""
        assert grid.corruptions is not None
        tree = is_tree(chosen.source)
        shape = model.input_shape if tree else self.loads.data(chosen, model).input_shape
        corrupted = [
            chosen.model_copy(update={"source": written_view(chosen.source, one)})
            for one in corruptions_of(grid.corruptions, chosen.source, shape)
        ]
        return corrupted if tree else [chosen, *corrupted]


def _looked_at(grid: Grid) -> Grid:
    """Return the grid whose data are looked at and not attacked."""
    untouched = ThreatSpec.model_validate({"norm": "linf", "eps": 0})
    same = {"question": "as_attacked", "goal": "untargeted", "order": "ascending"}
    return grid.model_copy(update={"attacks": (AttackSpec(attack=UNATTACKED),), "threats": (untouched,), **same})


def _cells(grid: Grid, spec: ModelSpec, chosen: DataSpec, *, model: Classifier, data: Mapping[str, Any]) -> list[Cell]:
    shape = model.input_shape or data["image_shape"]
    return [
        Cell(
            model=spec,
            weights=model.digest,
            preprocess=json.dumps(_model_facts(model)["preprocess"], sort_keys=True),
            data=chosen,
            fingerprint=data["fingerprint"],
            ids_digest=data["ids_digest"],
            n=data["n"],
            attack=attack,
            version=entry_of(attack.attack).version,
            threat=threat,
            question=grid.question,
            goal=grid.goal,
            order=grid.order,
            seed=grid.seed,
            chunk=grid.chunk or usual_chunk(shape, data["n"]),
            image=Cell.image if shape is None else (shape[1], shape[2]),
        )
        for threat in grid.threats
        for attack in grid.attacks
    ]


def _resolved(attack: AttackSpec, model: Classifier, loads: Loader, maker: Classifier | None) -> AttackSpec:
    # `maker`: the model that a judge's images are made on
    options = resolved(attack.attack, attack.options)
    if attack.attack == ADAPTIVE and options.get("parts") is None:
        options = {"parts": parts_for(maker or model), **options}
    if options.get("surrogate"):
        options = surrogate.resolved(options, loads.surrogate(options, model), model)
    return attack.model_copy(update={"options": options})


def usual_chunk(shape: Sequence[int] | None, n: int) -> int:
    """Return the samples of a chunk: enough for a full pass, few enough to lose little and to share out.

    It depends on the data alone, never on the workers: results must not.
    """
    if shape is not None and math.prod(shape) <= 4096:
        return 128
    return min(32, max(8, n // 32))


def _model_facts(model: Classifier) -> dict[str, Any]:
    preprocess = model.preprocess
    return {
        "digest": model.digest,
        "mean": list(model.mean) if model.mean is not None else None,
        "std": list(model.std) if model.std is not None else None,
        "input_shape": list(model.input_shape) if model.input_shape is not None else None,
        "preprocess": preprocess.facts() if preprocess is not None else None,
        "classes": list(model.classes) if model.classes is not None else None,
        "published_accuracy": model.published_accuracy,
        # what few models have: manifests of others stay as they are
        **({"access": model.access.name.lower()} if model.access is not Access.GRADIENT else {}),
        **({"defenses": written_chain(model.defenses, file=False)} if model.defenses else {}),
        **({"rejects": True, **_threshold_facts(model)} if model.rejects else {}),
        **({"endpoints": endpoint_facts(model)} if model.outside else {}),
        # how a file was understood: the commit of a hub, where gradients come from
        **({"notes": list(model.notes)} if model.notes else {}),
    }


def _threshold_facts(model: Classifier) -> dict[str, Any]:
    detecting = [at for at, step in enumerate(model.defenses) if step.entry.detects]
    refuses_itself = model.undefended is not None and model.undefended.rejects
    one = model.fitted.thresholds.get(detecting[0]) if model.fitted is not None and len(detecting) == 1 else None
    if one is None or refuses_itself:
        # of several thresholds together nobody has chosen the share that they refuse
        return {}
    return {
        "threshold": {
            "fpr": one.fpr,
            "n": one.n,
            "above": int((one.scores > one.value).sum()),
            "offset_at_5_fpr": one.scale * (one.at(0.05) - one.value),
        }
    }


def _data_facts(data: Data) -> dict[str, Any]:
    told = "\n".join(f"{label} {name}" for name, label in zip(data.ids, data.labels, strict=True))
    return {
        "fingerprint": data.fingerprint,
        "n": len(data),
        "ids_digest": hashlib.blake2b(told.encode(), digest_size=16).hexdigest(),
        "classes": list(data.classes) if data.classes is not None else None,
        "image_shape": list(data.input_shape) if data.input_shape is not None else None,
    }
