"""A classifier behind a chain of defences."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from assay.core.errors import BadInput
from assay.core.held import set_mode
from assay.core.oracle import ONE_PASS, Access, LookPasses
from assay.defenses.chain import Step, build, detects, fitted_for, parse_chain, passes_of, random_chain, written_chain
from assay.defenses.fitted import Fitted
from assay.defenses.layers import Refusing
from assay.files import cache_dir
from assay.models.classifier import Classifier, Reset, digest_of


def defended(classifier: Classifier, chain: str, fitted: Fitted | None = None) -> Classifier:
    """Return `classifier` behind the defences of `chain` (`median:size=2|jpeg`), which an image meets from the left.

    `fitted` is what a fit found; without it, the file that an option of the chain names is read, or the one that
    `assay defend fit` has left in the cache. A classifier that is defended already stands behind the new ones. Its
    parameters are shared. Raises `BadInput` for an unknown defence or option, for one that does not fit the model, and
    where something has to be fitted first.
    """
    steps = (*parse_chain(chain), *classifier.defenses)
    bare = undefended(classifier)
    bare = bare if bare.digest else dataclasses.replace(bare, digest=digest_of(bare))
    for step in steps:
        check_step(step, bare)
    _check_order(steps, bare)
    fitted = fitted or fitted_for(steps, bare.digest, usual_file(bare.digest, steps))
    module = build(steps, Refusing(bare.module) if bare.rejects else bare.module, fitted)
    module = module.to(bare.module_device)
    set_mode(module, getattr(bare.module, "training", False))
    passes = passes_of(steps, shape_of(bare))
    found = dataclasses.replace(
        bare,
        module=module,
        spec=f"{bare.spec}|{written_chain(steps)}",
        # that of the undefended network says nothing about this one
        published_accuracy=None,
        rejects=bare.rejects or detects(steps),
        passes=passes,
        random=bare.random or random_chain(steps),
        defenses=steps,
        fitted=fitted,
        undefended=bare,
        reset=_reset(bare, steps, passes),
    )
    return dataclasses.replace(found, digest=digest_of(found))


def undefended(classifier: Classifier) -> Classifier:
    """Return the classifier without the defences that stand around it."""
    return classifier.undefended or classifier


def usual_file(network: str, steps: tuple[Step, ...]) -> Path:
    """Return where the fit of a chain around the network of digest `network` is kept, unless a file is named."""
    import hashlib

    told = f"{network} {written_chain(steps, file=False)}"
    return cache_dir() / "defenses" / f"{hashlib.blake2b(told.encode(), digest_size=12).hexdigest()}.safetensors"


def shape_of(bare: Classifier) -> tuple[int, ...] | None:
    """Return the shape of a model's images as far as it is known: (C, H, W), (1,) for grey ones, or None."""
    return bare.input_shape or ((1,) if bare.channels == 1 else None)


def check_step(step: Step, bare: Classifier) -> None:
    """Raise `BadInput` for a defence that does not fit the images or the answers of a model."""
    entry, shape = step.entry, bare.input_shape
    channels = bare.channels if shape is None else shape[0]
    if entry.channels and channels is not None and channels not in entry.channels:
        takes = " or ".join(map(str, entry.channels))
        raise BadInput(f"{step.name} is for images of {takes} channels, and the model's have {channels}. Leave it out.")
    if shape is not None and min(shape[1:]) < entry.least_side:
        raise BadInput(
            f"{step.name} is for images of at least {entry.least_side} pixels a side, and the model's have "
            f"{shape[1]} x {shape[2]}. Leave it out."
        )
    if entry.detects and bare.access is Access.LABELS:
        raise BadInput(f"{step.name} reads the scores of a model, and {bare.spec or 'this one'} gives labels alone.")


def _check_order(steps: tuple[Step, ...], bare: Classifier) -> None:
    for at, step in enumerate(steps):
        if not step.entry.outermost:
            continue
        if at:
            raise BadInput(
                f"{step.name} stands behind {steps[0].name}, and must be the first of a chain: what another step makes "
                "of an image spreads a patch beyond its pixels, and a mask no longer hides it. Write it first."
            )
        inside = steps[1:]
        if bare.rejects or detects(inside):
            raise BadInput(f"{step.name} votes on classes, and what is inside may refuse an image. Leave that out.")
        if bare.random or random_chain(inside):
            raise BadInput(
                f"{step.name} compares answers to the same image, and what is inside draws numbers. Leave that out."
            )


def _reset(bare: Classifier, steps: tuple[Step, ...], passes: LookPasses) -> Reset | None:
    if bare.reset is None:
        return None
    if passes != ONE_PASS:
        raise BadInput(
            "The model keeps a state that is reset before every look, and the chain "
            f"{written_chain(steps)} asks it {passes.forwards} times in one. Leave the reset to the module itself."
        )
    own = bare.reset if isinstance(bare.reset, Reset) else Reset(bare.reset, bare.module)
    around = ["inner"] * len(steps) + ["network"] * bare.rejects
    return dataclasses.replace(own, path=".".join([*around, own.path]).rstrip("."))
