"""How a contender of each library is called: `(model, x, y, call, options) -> x_adv`, in the library's own words.

The libraries live in `.venv-peers` only and are imported when asked for.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import art_classifier, peer_module
from benchmarks.strength.board import Contender
from benchmarks.strength.counted import Counted
from benchmarks.strength.lbfgs import scipy_lbfgs

Options = Mapping[str, Any]
Library = Callable[[Counted, Tensor, Tensor, str, Options], Tensor]

PACKAGES = {
    "pyautoattack": "pyautoattack",
    "adv-lib": "adv-lib",
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "art": "adversarial-robustness-toolbox",
    "scipy": "scipy",
}

MODULES = {
    "pyautoattack": "pyautoattack",
    "adv-lib": "adv_lib.attacks",
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "art": "art.attacks.evasion",
    "scipy": "scipy.optimize",
}


def version_of(library: str) -> str:
    """Return the installed version of a library."""
    return version(PACKAGES[library])


def warm(library: str) -> None:
    """Import a library, so that the seconds are the attack's alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer_module(MODULES[library])


def pyautoattack(model: Counted, x: Tensor, y: Tensor, call: str, options: Options) -> Tensor:
    """Run the authors' AutoAttack, or one of its parts."""
    package = peer_module("pyautoattack")
    if call in ("standard", "plus", "rand"):
        whole = package.AutoAttack(model, version=call, **options)
        images: Tensor = whole.run_standard_evaluation(x, y, batch_size=len(x))[0]
        return images
    holder, name = {
        "apgd": ("autopgd_base", "APGDAttack"),
        "apgd-t": ("autopgd_base", "APGDAttack_targeted"),
        "fab": ("fab_pt", "FABAttack_PT"),
        "square": ("square", "SquareAttack"),
    }[call]
    found: Tensor = getattr(peer_module(f"pyautoattack.{holder}"), name)(model, **options).perturb(x, y)
    return found


def adv_lib(model: Counted, x: Tensor, y: Tensor, call: str, options: Options) -> Tensor:
    """Run a function of adv-lib."""
    found: Tensor = getattr(peer_module("adv_lib.attacks"), call)(model, x, y, **options)
    return found


def foolbox(model: Counted, x: Tensor, y: Tensor, call: str, options: Options) -> Tensor:
    """Run a class of Foolbox; the option `eps` is the budget of a fixed-budget attack."""
    package = peer_module("foolbox")
    wrapped = package.PyTorchModel(model, bounds=(0, 1), device="cpu")
    settings = {key: value for key, value in options.items() if key != "eps"}
    attack = getattr(package.attacks, call)(**settings)
    found: Tensor = attack.run(wrapped, x, y, **({"epsilon": options["eps"]} if "eps" in options else {}))
    return found


def torchattacks(model: Counted, x: Tensor, y: Tensor, call: str, options: Options) -> Tensor:
    """Run a class of torchattacks; the option `targeted` sends it towards the likeliest wrong class."""
    settings = dict(options)
    targeted = settings.pop("targeted", False)
    attack = getattr(peer_module("torchattacks"), call)(model, **settings)
    if targeted:
        attack.set_mode_targeted_by_function(model.likeliest_wrong)
    found: Tensor = attack(x, y)
    return found


def art(model: Counted, x: Tensor, y: Tensor, call: str, options: Options) -> Tensor:
    """Run a class of the Adversarial Robustness Toolbox; the option `norm` may be "inf".

    An attack that only knows targets, JSMA, is given the likeliest wrong classes.
    """
    settings = {key: math.inf if value == "inf" else value for key, value in options.items()}
    model.as_probabilities = bool(settings.pop("as_probabilities", False))
    attack = getattr(peer_module("art.attacks.evasion"), call)(art_classifier(model), verbose=False, **settings)
    wanted = model.likeliest_wrong(x, y) if call == "SaliencyMapMethod" else y
    labels = torch.nn.functional.one_hot(wanted, model.classes).numpy()
    found = torch.from_numpy(attack.generate(x.numpy(), labels)).to(x.dtype)
    model.as_probabilities = False
    return found


def scipy(model: Counted, x: Tensor, y: Tensor, call: str, options: Options) -> Tensor:
    """Run an attack whose optimiser is scipy's; `call` names it."""
    return {"lbfgs": scipy_lbfgs}[call](model, x, y, **options)


LIBRARIES: dict[str, Library] = {
    "pyautoattack": pyautoattack,
    "adv-lib": adv_lib,
    "foolbox": foolbox,
    "torchattacks": torchattacks,
    "art": art,
    "scipy": scipy,
}


def attacked(model: Counted, x: Tensor, y: Tensor, contender: Contender) -> Tensor:
    """Return the images a reference gives for `x`; warnings of old code are left unsaid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LIBRARIES[contender.library](model, x.clone(), y, contender.call, contender.options).detach()
