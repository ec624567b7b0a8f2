"""A model that can only be asked, led by a white-box twin: its own answers, and the gradients of the twin."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import torch

from assay.core.compose import Method, is_attack
from assay.core.errors import BadInput
from assay.core.oracle import Access, LookPasses
from assay.evaluation.cell import Cell
from assay.evaluation.loader import Bench, Loader
from assay.evaluation.study.surrogates import digest_of
from assay.models import Classifier, together
from assay.models.deployed import Deployed, answer_of


@dataclasses.dataclass(frozen=True)
class Asked:
    """How the model of a group is asked: the `classifier`, held, and the `twin` whose gradients lead on it.

    Without a twin a model that gives scores or labels alone stays a black box. `known` is the digest that the cells'
    attacks have to name for their images to be those of the twin.
    """

    classifier: Classifier
    twin: Classifier | None = None
    known: str = ""

    @property
    def black_box(self) -> bool:
        """Whether the model gives scores or labels alone, and no twin leads."""
        return self.classifier.access is not Access.GRADIENT

    @property
    def called(self) -> str:
        """How a verdict names the twin: by its spec, and by its weights; "" where none leads."""
        return "" if self.twin is None else called(self.twin)

    def check(self, image: torch.Tensor, classes: int) -> None:
        """Raise `BadInput` where the twin gives another number of scores than the model has classes."""
        if self.twin is None:
            return
        given = self.twin.oracle().answers(image).shape[1]
        if given != classes:
            raise BadInput(
                f"The twin {self.twin.spec} has {given} classes, {self.classifier.spec} has {classes}. Give a network "
                "of the same classes."
            )

    def method(self, made: Method, cell: Cell) -> Method:
        """Return an attack of the evaluation as this model meets it: one made on the twin is one on the model."""
        same = self.twin is not None and cell.attack.options.get("surrogate_digest") == self.known
        return made.children[0] if same and not is_attack(made) and made.surrogate is not None else made


def called(twin: Classifier) -> str:
    """Return how a verdict names a twin: by its spec, and by its weights."""
    return f"{twin.spec or type(twin.module).__name__} ({twin.digest[:8]})"


@contextlib.contextmanager
def asked(bench: Bench, cells: Sequence[Cell], given: Classifier | None, loader: Loader) -> Iterator[Asked]:
    """Hold what answers for the cells' model: itself, or led by a twin where it has no gradients and a twin is at hand.

    That is the one `given`, else the surrogate that the evaluation made images on. Behind defences a twin is an
    undefended network, and leads nowhere.
    """
    classifier = bench.classifier
    alone = classifier.access is not Access.GRADIENT and not classifier.defenses and not classifier.rejects
    twin, known = _twin(bench, cells, given, loader) if alone else (None, "")
    if twin is None:
        yield Asked(classifier)
        return
    if twin.input_shape and classifier.input_shape and twin.input_shape != classifier.input_shape:
        sides = [" x ".join(map(str, one.input_shape or ())) for one in (twin, classifier)]
        raise BadInput(
            f"The twin {twin.spec} takes images of {sides[0]}, {classifier.spec} of {sides[1]}. Give a network for the "
            "same images."
        )
    module = Deployed(answer_of(classifier), twin.module)
    if classifier.outside:
        # what holds of the model holds of it with a twin: whoever asks it pays
        vars(module).update(outside=True, classes=classifier.classes_outside)
    led = dataclasses.replace(
        classifier, module=module, access=Access.GRADIENT,
        passes=LookPasses(climbing=2), runs_on=twin.runs_on,
    )  # fmt: skip
    with led.held() as held:
        yield Asked(held, twin, known)


def _twin(
    bench: Bench, cells: Sequence[Cell], given: Classifier | None, loader: Loader
) -> tuple[Classifier | None, str]:
    found, known = given, "" if given is None else given.digest
    if found is None:
        named = [cell.attack.options for cell in cells if cell.attack.options.get("surrogate")]
        models = loader.surrogate(named[0], bench.classifier) if named else ()
        found, known = (together(models), digest_of(models)) if models else (None, "")
    leads = found is not None and found.access is Access.GRADIENT and not found.rejects
    if given is not None and not leads:
        gives = "may refuse images" if given.rejects else f"gives {given.access.name.lower()} alone"
        raise BadInput(
            f"The twin {given.spec} {gives}, and leads nowhere. Name a network with gradients, such as the float "
            f"network that {bench.classifier.spec} was made of."
        )
    return (found, known) if leads else (None, "")
