from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from assay.attacks import build
from assay.core.compose import run as run_method
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.oracle import TorchOracle, frozen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.threat import Linf
from assay.data import Sample
from assay.evaluation.attack_unit import Outcome, do
from assay.evaluation.cell import Unit
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Bench, Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.records.schema import Record, from_table
from assay.models import Classifier, load_model
from tests.support.tiny import data, images, patterns, study

N = 24


class Small(nn.Module):
    """Two layers of fixed weights that know the tiny classes, and count the rows they see."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Parameter((patterns() - patterns().mean(0)).flatten(1))
        self.second = nn.Parameter(torch.eye(4) + 0.1 * torch.randn(4, 4, generator=generator))
        self.rows: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(x))
        return torch.tanh(x.flatten(1) @ self.first.T * 0.3) @ self.second * 4


def outcomes(classifier: Classifier, batch: int | None = None, n: int = N, **more: Any) -> list[Outcome]:
    """Do every unit of a study of one cell, and return what they gave."""
    given = study(classifier.spec, "tiny", **{"attacks": "fgsm", "chunk": n, **more})
    loader = Loader(models={classifier.spec: classifier}, datasets={"tiny": data(n)}, batch=batch)
    (cell,) = make_plan(given, loader).cells
    found = [do(Unit(cell, chunk), Experiment.of(cell, loader)) for chunk in range(cell.chunks)]
    loader.close()
    return found


def records(classifier: Classifier, **more: Any) -> list[Record]:
    found = [record for outcome in outcomes(classifier, **more) for record in from_table(outcome.table)]
    return sorted(found, key=lambda record: (record.eps, record.sample_id))


@pytest.fixture(scope="module")
def small() -> Classifier:
    return load_model(Small())


ATTACKS = ["fgsm", {"attack": "pgd", "steps": 5}, {"attack": "pgd", "steps": 3, "restarts": 2}, "bim", "uniform-noise"]
QUESTIONS = ["worst_case", "as_attacked"]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_eps_0_is_the_clean_prediction(small: Classifier, attack: Any, question: str) -> None:
    for record in records(small, attacks=attack, question=question):
        if record.eps == 0:
            assert record.prediction == record.clean_prediction and record.confidence == record.clean_confidence
            assert record.rank == record.clean_rank and record.status in ("survived", "clean_wrong")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
@pytest.mark.parametrize("change", [{"chunk": 5}, {"batch": 7}, {"chunk": 9, "batch": 2}], ids=str)
def test_chunks_and_batches_change_nothing(
    small: Classifier, attack: Any, question: str, change: dict[str, Any]
) -> None:
    whole = records(small, attacks=attack, question=question)
    cut = records(small, attacks=attack, question=question, **change)
    assert len(whole) == len(cut) == N * 4
    for a, b in zip(whole, cut, strict=True):
        same = {"cell": "", "chunk": 0, "seconds": 0.0, "confidence": None, "clean_confidence": None}
        sizes = dict.fromkeys(("size_linf", "size_l2", "size_l1", "size_l0"))
        assert dataclasses.replace(a, **same, **sizes) == dataclasses.replace(b, **same, **sizes)  # type: ignore[arg-type]
        assert a.confidence == pytest.approx(b.confidence, abs=1e-5)
        assert a.size_l2 == pytest.approx(b.size_l2, abs=1e-4)


def test_every_sample_and_budget_has_one_record(small: Classifier) -> None:
    found = records(small, chunk=7)
    assert sorted({(one.sample_id, one.eps_written) for one in found}) == sorted(
        (f"tiny/{i:04d}", eps) for i in range(N) for eps in ("0", "4/255", "16/255", "64/255")
    )
    assert all(0 < one.seconds < 10 for one in found)


def test_fgsm_over_eight_budgets_costs_nine_forwards_and_one_backward(small: Classifier) -> None:
    eps = [i / 100 for i in range(1, 9)]
    (outcome,) = outcomes(small, threats={"norm": "linf", "eps": eps}, question="as_attacked")
    assert (outcome.forwards, outcome.backwards) == (9 * N, N)
    found = from_table(outcome.table)
    first = [one for one in found if one.eps == 0.01]
    assert all((one.forwards, one.backwards, one.queries, one.steps) == (2, 1, 2, 2) for one in first)
    rest = [one for one in found if one.eps > 0.01]
    assert all((one.forwards, one.backwards, one.steps) == (1, 0, 1) for one in rest)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_what_is_billed_is_what_the_model_saw(attack: Any) -> None:
    module = Small()
    (outcome,) = outcomes(load_model(module), attacks=attack)
    probe = 1  # one image, to learn the number of classes
    assert sum(module.rows) == outcome.forwards + probe


def test_records_agree_with_the_attack_run_by_hand(small: Classifier) -> None:
    pixels, labels = images(N)
    found = records(small, attacks={"attack": "pgd", "steps": 5}, question="as_attacked", seed=4)
    draws = Draws.of([f"tiny/{i:04d}" for i in range(N)], 4)
    with frozen(small.module):
        problem = Problem(TorchOracle(small.module), pixels, Untargeted(labels), Linf("16/255"))
        by_hand = run_method(build("pgd", steps=5), problem, draws, keeps=Keeps.LAST)
    mine = [one for one in found if one.eps_written == "16/255"]
    assert [one.prediction for one in mine] == by_hand.logits.argmax(1).tolist()
    assert [one.size_linf for one in mine] == pytest.approx(by_hand.size.tolist())
    clean = small.module(pixels).argmax(1)
    for one, success, guess in zip(mine, by_hand.success.tolist(), clean.tolist(), strict=True):
        expected = "clean_wrong" if guess != one.label else "broken" if success else "survived"
        assert (one.status, one.clean_prediction) == (expected, guess)


def test_worst_case_leaves_wrong_samples_alone_and_only_falls(small: Classifier) -> None:
    found = records(small, attacks={"attack": "pgd", "steps": 5})
    wrong = {one.sample_id for one in found if one.status == "clean_wrong"}
    assert wrong and all(one.backwards == 0 for one in found if one.sample_id in wrong)
    broken: set[str] = set()
    inherited = 0
    for eps in sorted({one.eps for one in found}):
        here = {one.sample_id: one for one in found if one.eps == eps}
        assert {name for name, one in here.items() if one.status == "clean_wrong"} == wrong
        now = {name for name, one in here.items() if one.status == "broken"}
        assert broken <= now
        for name in now:
            origin = here[name].from_eps
            assert (origin is not None and origin < eps) == (name in broken)
            inherited += origin is not None
            size = here[name].size_linf
            assert size is not None and size <= (eps if origin is None else origin) * (1 + 1e-5) + 1e-6
        broken = now
    assert inherited


def test_as_attacked_attacks_every_sample(small: Classifier) -> None:
    found = records(small, question="as_attacked")
    assert {one.status for one in found} >= {"clean_wrong", "broken", "survived"}
    assert all(one.from_eps is None and one.forwards >= 1 for one in found if one.eps > 0)
    assert all((one.size_linf or 0) > 0 for one in found if one.status == "clean_wrong" and one.eps > 0)


def test_sizes_are_those_of_the_change(small: Classifier) -> None:
    for one in records(small, question="as_attacked", threats={"norm": "linf", "eps": ["16/255"], "box": False}):
        assert one.size_linf == pytest.approx(16 / 255, abs=1e-6)
        assert one.size_l0 == 3 * 64 and one.size_l1 == pytest.approx(192 * 16 / 255, rel=1e-4)
        assert one.size_l2 == pytest.approx((192**0.5) * 16 / 255, rel=1e-4)


def test_a_grid_makes_every_image_an_8_bit_one(small: Classifier) -> None:
    threats = {"norm": "linf", "eps": ["3.7/255"], "grid": 255}
    (outcome,) = outcomes(small, threats=threats, attacks={"attack": "pgd", "steps": 5}, question="as_attacked")
    assert max(one.size_linf or 0 for one in from_table(outcome.table)) == pytest.approx(3 / 255, abs=1e-6)
    for picture in outcome.pictures:
        levels = (picture.original + picture.perturbation.float()) * 255
        assert (levels - levels.round()).abs().max() < 0.01


@pytest.mark.parametrize("goal", ["targeted least-likely", "targeted next", "targeted random", "targeted 2"])
def test_targets_are_recorded_and_reached(small: Classifier, goal: str) -> None:
    found = records(small, goal=goal, attacks={"attack": "pgd", "steps": 10})
    left_out = [one for one in found if one.status == "excluded"]
    assert left_out == [one for one in found if one.target == one.label]
    assert {one.label for one in left_out} == ({2} if goal == "targeted 2" else set())
    assert all(one.forwards <= 1 and one.size_linf is None for one in left_out), "they are not attacked"
    assert all(one.target is not None for one in found)
    broken = [one for one in found if one.status == "broken"]
    assert broken and all(one.prediction == one.target for one in broken)
    survived = [one for one in found if one.status == "survived"]
    assert all(one.prediction != one.target for one in survived)


def test_out_of_top_counts_ranks(small: Classifier) -> None:
    found = records(small, goal="out-of-top 2", attacks={"attack": "pgd", "steps": 10})
    for one in found:
        assert one.rank is not None and one.clean_rank is not None
        expected = "clean_wrong" if one.clean_rank > 2 else "broken" if one.rank > 2 else "survived"
        assert one.status == expected
    assert "broken" in {one.status for one in found}


def test_pictures_are_the_most_and_the_least_changed_and_a_survivor(small: Classifier) -> None:
    pixels, _ = images(N)
    found = outcomes(small, chunk=8, attacks={"attack": "pgd", "steps": 5})
    assert found[0].pictures and found[1].pictures and not found[2].pictures
    by_id = {(one.sample_id, one.eps): one for outcome in found for one in from_table(outcome.table)}
    for picture in found[0].pictures:
        record = by_id[picture.sample_id, picture.eps]
        assert (picture.status, picture.label, picture.size) == (record.status, record.label, record.size_linf)
        assert (picture.role == "survivor") == (picture.status == "survived")
        at = int(picture.sample_id.split("/")[1])
        assert torch.equal(picture.original, pixels[at])
        assert float(picture.perturbation.abs().max()) == pytest.approx(picture.size, rel=1e-3, abs=1e-6)
        assert picture.clean_logits.argmax() == record.clean_prediction
        assert picture.logits.argmax() == record.prediction
    assert {picture.role for picture in found[0].pictures} == {"most", "least", "survivor"}


def test_loaded_samples_are_checked_against_the_model() -> None:
    wrong = dataclasses.replace(load_model(Small()), input_shape=(3, 8, 9))
    loader = Loader(models={wrong.spec: wrong}, datasets={"tiny": data(4)})
    (cell,) = make_plan(study(wrong.spec, "tiny", attacks="fgsm"), loader).cells
    with pytest.raises(ValueError, match="'tiny/0000' is 3 x 8 x 8, the model expects 3 x 8 x 9"):
        do(Unit(cell, 0), Experiment.of(cell, loader))


def test_a_bench_without_weights_is_on_the_cpu() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    bench = Bench(load_model(Mean()), TorchOracle(Mean()))
    assert bench.device.type == "cpu" and bench.classes(torch.rand(1, 3, 8, 8)) == 3
    assert isinstance(data(2).load([0])[0], Sample)
