"""The functions that make runs: an evaluation, certificates, corruptions, and the look before them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.audit.progress import OnAuditProgress
from assay.core.errors import BadInput, did_you_mean, warn_caller
from assay.core.threat import Linf, Threat
from assay.display import Display, Watch, chosen_in_python, kernel, progress
from assay.evaluation.analysis.brackets import BracketTable
from assay.evaluation.analysis.corruptions import CorruptionTable
from assay.evaluation.analysis.pairs import PairTable
from assay.evaluation.analysis.score import Result
from assay.evaluation.loader import Loader
from assay.evaluation.records.verdicts import Verdict
from assay.evaluation.run import Run
from assay.evaluation.run_study import given_study, new_folder
from assay.evaluation.study.certify import usual_certificate
from assay.models import Classifier
from assay.preflight.checks import THOROUGHLY, examine, pairs
from assay.preflight.findings import Findings
from assay.session import AuditSettings, Session, Tracker, audit_directory

if TYPE_CHECKING:
    from assay.evaluation.export.images import Exported


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: its run directory, and the ways to look at it."""

    run: Run
    loader: Loader | None = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Evaluation:
        """Open a run directory, of a command or of an earlier call. Raises `BadInput` when `path` is none."""
        return cls(Run.open(path))

    @property
    def path(self) -> Path:
        """The run directory; `Run.open(path)` reads it again at any time."""
        return self.run.path

    def results(self) -> list[Result]:
        """Return one result per cell and budget."""
        return self.run.results()

    def worst_case(self) -> list[Result]:
        """Return the per-sample worst case over the attacks, one per model, data set, threat and budget."""
        return self.run.worst_case()

    def corruptions(self) -> list[CorruptionTable]:
        """Return the accuracies on corrupted data, an average case: one table per model and data set."""
        return self.run.corruptions()

    def brackets(self) -> list[BracketTable]:
        """Return what certificates and attacks say together: a table per model, data set and threat."""
        return self.run.brackets()

    def pairs(self) -> list[PairTable]:
        """Return what attacks leave the models, and their judges of the same images: a table per pair and attack."""
        return self.run.pairs()

    def audit(
        self,
        preset: str = "quick",
        *,
        twin: Classifier | None = None,
        seed: int = 0,
        on_progress: OnAuditProgress | None = None,
    ) -> list[Verdict]:
        """Audit every worst-case number, keep the verdicts in the run directory, and return them.

        `preset` is "quick", "standard" or "thorough"; `twin` an undefended model for the same images, or
        the white-box network that leads on one that gives scores or labels alone. Models and data
        that were given as Python objects are audited as they are. `on_progress` hears how far it is (`AuditProgress`),
        and before an escalation what it takes at most. A KeyboardInterrupt keeps what is found; another call goes on
        from there. Raises `BadInput` for an unknown preset.
        """
        settings = AuditSettings(preset, twin, seed)
        loader = self.loader or Loader()
        return audit_directory(self.run, settings, loader, on_progress=on_progress)

    def verdicts(self) -> list[Verdict]:
        """Return what the audit said about the robust numbers, one verdict per number; none where it is off."""
        return self.run.verdicts()

    def export_images(self, out: str | os.PathLike[str], form: str = "png", **chosen: Any) -> Exported:
        """Write the adversarial images into the folder `out` with an index (CSV), and return what was written.

        `form` is "png" (8 bits), "npy" or "safetensors" (float32, exact). Choices: `only` ("broken", the default, or
        "all"), and the filters `cells`, `attacks`, `eps`, `models` and `data`, each a value or a list. Every attack is
        run again from its seed; results that do not agree with their records are counted and not written, and every
        image is judged as the file holds it.

        Raises `BadInput` for a folder with other files, unknown choices, and images that the form cannot hold.
        """
        from assay.evaluation.export.images import Choice, export_images

        names = [field.name for field in dataclasses.fields(Choice) if field.name != "form"]
        for name in chosen:
            if name not in names:
                near = did_you_mean(name, names)
                raise BadInput(f"Unknown choice {name!r}.{near} There are: {', '.join(names)}.")
        return export_images(self.run, out, Choice(form, **chosen), loader=self.loader)

    def export(self, to: str, out: str | os.PathLike[str] | None = None, *, force: bool = False) -> list[str]:
        """Write the numbers for another program, and return what was written, or where it is.

        `to` is "json", "csv", "model-card", "croissant", "evidence", "mlflow" or "wandb". Without `out` it lies in
        `exports` of the run directory. Nothing is sent anywhere but to MLflow's own store.

        Raises `BadInput` for unknown names, for a place that is taken (unless `force`), and for a library that is not
        installed.
        """
        from assay.exports.table import export_run

        return export_run(self.run, to, None if out is None else Path(out), force=force)

    def records(self, columns: Sequence[str] | None = None) -> Any:
        """Return the records as a pyarrow table, one row per sample and budget."""
        return self.run.records(columns)

    def endpoints(self) -> list[dict[str, Any]]:
        """Return what was asked of each endpoint: rows, requests, retries and cost, in all and by cell."""
        return self.run.endpoints()

    def table(self) -> None:
        """Print the table of results."""
        from rich.console import Console

        from assay import report

        report.terminal(self.run, Console())

    def show(self) -> None:
        """Show in a notebook what is left, the curve, the tables and the verdicts; elsewhere print the tables."""
        if kernel() is None:
            self.table()
        else:
            importlib.import_module("IPython.display").display(self)

    def _repr_html_(self) -> str:
        from assay import report

        return report.notebook(self.run)

    def page(self, path: str | os.PathLike[str], bands: Sequence[int] | None = None) -> Path:
        """Write the page, one self-contained HTML file, and return its path.

        `bands` are the channels, from 0, that pictures of more than three show: three as red, green and blue, or one.
        """
        from assay import report

        return report.page(self.run, Path(path), bands)


