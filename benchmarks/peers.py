"""Other libraries' gradient attacks behind one signature, called as their documentation shows.

`tests/peers` proves that these calls compute what Assay computes, and the benchmarks time the very same calls. The
libraries live in `.venv-peers` only and are imported when asked for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

Attack = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An untargeted attack in Linf with box [0, 1]: `kind` is fgsm, bim or pgd; `eps` and `size` are in pixels."""

    kind: str
    eps: float
    steps: int = 1
    size: float = 0.0
    random_start: bool = False


@dataclasses.dataclass(frozen=True)
class PatchTask:
    """A square patch of `size` pixels for the class `target`: `steps` passes over the images, `batch` of them at once.

    `rate` is Adam's, in pixels.
    """

    size: int
    target: int
    steps: int
    batch: int
    rate: float


def foolbox_attack(model: nn.Module, recipe: Recipe) -> Attack:
    """Return Foolbox's version of the recipe as `(x, y) -> x_adv`."""
    with _old_imports():
        import foolbox

    attacks = foolbox.attacks
    iterated = {"steps": recipe.steps, "abs_stepsize": recipe.size, "random_start": recipe.random_start}
    attack = {
        "fgsm": lambda: attacks.LinfFastGradientAttack(),
        "bim": lambda: attacks.LinfBasicIterativeAttack(**iterated),
        "pgd": lambda: attacks.LinfPGD(**iterated),
    }[recipe.kind]()
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    return lambda x, y: attack.run(wrapped, x, y, epsilon=recipe.eps)


def torchattacks_attack(model: nn.Module, recipe: Recipe) -> Attack:
    """Return torchattacks' version of the recipe as `(x, y) -> x_adv`."""
    with _old_imports():
        import torchattacks

    iterated = {"eps": recipe.eps, "alpha": recipe.size, "steps": recipe.steps}
    attack: Attack = {
        "fgsm": lambda: torchattacks.FGSM(model, eps=recipe.eps),
        "bim": lambda: torchattacks.BIM(model, **iterated),
        "pgd": lambda: torchattacks.PGD(model, **iterated, random_start=recipe.random_start),
    }[recipe.kind]()
    return attack


def art_attack(model: nn.Module, recipe: Recipe) -> Attack:
    """Return the Adversarial Robustness Toolbox's version of the recipe as `(x, y) -> x_adv`.

    `model` tells its input shape and its number of classes as `input_shape` and `classes`.
    """
    with _old_imports():
        from art.attacks import evasion

    classifier = art_classifier(model)
    iterated = {"eps": recipe.eps, "eps_step": recipe.size, "max_iter": recipe.steps, "batch_size": BATCH}
    attack = {
        "fgsm": lambda: evasion.FastGradientMethod(classifier, eps=recipe.eps, batch_size=BATCH),
        "bim": lambda: evasion.BasicIterativeMethod(classifier, **iterated, verbose=False),
        "pgd": lambda: evasion.ProjectedGradientDescent(
            classifier, **iterated, num_random_init=int(recipe.random_start), verbose=False
        ),
    }[recipe.kind]()
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def art_patch(model: nn.Module, task: PatchTask) -> Callable[[Tensor], Tensor]:
    """Return the Adversarial Robustness Toolbox's training of a patch as `images -> pixels [C, size, size]`.

    The patch is neither turned nor scaled, which the toolbox does by default. `model` is as in `art_attack`.
    """
    with _old_imports():
        from art.attacks.evasion import AdversarialPatchPyTorch

    shape: Any = model.input_shape
    # the toolbox draws a patch as large as the image and shrinks it by the scale
    scale = task.size / shape[-1]
    attack = AdversarialPatchPyTorch(
        art_classifier(model),
        rotation_max=0.0,
        scale_min=scale,
        scale_max=scale,
        learning_rate=task.rate,
        max_iter=task.steps,
        batch_size=task.batch,
        patch_shape=(shape[0], task.size, task.size),
        patch_type="square",
        targeted=True,
        verbose=False,
    )

    def run(images: Tensor) -> Tensor:
        pixels, _ = attack.generate(images.numpy(), torch.full((len(images),), task.target).numpy())
        return torch.from_numpy(pixels).float()

    return run


def art_classifier(model: nn.Module) -> Any:
    """Return ART's wrapper of a model that tells its input shape and its number of classes."""
    with _old_imports():
        from art.estimators.classification import PyTorchClassifier

    shape: Any = model.input_shape
    return PyTorchClassifier(
        model, loss=nn.CrossEntropyLoss(), input_shape=shape, nb_classes=model.classes, clip_values=(0.0, 1.0)
    )


@contextlib.contextmanager
def _old_imports() -> Iterator[None]:
    # the peers import names that newer numpy and scipy deprecate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def peer_module(name: str) -> Any:
    """Return a module of a peer (`foolbox`, `adv_lib.attacks`, ...), with stand-ins for what it needs in vain.

    adv-lib imports visdom, a web server, for a logger that its attacks leave off, and `distutils.version`, which
    Python 3.12 dropped, to read torch's version.
    """
    with _old_imports():
        if _lacks("visdom"):
            sys.modules["visdom"] = types.ModuleType("visdom")
        if _lacks("distutils"):
            standing_in = types.ModuleType("distutils.version")
            standing_in.__dict__["LooseVersion"] = import_module("packaging.version").parse
            sys.modules |= {"distutils": types.ModuleType("distutils"), "distutils.version": standing_in}
        return import_module(name)


def _lacks(name: str) -> bool:
    return name not in sys.modules and find_spec(name) is None


# ART splits its input itself, into batches of 32 unless told otherwise
BATCH = 128

PEERS: dict[str, Callable[[nn.Module, Recipe], Attack]] = {
    "foolbox": foolbox_attack,
    "torchattacks": torchattacks_attack,
    "art": art_attack,
}
