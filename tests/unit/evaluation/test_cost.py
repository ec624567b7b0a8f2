from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from assay.core.compose import Passes
from assay.core.oracle import Access, TorchOracle
from assay.evaluation.cost import Speed, estimate, time_passes
from assay.evaluation.loader import Loader
from assay.evaluation.passes import passes_per_sample
from assay.evaluation.plan import make_plan
from tests.support.tiny import images, run_here, study


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"attacks": "fgsm"}, Passes(1 + 3, 1)),
        ({"attacks": {"attack": "bim", "steps": 5}}, Passes(1 + 3 * 5, 1 + 3 * 4)),
        ({"attacks": {"attack": "pgd", "steps": 5}}, Passes(1 + 3 * 6, 3 * 5)),
        ({"attacks": {"attack": "pgd", "steps": 5, "restarts": 2}}, Passes(1 + 3 * 12, 3 * 10)),
        ({"attacks": "uniform-noise"}, None),
        ({"attacks": "fgsm", "threats": {"norm": "linf", "eps": 0}}, Passes(1, 1)),
    ],
)
def test_passes_are_counted_beforehand(
    tiny_model: str, tiny_source: str, tmp_path: Path, changes: dict[str, Any], expected: Passes | None
) -> None:
    given = study(tiny_model, tiny_source, question="as_attacked", **changes)
    (cell,) = make_plan(given, Loader()).cells
    bound = passes_per_sample(cell)
    assert expected is None or bound == expected
    results = run_here(tmp_path / "run", given).results()
    spent = Passes(sum(one.forwards for one in results), sum(one.backwards for one in results))
    # as attacked nothing stops early: the bound is what is spent
    assert spent == bound.times(30)


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        # one run serves the three budgets: the image, and three runs of six looks
        ({"attack": "pgd", "steps": 5, "smallest": 3}, Passes(1 + 3 * 6, 3 * 5)),
        ({"attack": "pgd", "steps": 5, "smallest": 3, "restarts": 2}, Passes(1 + 3 * 12, 3 * 10)),
    ],
)
def test_a_bisection_stays_within_its_bound(
    tiny_model: str, tiny_source: str, tmp_path: Path, attack: dict[str, Any], expected: Passes
) -> None:
    given = study(tiny_model, tiny_source, attacks=attack)
    (cell,) = make_plan(given, Loader()).cells
    assert passes_per_sample(cell) == expected
    results = run_here(tmp_path / "run", given).results()
    assert sum(one.forwards for one in results) <= 30 * expected.forwards
    assert sum(one.backwards for one in results) <= 30 * expected.backwards
    assert any(one.broken for one in results)


def test_what_is_left_is_estimated(tiny_model: str, tiny_source: str, tmp_path: Path) -> None:
    plan = make_plan(study(tiny_model, tiny_source), Loader())
    whole = estimate(plan)
    assert (whole.units, whole.records, whole.seconds) == (8, 240, None)
    fgsm, pgd = plan.cells
    left = estimate(plan, {fgsm.digest: {0, 1, 2, 3}, pgd.digest: {3}}, {tiny_model: Speed(1.0, 10.0)})
    assert (left.units, left.records) == (3, 24 * 4)
    assert left.passes == passes_per_sample(pgd).times(24)
    assert left.seconds == left.passes.forwards + 10 * left.passes.backwards
    run_here(tmp_path / "run", study(tiny_model, tiny_source))
    stored = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*.parquet"))
    assert 0.5 < whole.bytes / stored < 2


def test_a_model_is_timed(tiny_model: str, tiny_source: str) -> None:
    loader = Loader()
    (cell,) = make_plan(study(tiny_model, tiny_source, attacks="fgsm"), loader).cells
    pixels, labels = images(8)
    speed = time_passes(loader.bench(cell).oracle, pixels, labels.tolist())
    assert 0 < speed.forward < 1 and 0 <= speed.backward < 1
    assert speed.seconds(Passes(2, 0)) == 2 * speed.forward


def test_a_model_without_gradients_is_timed_forward_alone() -> None:
    pixels, labels = images(8)
    oracle = TorchOracle(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)), gives=Access.SCORES)
    speed = time_passes(oracle, pixels, labels.tolist())
    assert speed.forward > 0 and speed.backward == 0
