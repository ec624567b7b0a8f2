"""Studies leave out images of the target's class, count points without scores as errors, and write sizes as judged."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from assay.core.errors import BadInput
from assay.core.threat import L1, L2, Linf
from assay.evaluation.analysis.compare import mcnemar, minimal_budgets, per_class
from assay.evaluation.analysis.query_curves import efforts
from assay.evaluation.analysis.score import results, worst_case
from assay.evaluation.records.schema import from_table
from assay.models import Classifier, load_model
from assay.report.formats import markdown
from tests.support.tiny import data, evaluate, images, rows
from tests.unit.evaluation.test_work import N, Small, outcomes, records


@pytest.fixture(scope="module")
def small() -> Classifier:
    return load_model(Small())


def test_a_run_counts_without_the_images_of_the_target_class(tmp_path: Path) -> None:
    attacks = ["fgsm", {"attack": "pgd", "steps": 4}]
    run = evaluate(Small(), data(20), attacks, Linf("64/255"), tmp_path / "a", goal="targeted 3", chunk=8)
    # the same images without those of class 3
    others = [at for at in range(20) if at % 4 != 3]
    pixels, whole = images(20), data(20)
    part = dataclasses.replace(
        whole, ids=tuple(whole.ids[at] for at in others), labels=tuple(whole.labels[at] for at in others),
        read=lambda position: pixels[0][others[position]],
    )  # fmt: skip
    alone = evaluate(Small(), part, attacks, Linf("64/255"), tmp_path / "b", goal="targeted 3", chunk=8)
    for one, other in zip([*run.results(), *run.worst_case()], [*alone.results(), *alone.worst_case()], strict=True):
        assert (one.excluded, other.excluded) == (5, 0)
        told = ("n", "broken", "survived", "clean_correct", "robust_accuracy", "robust_low", "top1_error", "errors")
        assert [getattr(one, name) for name in told] == [getattr(other, name) for name in told]
        assert one.broken > 0
    left_out = [row for row in rows(run) if row["status"] == "excluded"]
    assert {row["label"] for row in left_out} == {3} and {row["target"] for row in left_out} == {3}
    assert "5 images left out, whose label is the target" in markdown(run)
    table = run.records()
    fgsm = table.filter(pc.equal(table["attack"], "fgsm"))
    assert {one.label for one in per_class(fgsm)} == {0, 1, 2}
    assert mcnemar(fgsm, fgsm).n == 15 and minimal_budgets(fgsm).num_rows == 15
    assert {one.n for one in efforts(run.records(), run.cells, "queries")} == {15}


def test_images_of_the_target_class_alone_are_refused(tmp_path: Path) -> None:
    alike = dataclasses.replace(data(6), labels=(2,) * 6)
    with pytest.raises(BadInput, match=r"aims at the label of every image of tiny: there is nothing to attack"):
        evaluate(Small(), alike, "fgsm", Linf("8/255"), tmp_path / "a", goal="targeted 2")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("goal", ["targeted random", "targeted least-likely", "targeted next"])
def test_chosen_targets_are_never_the_label(small: Classifier, goal: str) -> None:
    for seed in (0, 1, 2):
        found = records(small, goal=goal, seed=seed)
        assert all(one.target != one.label for one in found) and all(one.status != "excluded" for one in found)


class Brittle(Small):
    """No scores for images of more contrast than all of the data."""

    value = math.nan

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        most = (images(N)[0] - 0.5).abs().flatten(1).mean(1).max() + 1e-4
        return torch.where((x - 0.5).abs().flatten(1).mean(1, keepdim=True) > most, self.value, logits)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("question", ["as_attacked", "worst_case"])
@pytest.mark.parametrize("attack", ["bim", "uniform-noise", {"attack": "ddn", "steps": 6}], ids=str)
def test_a_point_without_scores_is_an_error_and_no_survival(value: float, question: str, attack: Any) -> None:
    model = Brittle()
    model.value = value
    threat = {"norm": "l2" if isinstance(attack, dict) else "linf", "eps": ["0", "6/255", "200/255"]}
    for order in ("ascending", "descending"):
        found = records(
            load_model(model), attacks=attack, question=question, threats=threat, order=order, goal="targeted next"
        )
        for one in found:
            assert one.status != "broken" or one.confidence is not None
            assert (one.status == "error") == (one.error is not None)
            assert one.prediction is not None or one.status == "error"
        if question == "as_attacked" and not isinstance(attack, dict):
            told = {one.error for one in found if one.status == "error"}
            assert told == {"The model returned NaN or infinite scores for the attacked image."}
        scored = results(outcomes(load_model(model), attacks=attack, question=question, threats=threat)[0].table)
        assert all(one.n + one.errors == N for one in scored)


@pytest.mark.parametrize("eps", ["8/255", "0.1", "0.3", "1/3", "0.7"])
@pytest.mark.parametrize("threat", [Linf, L2, L1])
def test_sizes_compare_with_the_budget_in_any_reader(tmp_path: Path, eps: str, threat: Any) -> None:
    run = evaluate(
        Small(), data(12), {"attack": "pgd", "steps": 3}, threat(eps), tmp_path / "a", question="as_attacked"
    )
    table = run.records()
    name = f"size_{threat(eps).norm.name}"
    sizes, budgets = table[name].to_numpy(), table["eps"].to_numpy()
    assert sizes.dtype == np.float32 and budgets.dtype == np.float64
    # as numbers of 64 bits, as numbers of 32 bits, and as Arrow compares
    assert (sizes.astype(np.float64) <= budgets).all()
    assert (sizes <= budgets.astype(np.float32)).all() and (sizes <= budgets[0].item()).all()
    assert pc.all(pc.less_equal(table[name], table["eps"])).as_py()
    assert (sizes > 0.99 * budgets).any()


def test_an_old_table_without_excluded_samples_scores_as_before(small: Classifier) -> None:
    (outcome,) = outcomes(small)
    assert {one.excluded for one in [*results(outcome.table), *worst_case(outcome.table)]} == {0}
    assert all(one.status != "excluded" for one in from_table(outcome.table))
