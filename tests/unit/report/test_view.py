from __future__ import annotations

import dataclasses
from pathlib import Path

from assay.report.groups import WORST, Group, groups
from tests.support.fake_run import Rows, fake_run, with_manifest


def test_one_group_per_model_data_and_kind_of_change(found: list[Group]) -> None:
    assert [(group.model, group.n, len(group.lines)) for group in found] == [
        ("zoo:mnist-cnn", 60, 3),
        ("efficientnet-lite0", 20, 1),
    ]
    assert [group.kind for group in found] == ["L∞", "L∞, normalised units, no box"]
    fine = dataclasses.replace(found[0], threat="l2 no-box grid=255", goal="targeted next")
    assert fine.kind == "L₂, no box, 8-bit images, targeted next"


def test_budgets_of_a_group_rise(digits: Group) -> None:
    values = [result.eps for result in digits.budgets]
    assert values == sorted(values) and len(values) == 9


def test_the_worst_case_is_never_above_an_attack(digits: Group) -> None:
    assert digits.worst is not None and digits.worst.label == WORST
    for result in digits.worst.results:
        at = [line.at(result.eps) for line in digits.lines if line.label in digits.merged]
        assert result.robust_accuracy <= min(other.robust_accuracy for other in at if other is not None)


def test_one_attack_alone_has_no_worst_case(scenes: Group) -> None:
    assert scenes.worst is None
    assert scenes.shown == scenes.lines


def test_only_single_attacks_carry_the_warning(digits: Group) -> None:
    assert [line.note for line in digits.lines] == ["one attack, not robustness", "", ""]


def test_passes_are_per_image_over_all_budgets(digits: Group) -> None:
    assert digits.lines[0].passes == "378 + 360"  # 9 budgets, 42 + 40 each


def test_two_cells_of_one_attack_are_told_apart(tmp_path: Path) -> None:
    def twice(rows: Rows) -> Rows:
        return rows + [{**row, "cell": "f" * 16, "question": "worst_case"} for row in rows if row["attack"] == "fgsm"]

    run = fake_run(tmp_path, scenes=False, digits=10, change=twice)
    cells = {**run.cells, "f" * 16: next(iter(run.cells.values()))}
    both = with_manifest(run, cells=cells)
    labels = [line.label for line in groups(both)[0].lines]
    assert labels == ["fgsm, as attacked", "bim(steps=10)", "pgd(steps=40)", "fgsm, worst case"]


def test_a_run_without_results_has_no_groups(tmp_path: Path) -> None:
    assert groups(fake_run(tmp_path, change=lambda rows: [])) == []
