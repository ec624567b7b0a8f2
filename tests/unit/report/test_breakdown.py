from __future__ import annotations

from pathlib import Path

import pytest

from assay.evaluation.run import Run
from assay.report.breakdown import MOST_CLASSES, Breakdown, breakdown, class_names
from assay.report.groups import Group, groups
from tests.support.fake_run import HOSTILE, Rows, fake_run, with_manifest


@pytest.fixture(scope="module")
def counted(run: Run, digits: Group) -> Breakdown:
    found = breakdown(run, digits)
    assert found is not None
    return found


def test_every_attack_and_budget_can_be_chosen(counted: Breakdown) -> None:
    assert len(counted.choices) == 3 * 8  # eps 0 changes nothing
    assert counted.choices[0].title == "fgsm, 0.007 (1.8 grey levels)"


def test_per_class_counts_are_those_of_the_records(run: Run, counted: Breakdown) -> None:
    for at in (0, counted.default):
        choice = counted.choices[at]
        rows = [row for row in run.records().to_pylist() if (row["cell"], row["eps"]) == (choice.cell, choice.eps)]
        for label in range(10):
            mine = [row for row in rows if row["label"] == label]
            entry = next(row for row in counted.per_class if (row["choice"], row["class"]) == (at, str(label)))
            assert entry["n"] == len(mine)
            assert entry["kept"] == sum(row["status"] == "survived" for row in mine) / len(mine)
            assert entry["clean"] == sum(row["status"] != "clean_wrong" for row in mine) / len(mine)


def test_what_images_became_adds_up(run: Run, counted: Breakdown) -> None:
    mine = [row for row in counted.became if row["choice"] == counted.default]
    assert sum(row["count"] for row in mine) == 60
    for name in {row["true"] for row in mine}:
        assert sum(row["share"] for row in mine if row["true"] == name) == pytest.approx(1)


def test_the_default_leaves_about_half(digits: Group, counted: Breakdown) -> None:
    choice = counted.choices[counted.default]
    left = [
        result.robust_accuracy
        for line in digits.lines
        for result in line.results
        if (line.cell, result.eps) == (choice.cell, choice.eps)
    ]
    assert 0.2 < left[0] < 0.8


def test_many_classes_are_cut_to_those_that_lost_most(tmp_path: Path) -> None:
    def spread(rows: Rows) -> Rows:
        return [{**row, "label": at % 40, "prediction": (at + 1) % 40} for at, row in enumerate(rows)]

    many = fake_run(tmp_path, scenes=False, digits=60, change=spread)
    found = breakdown(many, groups(many)[0])
    assert found is not None
    assert len(found.classes) == MOST_CLASSES and found.all_classes == 40
    assert not found.fits_a_grid and not found.has_shares
    pairs = found.pairs()
    assert all(pair["true"] != pair["became"] for pair in pairs)
    assert {pair["choice"] for pair in pairs} == set(range(len(found.choices)))
    mine = [pair["count"] for pair in pairs if pair["choice"] == found.default]
    assert mine == sorted(mine, reverse=True) and len(mine) <= 12


def test_few_images_per_class_have_no_shares(run: Run, counted: Breakdown, scenes: Group) -> None:
    few = breakdown(run, scenes)
    assert few is not None and few.fits_a_grid and not few.has_shares  # 20 images of 10 classes
    assert counted.has_shares


def test_too_many_rows_leave_only_the_default_choice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.report.breakdown._MOST_ROWS", 10)
    found = breakdown(run, groups(run)[0])
    assert found is not None and len(found.choices) == 1
    assert {row["choice"] for row in (*found.per_class, *found.became)} == {0}


def test_classes_of_one_name_stay_apart(run: Run) -> None:
    named = {"m": {"classes": ["crane", "llama", "crane"]}}
    alike = with_manifest(run, models=named)
    assert class_names(alike, "m", "none") == ["crane (0)", "llama", "crane (2)"]
    assert class_names(alike, "other", "none") is None


def test_names_come_from_the_model(run: Run, scenes: Group) -> None:
    found = breakdown(run, scenes)
    assert found is not None and found.classes[0] == HOSTILE


def test_what_could_not_be_judged_is_in_no_count(tmp_path: Path) -> None:
    def lost(rows: Rows) -> Rows:
        return [{**row, "status": "error", "prediction": None} if row["label"] == 3 else row for row in rows]

    some = fake_run(tmp_path, scenes=False, digits=60, change=lost)
    found = breakdown(some, groups(some)[0])
    assert found is not None and "3" not in found.classes
    assert {row["n"] for row in found.per_class} == {6}
