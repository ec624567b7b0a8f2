"""What the attack `adaptive` is made of, for a model behind defences."""

from __future__ import annotations

from collections.abc import Iterator

from assay.attacks import ATTACKS
from assay.attacks.generic import unfit
from assay.core.adaptive import Adaptive
from assay.core.compose import Composition, Method, is_attack
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.evaluation.study.attacks import ADAPTIVE, method_of, parse_attack
from assay.models import Classifier

NO_DETECTOR = (
    "adaptive is for models that refuse images, and {model} refuses none. Leave the option out, or put a detector "
    "around the model."
)
_KNOWING = (
    "pgd:steps=100,objective=margin,adaptive=selective",
    "pgd:steps=100,objective=margin,adaptive=orthogonal",
    "hinge-sum",
)
_LOOKS = 10
_WITHOUT_GRADIENTS = {Access.SCORES: "square", Access.LABELS: "hop-skip-jump"}


def parts_for(model: Classifier) -> str:
    """Return the attacks, joined by +, that `adaptive` is made of against a model."""
    if model.access is not Access.GRADIENT:
        return _WITHOUT_GRADIENTS[model.access]
    parts = ["cascade"]
    for step in model.defenses:
        parts += step.entry.adaptive
    if model.rejects:
        parts += _KNOWING
    # a model that shows its network many copies in one look gives means already
    looks = max(1, _LOOKS // model.passes.forwards) if model.random else 1
    return "+".join(dict.fromkeys(_with_looks(part, looks) for part in parts))


def _with_looks(part: str, looks: int) -> str:
    given = parse_attack(part)
    name = given.pop("attack")
    if looks == 1 or "eot" in given or unfit("eot", ATTACKS[name].build(name, given)):
        return part
    return f"{part}{',' if ':' in part else ':'}eot={looks}"


def adaptive(model: Classifier) -> Method:
    """Return the attacks, one after the other, that know what stands around `model`: `cascade` where nothing does.

    What a study calls `adaptive`, for `assay.attack` and `assay.sweep`.
    """
    if not isinstance(model, Classifier):
        raise BadInput(f"model is a {type(model).__name__}, expected a Classifier: assay.load_model(module).")
    return method_of(ADAPTIVE, {"parts": parts_for(model)}, (1, 1))


def check_detector(method: Method, model: Classifier) -> None:
    """Raise `BadInput` for a method that knows a detector, against a model that refuses nothing."""
    if not model.rejects and any(isinstance(lens, Adaptive) for lens in _lenses(method)):
        raise BadInput(NO_DETECTOR.format(model=model.spec or "this model"))


def _lenses(method: Method) -> Iterator[object]:
    if is_attack(method):
        return
    assert isinstance(method, Composition)
    yield method.lens
    for child in method.children:
        yield from _lenses(child)
