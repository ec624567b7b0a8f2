from __future__ import annotations

import pytest

from assay.paper.forecast import Rough, rough


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        # three networks look once at every image
        ("table-i", Rough(5000, 15_000, 0)),
        # FGSM on four images: the image with its gradient, and what comes of it
        ("table-iii-corrected", Rough(4, 8, 4)),
        # ten budgets share one gradient
        ("table-iv-as-published", Rough(5000, 55_000, 5000)),
        ("table-xiii-corrected", Rough(10_000, 90_000, 10_000)),
        # four FGSMs, and Carlini-Wagner once for all budgets
        ("table-xiv-corrected", Rough(10_000, 360_000 + 10_000 * 101, 40_000 + 10_000 * 100)),
        # 30 images that survive AutoAttack at three budgets, which in truth few do, and one look at each first
        ("table-xiv-autoattack-corrected", Rough(30, 30 * (3 * 6921 + 1), 30 * 3 * 1900)),
        # 15 patches, 5 epochs of 140 batches of 32; then the image and four placements
        ("table-vii-as-published", Rough(5000, 15 * (5 * 140 * 32 + 5 * 5000), 15 * 5 * 140 * 32)),
        # four cells, each with the image and one placement, on 500 images
        ("table-vii-corrected", Rough(500, 15 * (5 * 140 * 32 + 8 * 500), 15 * 5 * 140 * 32)),
    ],
)
def test_what_a_study_costs(name: str, cost: Rough) -> None:
    assert rough(name) == cost
