from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import rank_of
from assay.data import load_data
from assay.evaluate.cost import passes_per_sample
from assay.evaluate.loading import Loader
from assay.evaluate.plan import make_plan
from assay.evaluate.study import Study
from assay.models import load_model
from assay.patches import Patch
from tests.unit.evaluate.tiny import rows, run_here, study


@pytest.fixture
def patch(tmp_path: Path) -> Path:
    pixels = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(2))
    Patch(pixels, torch.ones(3, 3), 1, "1").save(tmp_path / "one.safetensors")
    return tmp_path / "one.safetensors"


def placed(model: str, source: str, patch: Path, **more: Any) -> Study:
    usual: dict[str, Any] = {
        "threats": {"norm": "l0", "eps": [27, 54]},
        "attacks": {"attack": "patch", "file": str(patch)},
        "goal": "targeted 1",
        "question": "as_attacked",
    }
    return study(model, source, **{**usual, **more})


def test_a_study_counts_what_a_loop_counts(tmp_path: Path, tiny_model: str, tiny_source: str, patch: Path) -> None:
    run = run_here(tmp_path / "run", placed(tiny_model, tiny_source, patch))
    model, pixels = load_model(tiny_model), Patch.load(patch).pixels
    data = load_data(tiny_source, model=model)
    found = {(row["sample_id"], row["eps"]): row for row in rows(run)}
    assert len(found) == 2 * len(data)
    for sample in data.load(range(len(data))):
        image = sample.image.clone()
        draws = Draws.of([sample.id], 0).fold("init")
        for number in (1, 2):
            row, column = (draws.uniform(f"placement {number}", 2)[0] * 6).long().tolist()
            image[:, row : row + 3, column : column + 3] = pixels
            logits = model.module(image[None])
            told = found[sample.id, 27.0 * number]
            target = 1 if sample.label != 1 else 2
            assert told["prediction"] == int(logits.argmax()) and told["target"] == target
            assert told["target_rank"] == int(rank_of(logits, torch.tensor([target])))
            assert told["size_l0"] <= 27 * number
    # one look at the image and one at each budget
    assert sum(row["forwards"] for row in found.values()) == 3 * len(data)


def test_it_resumes_and_knows_a_patch_by_what_it_does(
    tmp_path: Path, tiny_model: str, tiny_source: str, patch: Path
) -> None:
    first = run_here(tmp_path / "run", placed(tiny_model, tiny_source, patch))
    (cell,) = first.cells.values()
    assert cell["attack"] == "patch(file=one)" and cell["specs"]["attack"]["digest"] == Patch.load(patch).digest
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")}
    moved = tmp_path / "elsewhere" / "one.safetensors"
    moved.parent.mkdir()
    patch.rename(moved)
    again = run_here(tmp_path / "run", placed(tiny_model, tiny_source, moved))
    assert list(again.cells) == list(first.cells)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")} == shards
    other = Patch.load(moved)
    other.with_pixels(1 - other.pixels).save(moved)
    changed = make_plan(placed(tiny_model, tiny_source, moved), Loader())
    assert {cell.digest for cell in changed.cells}.isdisjoint(first.cells)
    pinned = {"attack": "patch", "file": str(moved), "digest": cell["specs"]["attack"]["digest"]}
    with pytest.raises(BadInput, match="Leave patches alone in a run"):
        make_plan(placed(tiny_model, tiny_source, moved, attacks=pinned), Loader())


def test_the_worst_of_all_places(tmp_path: Path, tiny_model: str, tiny_source: str, patch: Path) -> None:
    threats = {"norm": "l0", "eps": 27}
    everywhere = {"attack": "patch", "file": str(patch), "stride": 1}
    whole = placed(tiny_model, tiny_source, patch, attacks=everywhere, threats=threats, question="worst_case")
    some = {"attack": "patch", "file": str(patch), "places": 3}
    few = placed(tiny_model, tiny_source, patch, attacks=some, threats=threats, question="worst_case")
    worst, three = (run_here(tmp_path / name, one) for name, one in (("whole", whole), ("few", few)))
    broken = {row["sample_id"] for row in rows(worst) if row["status"] == "broken"}
    assert {row["sample_id"] for row in rows(three) if row["status"] == "broken"} <= broken and broken
    (cell,) = make_plan(whole, Loader()).cells
    # planned for images of 224 pixels where the model's weights do not say: an upper bound
    assert passes_per_sample(cell).backwards == 0
    assert passes_per_sample(make_plan(few, Loader()).cells[0]).forwards == 1 + 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"placement": 0}, "placement is 0, expected a whole number"),
        ({"offsets": "publisht"}, "Did you mean 'published'"),
        ({"at": "3"}, "expected X,Y"),
        ({"fil": "a"}, "no option 'fil'. Did you mean 'file'"),
        ({"stride": 0}, "stride is 0"),
    ],
)
def test_options_that_cannot_be(patch: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        placed("m.py:f", "samples", patch, attacks={"attack": "patch", "file": str(patch), **options})


def test_what_is_missing_is_told_before_anything_runs(tiny_model: str, tiny_source: str, patch: Path) -> None:
    with pytest.raises(BadInput, match="needs a file"):
        make_plan(placed(tiny_model, tiny_source, patch, attacks="patch"), Loader())
    with pytest.raises(BadInput, match="There is no patch"):
        make_plan(placed(tiny_model, tiny_source, patch.with_name("two.safetensors")), Loader())
    with pytest.raises(BadInput, match="patch works in l0, not in linf"):
        placed(tiny_model, tiny_source, patch, threats={"norm": "linf", "eps": "8/255"})


def test_a_study_reads_back(patch: Path) -> None:
    attack = {"attack": "patch", "file": str(patch), "at": "1,2", "offsets": "all"}
    one = placed("m.py:f", "samples", patch, attacks=attack)
    assert Study.of(one.plain()) == one
    assert one.grids[0].attacks[0].label == "patch(file=one, at=1,2)"
