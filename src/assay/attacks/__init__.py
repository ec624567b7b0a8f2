"""The attacks, in one visible table: name -> how to make it, what it needs, where it comes from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from assay.attacks.alma import ALMA
from assay.attacks.apgd import apgd, apgd_targeted
from assay.attacks.attention_de import AttentionDE
from assay.attacks.autoattack import auto_attack, cascade
from assay.attacks.baselines import ContrastReduction, GaussianBlur, GaussianNoise, SaltAndPepper, UniformNoise
from assay.attacks.block_grey import BlockGrey, BlockGreySearch
from assay.attacks.boundary import Boundary
from assay.attacks.carlini_wagner import carlini_wagner
from assay.attacks.ddn import DDN
from assay.attacks.deepfool import DeepFool, SuperDeepFool
from assay.attacks.ead import EAD
from assay.attacks.estimated import nes, spsa
from assay.attacks.fab import FAB, fab_targeted
from assay.attacks.fmn import FMN
from assay.attacks.generic import GENERIC, unfit, wrapped
from assay.attacks.gradient import BIM, FFGSM, FGSM, MIFGSM, PGD, RFGSM
from assay.attacks.hinge_sum import HingeSum
from assay.attacks.hop_skip_jump import HopSkipJump
from assay.attacks.jsma import JSMA
from assay.attacks.lbfgs import LBFGS
from assay.attacks.one_pixel import OnePixel
from assay.attacks.options import Option, options_of_maker, written_option
from assay.attacks.patch_search import PatchSearch
from assay.attacks.pdpgd import PDPGD
from assay.attacks.sigma_zero import SigmaZero
from assay.attacks.simba import simba
from assay.attacks.spatial import Spatial
from assay.attacks.square import Square
from assay.attacks.transfer import di_fgsm, si_fgsm, ti_fgsm, vmi_fgsm
from assay.core.compose import Method
from assay.core.errors import BadInput, did_you_mean
from assay.core.oracle import Access
from assay.core.search import Attack

_BALLS = ("linf", "l2", "l1")
_CLIMBED = (*_BALLS, "ycbcr")

GOALS = ("untargeted", "targeted", "out-of-top")
FAMILIES = ("gradient", "minimum norm", "score", "label", "transfer", "composition", "baseline")


@dataclasses.dataclass(frozen=True)
class AttackEntry:
    """A line of the table. `version` is raised whenever the attack's results change: it is part of a cell's digest.

    `make` is a class of attacks, or a function that returns a composition; its annotated arguments, all with defaults,
    are the options. `goals` are those that the attack can serve; `paper_id` is the paper's arXiv number. A `file` holds
    what such an attack adds to an image: `make` needs one, and the size of the images. `more` are options that are
    read, and not given to `make`.
    """

    make: Callable[..., Method]
    version: int
    norms: tuple[str, ...]
    summary: str
    paper: str
    family: str
    goals: tuple[str, ...] = GOALS
    paper_id: str = ""
    file: bool = False
    more: Mapping[str, Option] = dataclasses.field(default_factory=dict)

    @property
    def access(self) -> Access:
        """What the attack needs to see of the model."""
        return Access.LABELS if self.file else self.make().access

    @functools.cached_property
    def options(self) -> Mapping[str, Option]:
        """The attack's own options."""
        return options_of_maker(self.make)

    @functools.cached_property
    def general(self) -> Mapping[str, Option]:
        """The options that it takes besides, with the values at which they change nothing."""
        if self.file:
            return self.more
        attack, own = self.make(), self.options
        fitting = {name: one for name, one in GENERIC.items() if name not in own and not unfit(name, attack)}
        return {**fitting, **self.more}

    @functools.cached_property
    def all_options(self) -> Mapping[str, Option]:
        """Own and general options, in the order in which they are written."""
        return {**self.options, **self.general}

    def read(self, name: str, option: str, value: Any) -> Any:
        """Return a written value as the attack takes it, which is called `name`.

        Raises `BadInput` for an unknown option, and for a value that it cannot have.
        """
        known = self.all_options
        if option in known:
            return known[option].read(f"Attack {name!r}: {option}", value)
        if option == "keeps":
            told = "what is kept follows from the study's question (as_attacked or worst_case)."
            raise BadInput(f"Attack {name!r}: keeps is {value!r}; {told}")
        if option in GENERIC and not self.file:
            # without the option that it belongs to, it changes nothing
            if option == "averaged_sigma" or value == GENERIC[option].default:
                return GENERIC[option].read(f"Attack {name!r}: {option}", value)
            raise BadInput(f"Attack {name!r} {unfit(option, self.make())}")
        near = did_you_mean(option, known)
        raise BadInput(f"Attack {name!r} has no option {option!r}.{near} Its options: {', '.join(known)}.")

    def build(self, name: str, options: Mapping[str, Any], **bound: Any) -> Method:
        """Return the attack with `options` as they are written; `bound` are arguments of `make` that are none.

        Raises `BadInput` for options that it cannot take, each for itself or together.
        """
        given = {option: self.read(name, option, value) for option, value in options.items()}
        own = {option: given.pop(option) for option in self.options if option in given}
        attack = self.make(**own, **bound)
        general = {option: value for option, value in given.items() if option in GENERIC}
        return wrapped(attack, **general) if general else attack


