"""Running a study in a directory, and the study that Python objects make."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from assay.core.errors import BadInput, did_you_mean
from assay.core.threat import UNBOXED, Threat
from assay.data import Data, given_data, holds_pictures, images_alone, load_data, with_fixed_draws
from assay.evaluation.execution.options import Options
from assay.evaluation.execution.ownership import hold, whole
from assay.evaluation.execution.progress import OnProgress
from assay.evaluation.execution.runner import RunFailed, Runner
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.run import Run
from assay.evaluation.study.attacks import describe
from assay.evaluation.study.masks import name_of
from assay.evaluation.study.spec import ModelSpec, Study
from assay.evaluation.study.targets import given as aimed_at
from assay.models import Classifier, load_model
from assay.models.load import on_device
from assay.models.remote.ledger import Ledger

_STUDY_KEYS = (
    "study",
    "question",
    "goal",
    "order",
    "seed",
    "chunk",
    "labels",
    "audit",
    "corruptions",
    "certify",
    "judge",
)


def run_study(
    study: Study,
    out: str | os.PathLike[str],
    options: Options | None = None,
    *,
    on_progress: OnProgress | None = None,
    loader: Loader | None = None,
) -> Run:
    """Run what is not done of a study in the directory `out`, and return it.

    Running again resumes; a finished study is left as it is; new cells run alone. A share of it (`Options.share`) runs
    beside others, and the last one finishes the run. `loader` holds models and data
    given as Python objects. Raises `BadInput` for a directory of another study or in use, `RunFailed` when a model
    fails or more samples do than `fail_on_error` allows, `DiskError` for a full or read-only disk: finished shards
    are kept. A KeyboardInterrupt marks the run as cancelled and goes on.
    """
    options = options or Options()
    options.engine()
    loader = loader or options.loader()
    with Ledger().used() as ledger:
        ledger.look_behind(Path(out).expanduser())
        try:
            plan = make_plan(study, loader)
            hear = on_progress or (lambda progress: None)
            with hold(out, plan, options) as directory:
                run = Runner(directory, plan, options, loader).run(hear)
                if directory.part is None:
                    return run
                with whole(directory) as rest:
                    alone = dataclasses.replace(options, share=None, retry_errors=False)
                    return run if rest is None else Runner(rest, plan, alone, loader).run(hear)
        finally:
            loader.close()


@dataclasses.dataclass(frozen=True)
class GivenStudy:
    """A study of Python objects, how it is run, and the loader that knows the objects by the names they have in it."""

    study: Study
    options: Options
    loader: Loader


def given_study(
    model: Any,
    data: Any,
    attacks: Any,
    threat: Threat | Mapping[str, Any] | list[Any] | None,
    settings: Mapping[str, Any],
) -> GivenStudy:
    """Return the study that the arguments of `assay.evaluate` describe; without attacks it is of corruptions.

    Raises `BadInput` for what no study allows.
    """
    study_settings = {key: value for key, value in settings.items() if key in _STUDY_KEYS}
    rest = {key: value for key, value in settings.items() if key not in _STUDY_KEYS}
    names = [field.name for field in dataclasses.fields(Options)]
    for name in rest:
        if name not in names:
            known = [*_STUDY_KEYS, *names, "doctor", "display", "on_progress", "track"]
            raise BadInput(f"Unknown setting {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}.")
    options = Options(**rest)
    loader = options.loader()
    named = [_named_model(one, loader) for one in _as_list(model)]
    if study_settings.get("judge") is not None:
        study_settings["judge"] = _named_model(study_settings["judge"], loader)
    if not isinstance(study_settings.get("goal", ""), str):
        first = {"model": named[0]} if isinstance(named[0], str) else named[0]
        loaded = _loaded(data, loader.model(ModelSpec.model_validate(first)))
        study_settings["goal"], data = aimed_at(study_settings["goal"], loaded)
    raw = {
        "study": "evaluation",
        "models": named,
        "data": _named_data(data, loader, study_settings.pop("labels", None)),
        **study_settings,
    }
    if threat is not None:
        raw["threats"] = _threats(_as_list(threat), loader)
    if attacks is not None:
        raw["attacks"] = [one if isinstance(one, (str, Mapping)) else describe(one) for one in _as_list(attacks)]
    return GivenStudy(Study.of(raw), options, loader)


def new_folder(out: str | os.PathLike[str] | None) -> Path:
    """Return where a run goes: `out`, or a new temporary directory."""
    return Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="assay-"))


def _named_model(model: str | nn.Module | Classifier, loader: Loader) -> Any:
    if isinstance(model, str):
        return model
    known = isinstance(model, Classifier) and model.digest
    classifier = model if isinstance(model, Classifier) and known else load_model(model)
    if loader.device is not None:
        classifier = on_device(classifier, loader.device)
    name, count = classifier.spec, 2
    # two networks of one class are two models
    while name in loader.models:
        name, count = f"{classifier.spec} #{count}", count + 1
    loader.models = {**loader.models, name: dataclasses.replace(classifier, spec=name)}
    return {"model": name, "outputs": classifier.outputs}


def _loaded(data: Any, model: Classifier) -> Data:
    if isinstance(data, Data):
        return data
    whole = dict(data) if isinstance(data, Mapping) else {"source": data}
    return load_data(whole.pop("source"), model=model, **whole)


def _named_data(data: Any, loader: Loader, labels: str | None) -> Any:
    """Return the data as a study names them, known to `loader`; `labels` of "predicted" are the model's answers."""
    if isinstance(data, Mapping) and "source" in data:
        return {**data, "labels": labels} if labels else data
    named = _source_of(data if labels is None else images_alone(data), loader)
    return {"source": named, "labels": labels} if labels else named


def _source_of(data: Any, loader: Loader) -> str:
    if isinstance(data, str):
        return data
    if not isinstance(data, Data):
        given = given_data(data)
        if holds_pictures(given):
            # each model says what becomes of pictures, so they are loaded for each
            loader.datasets = {**loader.datasets, given.source: data}
            return given.source
        data = load_data(data, allow_random_data=loader.allow_random_data)
    elif loader.allow_random_data:
        data = with_fixed_draws(data, 0)
    loader.datasets = {**loader.datasets, data.source: data}
    return str(data.source)


def _threats(given: list[Any], loader: Loader) -> list[Any]:
    """Return threats as a study writes them; those that differ in their budget alone become one with several.

    The loader learns the masks that they come with.
    """
    merged: dict[Any, dict[str, Any]] = {}
    for at, threat in enumerate(given):
        if not isinstance(threat, Threat):
            merged[at] = threat
            continue
        if threat.budget is None or not isinstance(threat.eps, float) or not isinstance(threat.scale, float):
            raise BadInput(
                "A study takes one number per threat, such as Linf('4/255'); budgets per channel or per sample go to "
                "assay.attack. To change some channels alone, give a mask [C, 1, 1]."
            )
        plain: dict[str, Any] = {"norm": threat.norm.name, "box": threat.box != UNBOXED, "grid": threat.grid}
        if threat.components is not None:
            plain["components"] = threat.components.weights
        if threat.mask is not None:
            plain["mask"] = name_of(threat.mask)
            loader.masks = {**loader.masks, plain["mask"]: threat.mask}
        kind = (*plain.values(), threat.budget.unit)
        merged.setdefault(kind, {**plain, "eps": []})["eps"].append(threat.budget)
    return list(merged.values())


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


__all__ = ["GivenStudy", "Options", "Run", "RunFailed", "given_study", "new_folder", "run_study"]
