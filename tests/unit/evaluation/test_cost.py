from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.core.compose import Passes
from assay.core.oracle import Access, LookPasses, TorchOracle
from assay.evaluation.cost import Speed, by_workers, estimate, passes_of, time_passes
from assay.evaluation.loader import Loader
from assay.evaluation.passes import passes_per_sample
from assay.evaluation.plan import make_plan
from tests.support.tiny import images, run_here, study, write_model


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


def test_looks_of_several_passes_are_counted_as_those(tiny_model: str, tiny_source: str, tmp_path: Path) -> None:
    # nothing stops early, so that the bound is what is spent: of a defence that shows three copies
    spec = f"{tiny_model}|crop-ensemble:crops=3"
    given = study(spec, tiny_source, question="as_attacked", attacks=[{"attack": "pgd", "steps": 2}])
    loader = Loader()
    plan = make_plan(given, loader)
    passes = {spec: loader.bench(plan.cells[0]).classifier.passes}
    loader.close()
    told = estimate(plan, looks=passes).passes
    results = run_here(tmp_path / "run", given).results()
    assert told == Passes(sum(one.forwards for one in results), sum(one.backwards for one in results))
    assert told.forwards == 3 * estimate(plan).passes.forwards


def test_a_look_with_a_gradient_at_a_deployed_file_takes_two_forwards(tiny_model: str, tiny_source: str) -> None:
    (cell,) = make_plan(study(tiny_model, tiny_source, attacks="fgsm"), Loader()).cells
    # three looks of which one climbs: two at the file, and at file and twin
    assert passes_of(cell, Passes(3, 1), {tiny_model: LookPasses(climbing=2)}) == Passes(2 + 2, 1)
    assert passes_of(cell, Passes(3, 0), {tiny_model: LookPasses(climbing=2)}) == Passes(3, 0)
    assert passes_of(cell, Passes(3, 2), {tiny_model: LookPasses(5, 4, always=1)}) == Passes(15, 11)
    assert passes_of(cell, Passes(3, 1), {}) == Passes(3, 1)


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        ([1.0] * 8, {1: 8.0, 2: 4.0, 4: 2.0, 8: 1.0}),
        ([1.0] * 5, {1: 5.0, 2: 3.0, 4: 2.0}),
        # a unit is not divided: more than two workers save nothing
        ([6.0, 1.0, 1.0, 1.0, 1.0], {1: 10.0, 2: 6.0}),
        # handed out in order, the long one comes last
        ([1.0, 1.0, 6.0], {1: 8.0, 2: 7.0}),
        ([3.0], {1: 3.0}),
        ([], {}),
    ],
)
def test_time_by_workers(each: list[float], expected: dict[int, float]) -> None:
    assert by_workers(each) == expected


def test_time_of_very_many_units_is_bounded() -> None:
    found = by_workers([0.5] * 200_000)
    assert found[1] == 100_000.5 and found[1024] == 100_000 / 1024 + 0.5
    assert list(found) == [2**power for power in range(18)]


def test_the_time_told_is_that_of_a_run(tiny_source: str, tmp_path: Path) -> None:
    # a model that takes 2 ms for an image, whatever is asked of it and whatever else this machine does
    model = write_model(tmp_path / "model", "time.sleep(0.002 * len(x))")
    given = study(model, tiny_source, question="as_attacked", attacks=[{"attack": "pgd", "steps": 3}])
    loader = Loader()
    plan = make_plan(given, loader)
    pixels, labels = images(8)
    speed = time_passes(loader.bench(plan.cells[0]).oracle, pixels, labels.tolist())
    loader.close()
    told = estimate(plan, speeds={model: speed})
    assert told.seconds is not None and len(told.each) == told.units == 4
    began = time.perf_counter()
    run_here(tmp_path / "run", given)
    assert 0.4 < told.seconds / (time.perf_counter() - began) < 2.5
    assert sum(told.each) == pytest.approx(told.seconds)


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