def evaluate(
    model: Any,
    data: Any,
    attacks: Any,
    threat: Threat | Mapping[str, Any] | list[Any],
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Evaluation:
    """Evaluate a model, or a list of them, on data under attacks, and audit the robust numbers.

    `model` is a name, a module or a `Classifier`; `data` a source (`"mnist/test"`) or whatever `load_data` takes or
    returned: a torch `Dataset`, a `DataLoader`, `(images, labels)`, a list of pairs. `attacks` are names,
    mappings (`{"attack": "pgd", "steps": 40}`) or attacks (`PGD(steps=40)`), one or a list; `threat` likewise a
    threat or a list of them. Settings are those of a study (`question goal order seed chunk judge`) and of a run
    (`executor workers share fork fail_on_error device …`), and `on_progress`. `goal` is the words of a study, a goal
    made from the labels of the data such as `Targeted(y, t)`, or a list of class numbers, one target per image.
    Without `out` the run directory is a new temporary one, which stays. `judge` is a model, as `model`, that judges the
    images made on it, such as the file that is deployed; `.pairs()` of what is returned has both numbers.

    `audit` is "quick" (the default), "standard", "thorough" or "off". `doctor` (True) looks at a few images of every
    model and data set first, and gives what may make numbers wrong as `AssayWarning`s. `display` is "auto" (progress in
    a terminal or notebook, nothing elsewhere), "full", "plain" or "none". `track="mlflow"` tells MLflow of the run
    while it goes on (extra `mlflow`); a tracker that fails is warned of, and ends nothing.

    `share` ("3/8") runs a part beside processes that run the others with the same `out`. The last one finishes the run;
    before that its `status` is "started", and the numbers are those of what is there.

    Ctrl-C leaves a run that the same call with the same `out` continues. Raises `BadInput` for whatever a study does
    not allow, and for what the look finds to make every number wrong.
    """
    return _evaluated(model, data, attacks, threat, out, settings)


def corrupt(
    model: Any,
    data: Any,
    corruptions: str | Sequence[str] = "standard",
    severities: int | str | Sequence[int] | None = None,
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure the accuracy of a model, or of a list of them, on corrupted images: an average case, no attack.

    `corruptions` are "standard" (the fifteen of ImageNet-C or, for grey digits of 28 x 28, of MNIST-C), "all" (with
    ImageNet-C's four validation ones), or names (`"fog"`, `["fog", "snow"]`). `severities` are 1 to 5, `[1, 3]` or
    "1-3"; without them every corruption has its usual ones: all five, and of MNIST-C the published one. Everything else
    is as in `evaluate`; `.corruptions()` of what is returned has the tables. Images of 3 channels need the extra
    `corruptions`.

    Raises `BadInput` for unknown corruptions, severities outside 1 to 5 and images that have no corruptions, and
    `Unavailable` without the extra.
    """
    asked: dict[str, Any] = (
        {"kinds": corruptions} if severities is None else {"kinds": corruptions, "severities": severities}
    )
    return _evaluated(model, data, None, None, out, {**settings, "corruptions": asked})


def certify(
    model: Any,
    data: Any,
    threat: Threat | Mapping[str, Any] | list[Any] | None = None,
    method: str | Mapping[str, Any] | Sequence[Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Evaluation:
    """Prove for which images no change inside a budget makes a right answer wrong: a bound from below.

    `method` is a certificate by name ("crown", "ibp:grade=real"), or several; without one it is what fits the model:
    bounds of the network, or what a defence around it is for. `threat` is as in `evaluate`: `Linf(0.1)`, or
    `{"norm": "linf", "eps": [0.1, 0.2]}`. `.brackets()` of what is returned has the numbers, `.run.certificates()` the
    record of every image. Everything else is as in `evaluate`.

    Raises `BadInput` for a model or threat that the method says nothing about, naming the layer.
    """
    if threat is None:
        raise BadInput("certify needs a threat, such as assay.Linf(0.1).")
    spec = model if isinstance(model, str) else getattr(model, "spec", "")
    return _evaluated(model, data, None, threat, out, {**settings, "certify": method or usual_certificate(spec).method})


def _evaluated(
    model: Any,
    data: Any,
    attacks: Any,
    threat: Any,
    out: str | os.PathLike[str] | None,
    settings: dict[str, Any],
) -> Evaluation:
    """Run the study of `evaluate` and `corrupt`."""
    doctor, display = settings.pop("doctor", True), _display(settings.pop("display", "auto"))
    on_progress, track = settings.pop("on_progress", None), _tracker(settings.pop("track", None))
    given = given_study(model, data, attacks, threat, settings)
    if given.options.share is not None and out is None:
        raise BadInput(f"share is {given.options.share!r} and out is missing: the directory that all shares run in.")
    folder = new_folder(out)
    session = Session(given.study, folder, given.options, doctor=doctor, loader=given.loader, tracker=track)
    try:
        finished = session.run(_Notebook(display), on_progress)
    except KeyboardInterrupt as stopped:
        stopped.add_note(f"What is finished is kept in {folder}; the same call with out={str(folder)!r} continues.")
        raise
    return Evaluation(finished.run, given.loader)


def _tracker(name: str | None) -> Tracker | None:
    if name is None:
        return None
    from assay.exports.live import tracker

    return tracker(name, warn_caller)


@dataclasses.dataclass(frozen=True)
class _Notebook:
    """Tells what a session does as Python does: warnings are warnings, and progress is there where someone watches."""

    display: Display

    def say(self, text: str) -> None:
        """Say nothing: progress shows it."""

    def note(self, text: str) -> None:
        """Say nothing: the manifest holds it."""

    def warn(self, text: str) -> None:
        """Warn at the caller's line."""
        warn_caller(text)

    def watch(self, what: str) -> contextlib.AbstractContextManager[Watch]:
        """Show how far the work is."""
        return progress(what, self.display)


def _display(value: str) -> Display:
    try:
        return chosen_in_python(value)
    except ValueError:
        raise BadInput(f"display is {value!r}, expected 'auto', 'full', 'plain' or 'none'.") from None


def doctor(
    model: Any,
    data: Any,
    images: int = THOROUGHLY,
    *,
    labels: str | None = None,
    device: str | None = None,
    batch: int | None = None,
    allow_pickle: bool = False,
    allow_random_data: bool = False,
) -> Findings:  # shape: the settings of `evaluate` that say what is examined
    """Examine a model and data for what makes robustness numbers wrong: outputs, labels, gradients, modes, units.

    Takes what `evaluate` takes as `model` and `data`, looks at up to `images` of the images, evenly spread over the
    data, and returns what the checks found, the worst first: `.errors` make every number wrong, `.warnings` may.
    Settings as for `evaluate`; `labels="predicted"` for images without labels.

    Raises `BadInput` for models and data that cannot be loaded, and for more than one of them.
    """
    if images < 1:
        raise BadInput(f"images is {images}, expected 1 or more.")
    settings = {
        "labels": labels, "device": device, "batch": batch, "allow_pickle": allow_pickle,
        "allow_random_data": allow_random_data,
    }  # fmt: skip
    given = given_study(model, data, "uniform-noise", Linf(0), settings)
    each = list(pairs(given.study))
    if len(each) > 1:
        raise BadInput(f"{len(each)} models or data sets were given, expected one of each. Call doctor for each.")
    ((spec, source),) = each
    classifier = given.loader.model(spec)
    return examine(classifier, given.loader.data(source, classifier), images, batch)


__all__ = ["Evaluation", "certify", "corrupt", "doctor", "evaluate"]
