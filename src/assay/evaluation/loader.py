"""Models and data by their specs: loaded when first needed, and kept while they are in use."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.core.masks import Mask
from assay.core.oracle import TorchOracle
from assay.data import Data, check_steady, load_data
from assay.data.corruption import Kept, corrupted, take_view
from assay.data.imagenet_c import SCHEME
from assay.evaluation.cell import Cell
from assay.evaluation.likeness import Facts, completed
from assay.evaluation.study import surrogates as surrogate
from assay.evaluation.study.spec import DataSpec, ModelSpec
from assay.evaluation.study.targets import aimed
from assay.models import Classifier, load_model
from assay.models.devices import let_go_of_memory


@dataclasses.dataclass(frozen=True)
class Bench:
    """A model held still, ready to be measured, and the surrogates that attacks on it are made on, by their names."""

    classifier: Classifier
    oracle: TorchOracle
    surrogates: dict[str, TorchOracle] = dataclasses.field(default_factory=dict)
    _classes: list[int] = dataclasses.field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.classifier.device

    def classes(self, one: Tensor) -> int:
        """Return how many classes the model knows, asking it once about `one` image `[1, C, H, W]`.

        One that answers outside of torch is asked only where nothing says so.

        Raises `ModelError` when its answer is no tensor of logits.
        """
        if not self._classes:
            known = self.classifier.classes_outside
            self._classes.append(known or self.oracle.answers(one).shape[1] - self.classifier.rejects)
        return self._classes[0]


@dataclasses.dataclass
class Loader:
    """Loads what specs name. `models`, `datasets` and `masks` are those given as Python objects, by their names.

    One model is kept loaded at a time, besides those given: they may be large, and units come model by model. While
    a model is on the bench its parameters are frozen and it is in eval mode; `close` puts everything back. `device`
    is where models compute; None is the CPU for those loaded here, and for those given wherever they are.
    """

    device: str | None = None
    allow_pickle: bool = False
    batch: int | None = None
    models: Mapping[str, Classifier] = dataclasses.field(default_factory=dict)
    datasets: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    masks: Mapping[str, Mask] = dataclasses.field(default_factory=dict)
    allow_random_data: bool = False

    def __post_init__(self) -> None:
        self._model: tuple[tuple[str, str], Classifier] | None = None
        self._facts: dict[str, Facts] = {}
        self._surrogates: dict[str, tuple[Classifier, ...]] = {}
        self._data: dict[tuple[str, str], Data] = {}
        self._originals: dict[tuple[str, str], Kept] = {}
        self._bench: tuple[ModelSpec, Bench] | None = None
        self._held = contextlib.ExitStack()
        self.experiments: dict[str, Any] = {}

    def model(self, spec: ModelSpec) -> Classifier:
        """Return the model a spec names."""
        found = self._loaded(spec)
        return found if spec.like is None else completed(found, self._facts_of(spec.like))

    def _loaded(self, spec: ModelSpec) -> Classifier:
        if spec.model in self.models:
            return self.models[spec.model]
        name = (spec.model, spec.outputs)
        if self._model is None or self._model[0] != name:
            self.close()
            self._model = None
            loaded = load_model(
                spec.model, outputs=spec.outputs, allow_pickle=self.allow_pickle, device=self.device or "cpu"
            )
            self._model = (name, loaded)
            self._facts[spec.model] = Facts.of(loaded)
        return self._model[1]

    def _facts_of(self, name: str) -> Facts:
        if name in self.models:
            return Facts.of(self.models[name])
        if name not in self._facts:
            self._facts[name] = Facts.of(load_model(name, allow_pickle=self.allow_pickle, device=self.device or "cpu"))
        return self._facts[name]

    def surrogate(self, options: Mapping[str, Any], target: Classifier) -> tuple[Classifier, ...]:
        """Return the models of the surrogate of `target` that an attack's options name.

        The last one stays loaded beside the model that is measured. Raises `BadInput` for `undefended` of a model that
        stands behind no defence.
        """
        # the network inside a model is its own
        key, each = surrogate.key_of(options), surrogate.names(options["surrogate"])
        if surrogate.UNDEFENDED in each:
            key = f"{key} {target.digest}"
        if key not in self._surrogates:
            outputs = options.get("surrogate_outputs", "logits")
            self._surrogates = {key: tuple(self._stand_in(name, target, outputs) for name in each)}
        return self._surrogates[key]

    def _stand_in(self, name: str, target: Classifier, outputs: str) -> Classifier:
        if name != surrogate.UNDEFENDED:
            return self.models.get(name) or load_model(
                name, outputs=outputs, allow_pickle=self.allow_pickle, device=self.device or "cpu"
            )
        if target.undefended is None:
            raise BadInput(
                f"The surrogate is {name!r}, and {target.spec} stands behind no defence. Leave the surrogate out, or "
                f"put a defence around the model: {target.spec}|DEFENCE."
            )
        return target.undefended

    def data(self, spec: DataSpec, model: Classifier) -> Data:
        """Return the data a spec names, prepared as `model` wants its pictures.

        Raises `BadInput` where a sample is another image each time it is read.
        """
        key = _key(spec, model)
        if key in self._data:
            return self._data[key]
        plain, corruption = (spec.source, None) if spec.source in self.datasets else take_view(spec.source)
        if corruption is not None and not plain.startswith(SCHEME):
            self._data[key] = corrupted(self._kept(spec.model_copy(update={"source": plain}), model), corruption)
        else:
            given = self.datasets.get(spec.source, spec.source)
            loaded = given if isinstance(given, Data) and not spec.labels else self._load(given, spec, model)
            self._data[key] = check_steady(loaded, allowed=self.allow_random_data)
        return self._data[key]

    def _kept(self, spec: DataSpec, model: Classifier) -> Data:
        """Return data whose first images stay in memory: they are read and checked once for all corruptions."""
        key, data = _key(spec, model), self.data(spec, model)
        return dataclasses.replace(data, read=self._originals.setdefault(key, Kept(data.read)))

    def _load(self, given: Any, spec: DataSpec, model: Classifier) -> Data:
        chosen = spec.model_dump(exclude={"source"})
        ids = list(spec.ids) if spec.ids is not None else None
        settings = {**chosen, "ids": ids, "allow_random_data": self.allow_random_data}
        return load_data(given, model=model, **settings)

    def bench(self, cell: Cell) -> Bench:
        """Return the cell's model, held still. Raises `BadInput` when its weights are not those of the plan."""
        if self._bench is None or self._bench[0] != cell.model:
            classifier = self.model(cell.model)
            self.close()
            self._held.enter_context(classifier.held())
            self._bench = (cell.model, Bench(classifier, classifier.oracle(self.batch)))
        bench = self._bench[1]
        if bench.classifier.digest != cell.weights:
            raise BadInput(
                f"{cell.model.model} has weights {bench.classifier.digest} here, and {cell.weights} in the plan. "
                "A model must be the same each time it is loaded: seed its factory, or load its weights from a file."
            )
        options = cell.attack.options
        key = surrogate.key_of(options)
        if key and key not in bench.surrogates:
            models = self.surrogate(options, bench.classifier)
            surrogate.resolved(options, models, bench.classifier)
            bench.surrogates[key] = self._held.enter_context(surrogate.held(models, self.batch))
        return bench

    def samples(self, cell: Cell) -> Data:
        """Return the cell's data, with the targets of its goal. Raises `BadInput` when it is not that of the plan."""
        model = self.bench(cell).classifier
        data = self.data(cell.data, model)
        if data.fingerprint != cell.fingerprint or len(data) != cell.n:
            raise BadInput(
                f"{cell.data.source} is not the data of the plan (fingerprint {data.fingerprint}, planned "
                f"{cell.fingerprint}; {len(data)} samples, planned {cell.n}). Leave the files alone during a run."
            )
        return aimed(cell.goal, data, model.classes or data.classes)[1]

    def release(self) -> None:
        """Let go of the model loaded here, where it is used elsewhere."""
        self.close()
        self._model = None
        self._surrogates = {}
        let_go_of_memory(self.device)

    def close(self) -> None:
        """Take the model off the bench, and give it back as it was."""
        self._bench = None
        self._held.close()


def _key(spec: DataSpec, model: Classifier) -> tuple[str, str]:
    wants = (model.input_shape, model.channels, model.preprocess, model.synsets, model.classes)
    # predicted labels are one model's alone
    return spec.model_dump_json(), repr((*wants, model.digest) if spec.labels else wants)
