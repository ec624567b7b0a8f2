from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest
from torch import nn

from assay.core.errors import BadInput
from assay.models import load_model
from assay.models.imagenet import imagenet_classes
from assay.paper.choices import Choices
from assay.paper.patches import PatchOrder, interval, patch_orders, recipe_of, success, train_patches
from assay.paper.runs import TableRun
from assay.patches import Patch
from assay.statistics import clustered, wilson
from tests.support.tiny import write_model, write_pictures


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


def test_the_paper_s_recipe_and_that_of_the_stand_in() -> None:
    model = load_model(nn.Sequential(nn.Flatten(), nn.Linear(3, 1000)))
    order = patch_orders(run("as_published"))[1]
    recipe = recipe_of(order, model, 4500)
    assert (recipe.epochs, recipe.batch, recipe.optimizer, recipe.rate, recipe.momentum) == (5, 32, "sgd", 0.1, 0.8)
    assert (
        recipe.published and recipe.target == imagenet_classes().index("saltshaker") and recipe.mask.shape == (48, 48)
    )
    assert recipe.start is None and not recipe.transforms.bends
    few = recipe_of(dataclasses.replace(order, stand_in=True, published=False), model, 15)
    assert (few.batch, few.optimizer, few.published) == (15, "adam", False)


def test_patches_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path)
    source = write_pictures(tmp_path / "pictures", 8)
    order = PatchOrder(
        tmp_path / "p" / "one.safetensors", f"{tmp_path}/tiny_model.py:factory", {"source": source, "part": "rest 2"},
        "1", 3, True,
    )  # fmt: skip
    heard: list[tuple[int, int, int]] = []
    train_patches([order], "cpu", lambda number, many, now: heard.append((number, many, now.epoch)))
    assert heard == [(0, 1, epoch) for epoch in range(1, 6)]
    patch = Patch.load(order.path)
    assert (patch.target, patch.size, patch.facts["published"]) == (1, "3 x 3", "True")
    assert "6 images" in patch.facts["data"] and order.path.with_suffix(".png").is_file()
    monkeypatch.setattr("assay.patches.train_patch", None)
    train_patches([order])
    (tmp_path / "tiny_model.py").write_text((tmp_path / "tiny_model.py").read_text() + "# edited\n")
    with pytest.raises(BadInput, match=r"was trained on other weights than those asked for now\. Use another --out"):
        train_patches([order])
    write_model(tmp_path)
    with pytest.raises(BadInput, match="other pictures"):
        train_patches([dataclasses.replace(order, data={"source": source, "part": "rest 3"})])
    train_patches([])


def test_success_counts_images_of_other_classes_with_the_target_in_front() -> None:
    records = pa.table({
        "label": [1, 2, 3, 4, 859, 5],
        "target_rank": [1, 5, 6, 2, 1, None],
        "status": ["broken", "survived", "clean_wrong", "survived", "broken", "error"],
    })  # fmt: skip
    assert success(records, 859, 1) == (1, 4)
    assert success(records, 859, 5) == (3, 4)
    assert success(records.slice(0, 0), 859, 5) == (0, 0)


def test_placements_on_one_image_are_not_independent() -> None:
    # two images at four places each: all hits on one of them, or as many on both
    records = pa.table({
        "sample_id": ["a"] * 4 + ["b"] * 4,
        "label": [1] * 8,
        "target_rank": [1, 1, 1, 1, 9, 9, 9, 9],
        "status": ["broken"] * 8,
    })  # fmt: skip
    low, high = interval(records, 859, 1) or (0, 0)
    assert (low, high) == pytest.approx(clustered([4, 0], 4))
    # no narrower than two images, however many places there are on each
    assert high - low > wilson(4, 8)[1] - wilson(4, 8)[0]
    assert interval(records, 859, 9) == pytest.approx(clustered([4, 4], 4))
    assert interval(records, 1, 1) is None
    # an image that failed at one place is left out
    failed = records.set_column(3, "status", pa.array(["error"] + ["broken"] * 7))
    assert interval(failed, 859, 1) == pytest.approx(clustered([0], 4))
