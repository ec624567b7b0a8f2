"""How small a loss a gate finds: the table of docs/gate.md, simulated.

    python scripts/gate_power.py

Two runs of one model differ in some images by chance, half of them either way. A worse model loses 3 of 100 images
besides. The gate's own numbers judge each pair of runs: its p-value of a loss, and its interval.
"""

from __future__ import annotations

import numpy as np

from assay.core.budget import parse_budget
from assay.gate.pairing import ROBUST, Change
from assay.gate.sides import Number

IMAGES, PAIRS, MARGIN, LOSS, LEVEL = 1000, 200, 0.01, 0.03, 0.05
DIFFERING = (0.0025, 0.005, 0.01, 0.025, 0.05)
_HELD = 0.6
_OF = Number("", "", "", "", "linf", "pixels", 0.1, parse_budget("0.1").written, "worst_case", "untargeted", 0, 1)


def answer(only_before: int, only_now: int) -> str:
    """Return the answer to "not worse by more than 1 point" of `IMAGES` pairs, of which so many differ."""
    both = round(_HELD * IMAGES) - only_before
    change = Change(ROBUST, _OF, "", IMAGES, both, only_before, only_now)
    if change.worse_p(MARGIN) < LEVEL:
        return "missed"
    return "met" if change.interval(1 - LEVEL)[0] > -MARGIN else "cannot tell"


def answers(differing: float, loss: float, draws: np.random.Generator) -> list[str]:
    """Return the answers to `PAIRS` pairs of runs."""
    lost = draws.binomial(IMAGES, differing / 2 + loss, PAIRS)
    won = draws.binomial(IMAGES, differing / 2, PAIRS)
    return [answer(int(one), int(two)) for one, two in zip(lost, won, strict=True)]


def table() -> str:
    """Return the table as Markdown."""
    draws = np.random.default_rng(0)
    lines = [
        "| images that differ by chance | the same model is called worse | cannot be told "
        "| a model 3 points worse is missed | and meets the gate |",
        "|---:|---:|---:|---:|---:|",
    ]
    for differing in DIFFERING:
        same, worse = answers(differing, 0.0, draws), answers(differing, LOSS, draws)
        counts = (same.count("missed"), same.count("cannot tell"), worse.count("missed"), worse.count("met"))
        lines.append(f"| {100 * differing:g} % | {' | '.join(f'{count} of {PAIRS}' for count in counts)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
