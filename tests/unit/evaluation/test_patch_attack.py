from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator

from assay.core.compose import Passes
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import rank_of
from assay.data import load_data
from assay.evaluation.cell import Cell
from assay.evaluation.execution.progress import Progress
from assay.evaluation.loader import Loader
from assay.evaluation.passes import passes_per_sample
from assay.evaluation.plan import make_plan
from assay.evaluation.run_study import run_study
from assay.evaluation.study.spec import Study, study_schema
from assay.models import load_model
from assay.patches import Patch
from tests.support.tiny import rows, run_here, study


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
            assert told["target"] == 1
            if sample.label == 1:
                assert told["status"] == "excluded" and told["size_l0"] is None
                continue
            assert told["prediction"] == int(logits.argmax())
            assert told["target_rank"] == int(rank_of(logits, torch.tensor([1])))
            assert told["size_l0"] <= 27 * number
    # one look at the image and, unless its label is the target, one at each budget
    of_target = data.labels.count(1)
    assert sum(row["forwards"] for row in found.values()) == 3 * len(data) - 2 * of_target > 0
    assert {(one.n, one.excluded) for one in run.results()} == {(len(data) - of_target, of_target)}


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
    assert cell.image == (8, 8) and passes_per_sample(cell) == Passes(1 + 36, 0)
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


@pytest.mark.parametrize("offsets", ["all", "published"])
def test_four_budgets_are_the_notebooks_four_placements(
    tmp_path: Path, tiny_model: str, tiny_source: str, patch: Path, offsets: str
) -> None:
    """One batch, edited in place again and again: placement n carries n patches."""
    attack = {"attack": "patch", "file": str(patch), "offsets": offsets}
    given = placed(tiny_model, tiny_source, patch, attacks=attack, threats={"norm": "l0", "eps": [27, 54, 81, 108]})
    found = {(row["sample_id"], row["eps"]): row for row in rows(run_here(tmp_path / "run", given))}
    model, pixels, data = load_model(tiny_model), Patch.load(patch).pixels, load_data(tiny_source)
    batch = torch.stack([sample.image for sample in data.load(range(len(data)))])  # type: ignore[union-attr]
    draws, below = Draws.of(data.ids, 0).fold("init"), 8 - 3 + 1 if offsets == "all" else 8 - 3 - 1
    for number in (1, 2, 3, 4):
        for image, (row, column) in zip(batch, places(draws, number, below), strict=True):
            image[:, row : row + 3, column : column + 3] = pixels
        answers = model.module(batch).argmax(1).tolist()
        told = [found[name, 27.0 * number] for name in data.ids]
        # a share over the images of other classes leaves out those of the target
        assert all((one["status"] == "excluded") == (one["label"] == 1) for one in told)
        pairs = [(one, answer) for one, answer in zip(told, answers, strict=True) if one["label"] != 1]
        assert [one["prediction"] for one, _ in pairs] == [answer for _, answer in pairs]
        others = [(one["status"], answer) for one, answer in pairs]
        assert [status == "broken" for status, _ in others if status != "clean_wrong"] == [
            answer == 1 for status, answer in others if status != "clean_wrong"
        ]


def places(draws: Draws, number: int, below: int) -> list[list[int]]:
    return (draws.uniform(f"placement {number}", 2) * below).long().tolist()  # type: ignore[no-any-return]


def test_numbered_placements_are_cells_of_one_patch_each(
    tmp_path: Path, tiny_model: str, tiny_source: str, patch: Path
) -> None:
    cells = [{"attack": "patch", "file": str(patch), "placement": i} for i in (1, 2, 3)]
    run = run_here(
        tmp_path / "run", placed(tiny_model, tiny_source, patch, attacks=cells, threats={"norm": "l0", "eps": 27})
    )
    model, pixels, data = load_model(tiny_model), Patch.load(patch).pixels, load_data(tiny_source)
    draws = Draws.of(data.ids, 0).fold("init")
    by_label = {cell["attack"]: digest for digest, cell in run.cells.items()}
    for number, label in enumerate(
        ["patch(file=one)", "patch(file=one, placement=2)", "patch(file=one, placement=3)"], start=1
    ):
        told = {row["sample_id"]: row for row in rows(run) if row["cell"] == by_label[label]}
        images = torch.stack([sample.image for sample in data.load(range(len(data)))])  # type: ignore[union-attr]
        for image, (row, column) in zip(images, places(draws, number, 6), strict=True):
            image[:, row : row + 3, column : column + 3] = pixels
        assert [told[name]["prediction"] for name in data.ids] == model.module(images).argmax(1).tolist()
        assert all(one["size_l0"] <= 27 for one in told.values() if one["status"] != "excluded")


