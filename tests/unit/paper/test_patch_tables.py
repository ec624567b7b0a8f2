"""Tables VII and VIII of a tiny network: the protocol of each mode in the records, and the numbers counted by hand."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest
import torch

from assay.data import load_data
from assay.models import load_model
from assay.models.imagenet import imagenet_classes
from assay.paper.measured import view
from assay.paper.patched import kept_patches, patch_panels
from assay.patches import Patch
from assay.statistics import clustered
from tests.support.patch_run import HELD_OUT, IMAGE, LABELS, SIDE, TARGETS, PatchRun, patch_run, pictures

ROOM = IMAGE - SIDE + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("patches")


@pytest.fixture(scope="module")
def published(folder: Path) -> PatchRun:
    return patch_run(folder, "as_published")


@pytest.fixture(scope="module")
def corrected(folder: Path) -> PatchRun:
    return patch_run(folder, "corrected")


@functools.cache
def network(spec: str) -> torch.nn.Module:
    return load_model(spec).module


@functools.cache
def pixels(path: Path) -> torch.Tensor:
    return Patch.load(path).pixels


def rank(one: PatchRun, target: str, picture: torch.Tensor, at: tuple[int, int]) -> int:
    """Return the rank of the target for a picture with the patch at (row, column), by hand."""
    changed = picture.clone()
    changed[:, at[0] : at[0] + SIDE, at[1] : at[1] + SIDE] = pixels(one.orders[target])
    with torch.no_grad():
        logits = network(one.model)(changed[None])[0]
    return 1 + int((logits > logits[imagenet_classes().index(target)]).sum())


def rows(one: PatchRun, target: str) -> list[dict[str, object]]:
    number = imagenet_classes().index(target)
    cells = [name for name, cell in one.run.cells.items() if cell["goal"] == f"targeted {number}"]
    columns = ["cell", "sample_id", "label", "eps", "target_rank", "size_l0"]
    return [row for row in one.run.records(columns).to_pylist() if row["cell"] in cells]


def of_other_classes(mine: list[dict[str, object]], target: str) -> list[dict[str, object]]:
    return [row for row in mine if row["label"] != imagenet_classes().index(target)]


def test_as_published_four_patches_gather_on_all_images_at_the_published_offsets(
    folder: Path, published: PatchRun
) -> None:
    every = pictures(folder)
    for target in TARGETS:
        mine = rows(published, target)
        assert len({row["cell"] for row in mine}) == 1
        assert sorted({row["eps"] for row in mine}) == [copies * 3 * SIDE * SIDE for copies in (1, 2, 3, 4)]
        assert {row["sample_id"] for row in mine} == set(every) and len(mine) == 4 * len(LABELS)
        # 34 - 32 - 2: of three rows and columns the published offsets leave the first alone
        for row in of_other_classes(mine, target):
            assert row["target_rank"] == rank(published, target, every[str(row["sample_id"])][1], (0, 0))


def test_corrected_one_patch_at_four_places_on_images_held_out(folder: Path, corrected: PatchRun) -> None:
    every, elsewhere = pictures(folder), False
    for target in TARGETS:
        mine = rows(corrected, target)
        assert len({row["cell"] for row in mine}) == 4
        assert {row["eps"] for row in mine} == {3 * SIDE * SIDE}
        assert len(mine) == 4 * HELD_OUT
        for row in of_other_classes(mine, target):
            assert row["size_l0"] <= 3 * SIDE * SIDE
            picture = every[str(row["sample_id"])][1]
            places = itertools.product(range(ROOM), range(ROOM))
            possible = {rank(corrected, target, picture, at) for at in places}
            assert row["target_rank"] in possible
            elsewhere |= row["target_rank"] != rank(corrected, target, picture, (0, 0))
    assert elsewhere


def test_what_is_measured_was_not_trained_on(corrected: PatchRun) -> None:
    model = load_model(corrected.model)
    training = load_data(corrected.data, model=model, part=f"rest {HELD_OUT}")
    seen = {str(row["sample_id"]) for target in TARGETS for row in rows(corrected, target)}
    assert len(seen) == HELD_OUT and len(training) == len(LABELS) - HELD_OUT
    assert seen.isdisjoint(training.ids)
    for path in corrected.orders.values():
        assert Patch.load(path).facts["fingerprint"] == training.fingerprint


def test_the_tables_are_counted_from_the_records(folder: Path, published: PatchRun, corrected: PatchRun) -> None:
    top1, top5 = view(folder / "out", "VII"), view(folder / "out", "VIII")
    assert set(top1.runs) == set(top5.runs) == {"as_published", "corrected"} and not top1.missing
    reached = 0
    for mode, one in (("as_published", published), ("corrected", corrected)):
        for at, target in enumerate(TARGETS):
            others = of_other_classes(rows(one, target), target)
            for found, top in ((top1, 1), (top5, 5)):
                row = found.rows[at]
                hits: dict[object, int] = {}
                for record in others:
                    hits.setdefault(record["sample_id"], 0)
                    hits[record["sample_id"]] += record["target_rank"] <= top
                count = (sum(hits.values()), len(others))
                assert row.name == target
                assert row.counts[mode] == (count, None, None)
                assert row.measured[mode] == (pytest.approx(100 * count[0] / count[1]), None, None)
                # four placements on one image are not four images
                assert row.intervals[mode] == (pytest.approx(clustered(list(hits.values()), 4)), None, None)
                reached += count[0]
    assert reached
    # images of the target are left out: one of eight is a toaster, and one a saltshaker
    assert [row.counts["as_published"][0][1] for row in top1.rows] == [28, 32, 32, 32, 28]


def test_figures_3_and_4_show_the_patches_and_images_with_them(folder: Path, corrected: PatchRun) -> None:
    patches = kept_patches(folder / "out")
    assert list(patches) == [(target, SIDE) for target in TARGETS]
    (panels,) = patch_panels(folder / "out").values()
    assert len(panels) == 5
    for target, panel in zip(TARGETS, panels, strict=True):
        assert panel.title.endswith(f"patch: {target}")
        assert [bar.target for bar in panel.bars].count(True) <= 1
        (shown,) = panel.images.values()
        own = Patch.load(corrected.orders[target]).pixels
        windows = [
            shown[:, row : row + SIDE, column : column + SIDE]
            for row, column in itertools.product(range(ROOM), range(ROOM))
        ]
        assert min(float((window - own).abs().max()) for window in windows) < 0.01


def test_nothing_measured_has_no_figures(tmp_path: Path) -> None:
    assert kept_patches(tmp_path) == {}
    assert patch_panels(tmp_path) == {}
