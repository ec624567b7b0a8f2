"""Every strange defence, as models that load by name: `assay.audit.zoo.strange:wave`."""

# shape: a file for each home of models

from __future__ import annotations

import dataclasses
from functools import partial

from assay.audit.broken.strange import STRANGE
from assay.models import Classifier, load_model
from assay.models.classifier import digest_of
from assay.models.loaders.python import code_of


def _around(name: str) -> Classifier:
    one = STRANGE[name]
    inner = load_model(one.around)
    spec = f"{__name__}:{name}"
    found = dataclasses.replace(
        inner, module=one.make(inner.module).eval(), spec=spec, published_accuracy=None, code=code_of(spec)
    )
    return dataclasses.replace(found, digest=digest_of(found))


globals().update({name: partial(_around, name) for name in STRANGE})
