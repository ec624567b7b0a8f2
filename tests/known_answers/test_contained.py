"""Sets of changes that lie in each other: what is found in the smaller one counts in the larger, for any network."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from assay.attacks import ATTACKS
from assay.attacks.block_grey import BlockGrey, BlockGreySearch
from assay.core.compose import Cascade
from assay.core.search import Keeps
from assay.core.threat import Linf, YCbCr
from tests.support.bench import case, make

EPS = 0.1
HERE = dataclasses.replace(case("linf", shape=(3, 8, 8)), threat=Linf(EPS))
IN_Y = HERE.but(threat=YCbCr(EPS))
COLOURED = [name for name, entry in ATTACKS.items() if "ycbcr" in entry.norms]


@pytest.mark.parametrize("name", COLOURED)
def test_what_changes_y_alone_counts_in_rgb(name: str) -> None:
    """So robust accuracy in Y is at least that in RGB, image by image, for the union of attacks."""
    for keeps in (Keeps.LAST, Keeps.WORST):
        found = IN_Y.run(make(name), keeps)
        assert bool(HERE.threat.allows(HERE.threat.size(found.x, HERE.x)).all())
        assert bool(HERE.threat.in_box(found.x).all())
        assert torch.equal(found.success, HERE.goal.reached(found.logits))


@pytest.mark.parametrize("block", [2, 4])
@pytest.mark.parametrize("kind", [BlockGrey, BlockGreySearch])
def test_what_changes_blocks_counts_in_y_and_in_smaller_blocks(kind, block: int) -> None:
    attack = kind(block, 10)
    for keeps in (Keeps.LAST, Keeps.WORST):
        found = HERE.run(attack, keeps)
        assert bool(IN_Y.threat.allows(IN_Y.threat.size(found.x, HERE.x)).all())
        half = block // 2
        tiles = (found.x - HERE.x).unfold(2, half, half).unfold(3, half, half).flatten(4)
        assert float((tiles.amax(4) - tiles.amin(4)).max()) < 2e-7


def test_the_union_leaves_no_more_than_any_attack_in_it() -> None:
    names = ("fgsm", "pgd", "apgd")
    here = IN_Y.but(threat=YCbCr(0.02))
    each = [here.run(make(name), Keeps.FIRST).success for name in names]
    union = here.run(Cascade(tuple(make(name) for name in names)), Keeps.FIRST).success
    assert all(bool((one <= union).all()) for one in each)
    assert 0 < int(union.sum()) < len(union)
