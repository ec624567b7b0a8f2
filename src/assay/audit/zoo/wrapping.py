"""From a name and a classifier to the classifier with that broken defence."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from functools import partial

from assay.audit.broken.table import BROKEN
from assay.core.errors import BadInput, did_you_mean
from assay.models import Classifier, load_model
from assay.models.classifier import digest_of
from assay.models.loaders.python import code_of

# the modules whose functions are all defences around one network -> that network
HOMES = {"assay.audit.zoo.mnist": "zoo:mnist-cnn", "assay.audit.zoo.lite0": "efficientnet-lite0"}


def wrap(name: str, classifier: Classifier) -> Classifier:
    """Return `classifier` behind the defence of that name in `BROKEN`, in eval mode, with a digest of its own.

    Its parameters are shared with `classifier`, but for `k_winners` (a copy) and `distillation` (another network).
    Around the networks of `HOMES` its `spec` is one that `load_model` reads. Raises `BadInput` for an unknown name, and
    for a network that the defence cannot be put around.
    """
    if name not in BROKEN:
        near = did_you_mean(name, BROKEN)
        raise BadInput(f"Unknown broken defence {name!r}.{near} There are: {', '.join(BROKEN)}.")
    home = next((home for home, spec in HOMES.items() if spec == classifier.spec), None)
    spec = f"{home}:{name}" if home else f"python:{__name__}.wrap({name!r}, {classifier.spec!r})"
    if home:
        importlib.import_module(home)  # the digest of a file is that of an imported one
    found = dataclasses.replace(
        classifier,
        module=BROKEN[name].make(classifier.module).eval(),
        spec=spec,
        # that of the undefended network says nothing about this one
        published_accuracy=None,
        # what loading by name fills in: the two ways must agree
        code=code_of(spec) if home else classifier.code,
    )
    return dataclasses.replace(found, digest=digest_of(found))


def factories(home: str) -> dict[str, Callable[[], Classifier]]:
    """Return, for a module of `HOMES`, one function without arguments per defence: what `module:name` calls."""
    return {name: partial(_around, name, HOMES[home]) for name in BROKEN}


def _around(name: str, spec: str) -> Classifier:
    return wrap(name, load_model(spec))
