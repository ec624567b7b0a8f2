from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from assay.core.errors import AssayError
from assay.paper.choices import Choices
from assay.paper.patches import patch_orders, success, train_patches
from assay.paper.runs import TableRun


def run(mode: str, **chosen: object) -> TableRun:
    choices = Choices(Path("out"), Path("/val"), **chosen)  # type: ignore[arg-type]
    return TableRun(f"table-ix-{mode.replace('_', '-')}", ("IX", "X"), (mode,), choices)


@pytest.mark.parametrize("mode", ["as_published", "corrected"])
def test_fifteen_patches_a_network_trained_on_what_is_not_held_out(mode: str) -> None:
    orders = patch_orders(run(mode))
    assert [(one.target, one.side) for one in orders[:4]] == [
        ("saltshaker", 32), ("saltshaker", 48), ("saltshaker", 64), ("soap dispenser", 32),
    ]  # fmt: skip
    assert len(orders) == len({one.path for one in orders}) == 15
    assert {one.model for one in orders} == {"torchvision:alexnet@IMAGENET1K_V1"}
    assert orders[0].data == {"source": "imagenet:/val", "per_class": 5, "part": "rest 500"}
    assert {one.published for one in orders} == {mode == "as_published"}
    assert orders[-1].path == Path(f"out/patches/{mode}/alexnet-toaster-64.safetensors")
    assert run(mode).patches == tuple(one.path for one in orders)


def test_the_stand_ins_patches_have_their_own_pictures() -> None:
    choices = Choices(Path("out"), stand_in=True)
    one = patch_orders(TableRun("table-ix-corrected", ("IX",), ("corrected",), choices))[0]
    assert (one.model, one.data) == ("efficientnet-lite1", {"source": "samples", "part": "rest 5"})


def test_what_cannot_be_trained_yet_is_said(tmp_path: Path) -> None:
    orders = patch_orders(run("corrected"))
    with pytest.raises(AssayError, match=r"15 patches are not there.*cannot train patches"):
        train_patches(orders)


def test_success_counts_images_of_other_classes_with_the_target_in_front() -> None:
    records = pa.table({
        "label": [1, 2, 3, 4, 859, 5],
        "target_rank": [1, 5, 6, 2, 1, None],
        "status": ["broken", "survived", "clean_wrong", "survived", "broken", "error"],
    })  # fmt: skip
    assert success(records, 859, 1) == (1, 4)
    assert success(records, 859, 5) == (3, 4)
    assert success(records.slice(0, 0), 859, 5) == (0, 0)