ATTACKS: Mapping[str, AttackEntry] = {
    "fgsm": AttackEntry(
        FGSM, 1, ("linf", "ycbcr"), "one step along the sign of the gradient", "Goodfellow et al. 2015", "gradient",
        paper_id="1412.6572",
    ),
    "fgm": AttackEntry(
        FGSM, 1, ("l2", "l1"), "one step along the gradient, of a given length", "Goodfellow et al. 2015", "gradient",
        paper_id="1412.6572",
    ),
    "r-fgsm": AttackEntry(
        RFGSM, 1, ("linf", "ycbcr"), "FGSM after a random step", "Tramer et al. 2018", "gradient",
        paper_id="1705.07204",
    ),
    "ffgsm": AttackEntry(
        FFGSM, 1, ("linf", "ycbcr"), "FGSM from a uniform start, overlong step", "Wong et al. 2020", "gradient",
        paper_id="2001.03994",
    ),
    "bim": AttackEntry(
        BIM, 1, _CLIMBED, "FGSM in small steps", "Kurakin et al. 2017", "gradient", paper_id="1607.02533",
    ),
    "pgd": AttackEntry(
        PGD, 1, _CLIMBED, "projected gradient descent from random starts", "Madry et al. 2018", "gradient",
        paper_id="1706.06083",
    ),
    "mi-fgsm": AttackEntry(
        MIFGSM, 2, _CLIMBED, "iterated FGSM with momentum", "Dong et al. 2018", "transfer", paper_id="1710.06081",
    ),
    "ni-fgsm": AttackEntry(
        functools.partial(MIFGSM, lookahead=True), 2, _BALLS, "momentum with a look ahead", "Lin et al. 2020",
        "transfer", paper_id="1908.06281",
    ),
    "di-fgsm": AttackEntry(
        di_fgsm, 1, _BALLS, "momentum at randomly resized images", "Xie et al. 2019", "transfer", paper_id="1803.06978",
    ),
    "ti-fgsm": AttackEntry(
        ti_fgsm, 1, _BALLS, "momentum of gradients smoothed in space", "Dong et al. 2019", "transfer",
        paper_id="1904.02884",
    ),
    "si-fgsm": AttackEntry(
        si_fgsm, 1, _BALLS, "momentum with a look ahead at darker copies", "Lin et al. 2020", "transfer",
        paper_id="1908.06281",
    ),
    "vmi-fgsm": AttackEntry(
        vmi_fgsm, 1, _BALLS, "momentum corrected by the gradients around", "Wang and He 2021", "transfer",
        paper_id="2103.15571",
    ),
    "apgd": AttackEntry(
        apgd, 1, _CLIMBED, "PGD that finds its own step size", "Croce and Hein 2020", "gradient", paper_id="2003.01690",
    ),
    "apgd-t": AttackEntry(
        apgd_targeted, 1, _CLIMBED, "APGD towards each of the likeliest classes", "Croce and Hein 2020", "gradient",
        ("untargeted",), paper_id="2003.01690",
    ),
    "hinge-sum": AttackEntry(
        HingeSum, 1, _BALLS, "hinged margin and detector score, searching for their weight", "Xu et al. 2018",
        "gradient", paper_id="1704.01155",
    ),
    "block-grey": AttackEntry(
        BlockGrey, 1, ("linf",), "PGD on one shade of grey per block, the same for all channels",
        "this project's reading", "gradient",
    ),
    "patch-search": AttackEntry(
        PatchSearch, 1, ("patch",), "PGD inside squares, at the places where the gradient is largest first",
        "cf. Brown et al. 2017", "gradient", paper_id="1712.09665",
    ),
    "deepfool": AttackEntry(
        DeepFool, 1, _BALLS, "onto the nearest linearised boundary", "Moosavi-Dezfooli et al. 2016", "minimum norm",
        paper_id="1511.04599",
    ),
    "superdeepfool": AttackEntry(
        SuperDeepFool, 2, _BALLS, "DeepFool, then along the boundary's normal", "Abdollahpoor et al. 2024",
        "minimum norm", paper_id="2303.12481",
    ),
    "fab": AttackEntry(
        FAB, 2, _BALLS, "along the boundary towards the image", "Croce and Hein 2020b", "minimum norm",
        paper_id="1907.02044",
    ),
    "fab-t": AttackEntry(
        fab_targeted, 2, _BALLS, "FAB towards each of the likeliest classes", "Croce and Hein 2020b", "minimum norm",
        ("untargeted",), paper_id="1907.02044",
    ),
    "ddn": AttackEntry(
        DDN, 2, ("l2",), "direction and norm decoupled", "Rony et al. 2019", "minimum norm", paper_id="1811.09600",
    ),
    "fmn": AttackEntry(
        FMN, 2, (*_BALLS, "l0"), "projected steps into a ball that adapts", "Pintor et al. 2021", "minimum norm",
        paper_id="2102.12827",
    ),
    "pdpgd": AttackEntry(
        PDPGD, 2, _BALLS, "primal-dual descent, the norm by its proximal operator", "Matyasko et al. 2021",
        "minimum norm", paper_id="2106.01538",
    ),
    "alma": AttackEntry(
        ALMA, 2, ("l2", "l1"), "distance under a constraint, augmented Lagrangian", "Rony et al. 2021", "minimum norm",
        paper_id="2011.11857",
    ),
    "sigma-zero": AttackEntry(
        SigmaZero, 1, ("l0",), "a smooth count of values, lowered", "Cina et al. 2024", "minimum norm",
        paper_id="2402.01879",
    ),
    "carlini-wagner": AttackEntry(
        carlini_wagner, 1, ("l2", "linf", "l0"), "descent on size and hinged margin, searching for their weight",
        "Carlini and Wagner 2017", "minimum norm", paper_id="1608.04644",
    ),
    "ead": AttackEntry(
        EAD, 1, ("l1", "l2"), "elastic net: small and few changes at once", "Chen et al. 2018", "minimum norm",
        paper_id="1709.04114",
    ),
    "lbfgs": AttackEntry(
        LBFGS, 2, ("l2",), "box-constrained quasi-Newton descent", "Szegedy et al. 2014", "minimum norm",
        paper_id="1312.6199",
    ),
    "jsma": AttackEntry(
        JSMA, 1, ("l0",), "pairs of values by the Jacobian's saliency map", "Papernot et al. 2016", "minimum norm",
        paper_id="1511.07528",
    ),
    "square": AttackEntry(
        Square, 1, _BALLS, "random search with square-shaped changes", "Andriushchenko et al. 2020", "score",
        paper_id="1912.00049",
    ),
    "block-grey-search": AttackEntry(
        BlockGreySearch, 1, ("linf",), "random search with windows of grey blocks", "this project's reading", "score",
    ),
    "nes": AttackEntry(
        nes, 1, ("linf", "l2"), "gradient steps, the gradient estimated by normal probes", "Ilyas et al. 2018", "score",
        paper_id="1804.08598",
    ),
    "spsa": AttackEntry(
        spsa, 1, ("linf", "l2"), "Adam, the gradient estimated by probes of signs", "Uesato et al. 2018", "score",
        paper_id="1802.05666",
    ),
    "simba": AttackEntry(
        simba, 1, ("linf", "l2"), "one basis direction after the other, forth or back", "Guo et al. 2019", "score",
        paper_id="1905.07121",
    ),
    "one-pixel": AttackEntry(
        OnePixel, 1, ("l0",), "differential evolution of one or a few pixels", "Su et al. 2019", "score",
        paper_id="1710.08864",
    ),
    "attention-de": AttackEntry(
        AttentionDE, 1, ("l0",), "differential evolution of squares in the salient places", "this project's reading",
        "score",
    ),
    "hop-skip-jump": AttackEntry(
        HopSkipJump, 1, ("l2", "linf"), "along the boundary, its slope from labels", "Chen et al. 2020", "label",
        paper_id="1904.02144",
    ),
    "boundary": AttackEntry(
        Boundary, 1, ("l2",), "a random walk along the boundary", "Brendel et al. 2018", "label", paper_id="1712.04248",
    ),
    "autoattack": AttackEntry(
        auto_attack, 2, _BALLS, "APGD, targeted APGD, targeted FAB and Square", "Croce and Hein 2020", "composition",
        ("untargeted",), paper_id="2003.01690",
    ),
    "cascade": AttackEntry(
        cascade, 6, _BALLS, "short attacks one after the other, in an eighth of AutoAttack's passes", "this project",
        "composition", ("untargeted",),
    ),
    "spatial": AttackEntry(
        Spatial, 1, (*_BALLS, "l0"), "rotations and translations; give a budget that allows them",
        "Engstrom et al. 2019", "label", paper_id="1712.02779",
    ),
    "gaussian-blur": AttackEntry(GaussianBlur, 1, _BALLS, "blur until the model errs", "baseline", "baseline"),
    "contrast-reduction": AttackEntry(
        ContrastReduction, 1, _BALLS, "fade to grey until the model errs", "baseline", "baseline",
    ),
    "salt-and-pepper": AttackEntry(
        SaltAndPepper, 1, (*_BALLS, "l0"), "black and white values until the model errs", "baseline", "baseline",
    ),
    "uniform-noise": AttackEntry(
        UniformNoise, 1, (*_CLIMBED, "l0"), "a random point of the ball", "baseline", "baseline",
    ),
    "gaussian-noise": AttackEntry(
        GaussianNoise, 1, (*_BALLS, "l0"), "a normal random point, projected", "baseline", "baseline",
    ),
}  # fmt: skip


def options_of(attack: Attack) -> dict[str, Any]:
    """Return an attack's settings by name, as plain values where they have a written form."""
    fields = dataclasses.fields(attack)  # type: ignore[arg-type]  # every attack is a dataclass
    return {field.name: written_option(getattr(attack, field.name)) for field in fields}


def build(name: str, **options: Any) -> Method:
    """Return the attack called `name` with the options given, its own and those of `GENERIC`.

    `restarts` wraps it in that many random starts; `smallest` gives the smallest budget at which it succeeds, by so
    many rounds of bisection. Raises `BadInput` for an unknown name or option, or a value of the wrong kind.
    """
    entry = ATTACKS.get(name)
    if entry is None:
        raise BadInput(f"Unknown attack {name!r}.{did_you_mean(name, ATTACKS)}  (assay attacks lists them)")
    return entry.build(name, options)


def fitting(access: Access, norm: str | None = None) -> tuple[str, ...]:
    """Return the attacks that need no more than `access` of a model, in any norm or in one."""
    return tuple(
        name for name, entry in ATTACKS.items() if entry.access <= access and (norm is None or norm in entry.norms)
    )