def test_a_finished_study_is_left_alone(tmp_path: Path, tiny_model: str, tiny_source: str, patch: Path) -> None:
    given, heard = placed(tiny_model, tiny_source, patch), 0

    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        nonlocal heard
        heard += 1
        if heard == 3:
            raise Stop

    whole = run_here(tmp_path / "whole", given)
    with pytest.raises(Stop):
        run_study(given, tmp_path / "run", on_progress=stop)
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")}
    assert 0 < len(shards) < 4
    again = run_here(tmp_path / "run", given)
    assert rows(again) == rows(whole)
    everything = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")}
    assert {path: everything[path] for path in shards} == shards and len(everything) == 4
    run_here(tmp_path / "run", given)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")} == everything


def test_a_patch_that_changes_under_a_run_is_noticed(tiny_model: str, tiny_source: str, patch: Path) -> None:
    (cell,) = make_plan(placed(tiny_model, tiny_source, patch), Loader()).cells
    again = Cell.of(cell.plain())
    assert again == cell and again.digest == cell.digest and again.image == (8, 8)
    other = Patch.load(patch)
    other.with_pixels(1 - other.pixels).save(patch)
    with pytest.raises(BadInput, match="Leave patches alone in a run"):
        passes_per_sample(cell)


def test_the_size_of_images_is_for_estimates_alone(tiny_model: str, tiny_source: str, patch: Path) -> None:
    (cell,) = make_plan(placed(tiny_model, tiny_source, patch), Loader()).cells
    assert dataclasses.replace(cell, image=(16, 16)).digest == cell.digest


def test_only_targeted_goals_have_a_target_rank(tmp_path: Path, tiny_model: str, tiny_source: str, patch: Path) -> None:
    untargeted = placed(tiny_model, tiny_source, patch, goal="untargeted", question="worst_case")
    assert all(row["target_rank"] is None for row in rows(run_here(tmp_path / "a", untargeted)))
    worst = rows(run_here(tmp_path / "b", placed(tiny_model, tiny_source, patch, question="worst_case")))
    assert {row["status"] for row in worst} >= {"broken", "survived"}
    assert all(
        (row["target_rank"] == 1) == (row["status"] == "broken")
        for row in worst
        if row["status"] not in ("clean_wrong", "excluded")
    )
    assert all(row["target_rank"] in (1, 2, 3, 4) for row in worst)


def test_the_schema_knows_the_attack() -> None:
    check = Draft202012Validator(study_schema()).is_valid
    whole = {
        "study": "s", "models": "m.py:f", "data": {"source": "d", "part": "held-out 5"}, "goal": "targeted toaster",
        "threats": {"norm": "l0", "eps": [27, 54]},
    }  # fmt: skip
    every = {"file": "a.safetensors", "placement": 2, "places": 3, "offsets": "published", "at": "1,2", "digest": "a1"}
    assert check({**whole, "attacks": {"attack": "patch", **every, "restarts": 2}})
    assert check({**whole, "attacks": [{"attack": "patch", "file": "a", "stride": 4}]})
    for wrong in ({}, {"file": 3}, {"file": "a", "places": 0}, {"file": "a", "at": "x"}, {"file": "a", "steps": 3}):
        assert not check({**whole, "attacks": {"attack": "patch", **wrong}})
    one = Study.of({**whole, "attacks": {"attack": "patch", **every, "restarts": 2}})
    assert Study.of(one.plain()) == one and check(one.plain())


def test_a_slip_in_the_name_is_told() -> None:
    with pytest.raises(BadInput, match="Did you mean 'patch'"):
        placed("m.py:f", "samples", Path("a"), attacks={"attack": "pacth", "file": "a"})
