"""Strange defences: kinds that the audit's checks and attacks were not all made for, in one visible table.

Every other one of the first 28, those at even places, is for design and calibration; the others were looked at once,
when the checks stood. The checks were changed after that look, and the last lines are kinds that were made then and
looked at once: what an audit says of them is what it may be expected to say of a kind that nobody has shown it.
`scripts/strange_defenses.py` measures both halves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import nn

from assay.audit.broken.strange_answers import (
    ConstantGap,
    GapSwitch,
    HashSwitch,
    HiddenDecoy,
    HiddenRanks,
    HiddenRipples,
    HiddenSawtooth,
    Humps,
    Mean,
    RanksWithFalseSlope,
    Sharp,
    Swinging,
    TakeOver,
    Temperature,
    Wave,
)
from assay.audit.broken.strange_networks import (
    BorrowedSlope,
    Codebook,
    CorrectingCode,
    Gate,
    HalfTurnedSlope,
    HashedPattern,
    KeyedNoise,
    MiddleOfThree,
    NearestMean,
    NeighbourVotes,
    OtherActivations,
    Quantised,
    ShiftedGrid,
    ShiftVotes,
    SoftNeighbours,
    Stairs,
    StripeVotes,
    features_of,
)
from assay.models import load_model

PLAIN, TRAINED = "zoo:mnist-cnn", "zoo:mnist-pgd"


@dataclasses.dataclass(frozen=True)
class StrangeDefense:
    """A defence around one of the shipped networks of digits, and the threat under which it is asked.

    `make` puts it around the network of `around`; the module that it returns says in `climbed` what an attacker who
    knows it climbs. `norm` and `eps` are the threat. `honest` ones hide nothing.
    """

    make: Callable[[nn.Module], nn.Module]
    around: str
    norm: str
    eps: float
    summary: str
    honest: bool = False


def _plain() -> nn.Module:
    return load_model(PLAIN).module


def _trained() -> nn.Module:
    return load_model(TRAINED).module


STRANGE: dict[str, StrangeDefense] = {
    "wave": StrangeDefense(Wave, TRAINED, "linf", 0.34, "a small smooth wave on the logits, steep along 3 directions"),
    "hidden_ripples": StrangeDefense(
        HiddenRipples, TRAINED, "l2", 2.0, "triangular ripples on the logits along smooth directions, network hidden"
    ),
    "take_over": StrangeDefense(
        lambda module: TakeOver(module, _plain()), TRAINED, "linf", 0.34,
        "a second network answers, by its class alone, where the gap gets small",
    ),
    "take_over_by_means": StrangeDefense(
        lambda module: TakeOver(module, NearestMean(), 5.0), PLAIN, "l2", 2.0,
        "the nearest class mean answers where the gap gets small",
    ),
    "humps": StrangeDefense(Humps, PLAIN, "linf", 0.15, "the gap in humps on the way to the boundary"),
    "hidden_sawtooth": StrangeDefense(
        HiddenSawtooth, TRAINED, "l1", 10.0, "the gap in teeth that rise on the way to the boundary, network hidden"
    ),
    "neighbour_votes": StrangeDefense(
        NeighbourVotes, PLAIN, "linf", 0.15, "votes of the nearest training digits in the space of features"
    ),
    "codebook": StrangeDefense(Codebook, TRAINED, "l2", 2.0, "features replaced by the nearest of 200 codes"),
    "hashed_pattern": StrangeDefense(
        HashedPattern, PLAIN, "linf", 0.2, "one of eight faint patterns, by a hash of the image, is added"
    ),
    "shifted_grid": StrangeDefense(
        ShiftedGrid, PLAIN, "l1", 10.0, "grey levels on a grid whose offset depends on the image"
    ),
    "temperature": StrangeDefense(
        Temperature, PLAIN, "l2", 1.5, "a temperature that swings over orders of magnitude along a direction"
    ),
    "constant_gap": StrangeDefense(
        ConstantGap, TRAINED, "linf", 0.34, "logits scaled to a constant gap, network hidden"
    ),
    "half_turned_slope": StrangeDefense(
        HalfTurnedSlope, PLAIN, "linf", 0.2, "a backward pass that turns the gradient round on every other pixel"
    ),
    "borrowed_slope": StrangeDefense(
        BorrowedSlope, TRAINED, "l2", 2.0, "the gradient of an untrained network, both hidden"
    ),
    "quantised": StrangeDefense(
        lambda module: OtherActivations(module, Quantised(0.25)), PLAIN, "l2", 2.0,
        "activations at multiples of a quarter",
    ),
    "stairs": StrangeDefense(
        lambda module: OtherActivations(module, Stairs(0.25)), TRAINED, "linf", 0.34,
        "activations on a smooth staircase",
    ),
    "shift_votes": StrangeDefense(ShiftVotes, PLAIN, "l1", 10.0, "votes of the network on nine shifted copies"),
    "stripe_votes": StrangeDefense(
        StripeVotes, TRAINED, "linf", 0.34, "votes of the network on seven copies with a stripe black, network hidden"
    ),
    "hidden_ranks": StrangeDefense(
        HiddenRanks, PLAIN, "linf", 0.15, "the ranks of the logits, network hidden"
    ),
    "false_slope": StrangeDefense(
        RanksWithFalseSlope, TRAINED, "l2", 2.0, "the ranks of the logits with the gradient of a random linear model"
    ),
    "hidden_decoy": StrangeDefense(
        HiddenDecoy, PLAIN, "linf", 0.15, "the class alone plus a smooth function that leads elsewhere, network hidden"
    ),
    "correcting_code": StrangeDefense(
        CorrectingCode, TRAINED, "linf", 0.34, "features as bits, decoded to the nearest code word"
    ),
    "gap_switch": StrangeDefense(
        GapSwitch, PLAIN, "l1", 10.0, "flat where the network is sure, and with the slope turned round elsewhere"
    ),
    "hash_switch": StrangeDefense(
        lambda module: HashSwitch(module, _trained()), PLAIN, "l2", 1.5, "a hash says which of two networks answers"
    ),
    "ensemble": StrangeDefense(
        lambda module: Mean(module, _trained()), PLAIN, "linf", 0.1, "the mean of two networks", honest=True
    ),
    "sharp": StrangeDefense(Sharp, TRAINED, "linf", 0.3, "logits times 3", honest=True),
    "soft_neighbours": StrangeDefense(
        lambda module: SoftNeighbours(features_of(module)), PLAIN, "linf", 0.1,
        "bumps around training digits in the space of features", honest=True,
    ),
    "trained": StrangeDefense(
        lambda module: Sharp(module, 1.0), TRAINED, "l1", 7.0, "the network as it is", honest=True
    ),
    "swinging": StrangeDefense(
        Swinging, TRAINED, "l1", 10.0, "each logit plus a steep sine of itself, network in a closure"
    ),
    "middle_of_three": StrangeDefense(
        MiddleOfThree, TRAINED, "l2", 2.0, "the middle of the logits on three versions of the image"
    ),
    "keyed_noise": StrangeDefense(
        KeyedNoise, PLAIN, "linf", 0.15, "noise whose seed is a hash of the image"
    ),
    "gate": StrangeDefense(Gate, TRAINED, "linf", 0.34, "dark neighbourhoods set to black by a mask without a slope"),
}  # fmt: skip
"""By name; the place in the table decides the part that a line belongs to."""

PARTS, FIRST = ("calibration", "held out", "fresh"), 28


def part(name: str) -> str:
    """Return "calibration" for even places of the first 28, counted from 0, "held out" for odd ones, then "fresh"."""
    place = list(STRANGE).index(name)
    return PARTS[place % 2 if place < FIRST else 2]
