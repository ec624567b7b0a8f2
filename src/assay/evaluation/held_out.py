"""Images that a threshold was chosen on are not evaluated: there a detector refuses its share by construction."""

from __future__ import annotations

import math
from collections.abc import Mapping

from assay.core.errors import BadInput
from assay.data import Data, Sample, image_digest
from assay.models import Classifier
from assay.wording import plural

_CHEAP = 2**25
"""Values of pixels that are read before a run to compare all images; of more the run compares as it reads them."""
_AT_ONCE = 256


def check_apart(classifier: Classifier, digests: Mapping[str, str]) -> None:
    """Raise `BadInput` where images to be evaluated are among those that a threshold of the model was chosen on.

    `digests` are those of the images, by their ids.
    """
    chosen_on = classifier.fitted.images if classifier.fitted is not None else frozenset()
    both = [name for name, digest in digests.items() if digest in chosen_on]
    if both:
        first = ", ".join(map(repr, both[:3]))
        raise BadInput(
            f"{plural(len(both), 'image')} of those to be evaluated ({first}{', …' if len(both) > 3 else ''}) were "
            f"used to choose the threshold of {classifier.spec}, which refuses its share of them by construction; "
            "expected none. Evaluate on other images, or fit the defence on others (assay defend fit)."
        )


def check_data_apart(classifier: Classifier, data: Data) -> None:
    """Do so for all images of `data`, where their pixels are few enough to be read for that."""
    if classifier.fitted is None or not classifier.fitted.images:
        return
    if data.input_shape is None or len(data) * math.prod(data.input_shape) > _CHEAP:
        return
    digests: dict[str, str] = {}
    for first in range(0, len(data), _AT_ONCE):
        loaded = data.load(range(first, min(len(data), first + _AT_ONCE)))
        digests.update({one.id: image_digest(one.image) for one in loaded if isinstance(one, Sample)})
    check_apart(classifier, digests)
