"""Models that may refuse an image: what records say of them, and the numbers counted from those."""

from __future__ import annotations

import csv
import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import assay
from assay.audit.robust_numbers import groups as audited
from assay.core.compose import Transferred
from assay.core.errors import BadInput
from assay.core.signals import apart
from assay.data import image_digest
from assay.defenses.fitted import Fitted, Threshold, chosen_threshold
from assay.evaluation.analysis.compare import confusion, mcnemar, minimal_budgets, per_class
from assay.evaluation.analysis.rejection import REJECTION_FIELDS, FrozenThreshold
from assay.evaluation.analysis.score import Result, results, worst_case
from assay.evaluation.analysis.transfer import Transfer
from assay.evaluation.records.schema import ADDED, STATUSES, Record, to_table
from assay.evaluation.run import Run
from assay.models import Classifier, load_model
from assay.models.defended import defended
from assay.report.formats import plain
from assay.statistics import clopper_pearson
from tests.support.tiny import SIZE, data, evaluate, images, patterns
from tests.unit.evaluation.test_record import ONE

REFUSES = "max-softmax:threshold=-0.8"
BUDGETS = {"norm": "linf", "eps": ["4/255", "16/255", "64/255"]}
PGD = {"attack": "pgd", "steps": 4}


class Matcher(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("patterns", (patterns() - patterns().mean(0)).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.patterns.T * 2  # type: ignore[operator]  # a buffer


class Refuses(nn.Module):
    """A user's own module that refuses images: its fifth class."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits = self.inner(x)
        excess = 0.8 - logits.softmax(1).amax(1)
        return torch.cat([logits, (logits.amax(1) + excess)[:, None]], 1)


def matcher(**more: Any) -> Classifier:
    return load_model(Classifier(Matcher(), input_shape=(3, SIZE, SIZE), **more))


def refuser() -> Classifier:
    return assay.defend(matcher(), REFUSES)


def fit(bare: Classifier, x: Tensor) -> Classifier:
    scores = -bare.module(x).softmax(1).amax(1)
    one = Threshold(chosen_threshold(scores, 0.1), 2.0, 0.1, scores.sort().values)
    held_out = frozenset(image_digest(image) for image in x)
    return defended(bare, "max-softmax:fpr=0.1", Fitted("max-softmax:fpr=0.1", bare.digest, {0: one}, {}, held_out))


@pytest.fixture(scope="module")
def run() -> Run:
    return evaluate(refuser(), data(40), PGD, BUDGETS, question="worst_case")


def row(at: int, status: str, clean: tuple[int, float], after: tuple[int, float], **more: Any) -> Record:
    (prediction, before), (became, excess) = clean, after
    told = {"clean_prediction": prediction, "clean_excess": before, "clean_refused": before > 0}
    told |= {"prediction": became, "excess": excess, "refused": excess > 0}
    return dataclasses.replace(ONE, **{"sample_id": f"d/{at}", "status": status, "size_linf": 0.05, **told, **more})


# what the model alone says and by how much the refusal leads, before and after; of label 3
TEN = [
    row(0, "clean_wrong", (1, -1.0), (1, -1.0)),
    row(1, "clean_rejected", (3, 0.2), (3, 0.2)),
    row(2, "clean_rejected", (1, 0.7), (1, 0.7)),
    row(3, "broken", (3, -1.0), (1, -1.0)),
    row(4, "broken", (3, -1.0), (1, -0.1)),
    row(5, "rejected", (3, -1.0), (1, 0.3)),  # accepted by the looser threshold
    row(6, "rejected", (3, -1.0), (1, 0.9)),
    row(7, "rejected", (3, -1.0), (3, 0.8)),  # fools nobody
    row(8, "survived", (3, -1.0), (3, -1.0)),
    row(9, "survived", (3, -1.0), (3, -0.5)),
]


def test_ten_samples_counted_by_hand() -> None:
    threshold = FrozenThreshold(200, 10, 0.5)
    (one,) = results(to_table(TEN), thresholds={"m": threshold})
    assert (one.n, one.clean_correct, one.survived, one.broken) == (10, 7, 5, 2)
    assert (one.clean_accuracy, one.robust_accuracy, one.attack_success) == (0.7, 0.5, pytest.approx(2 / 7))
    told = one.rejection
    assert told is not None and (told.rejected, told.clean_rejected) == (3, 2)
    assert (told.strict_robust_accuracy, told.coverage, told.selective_accuracy) == (0.2, 0.8, 7 / 8)
    assert (told.fpr, told.fpr_correct) == (0.2, 1 / 8)
    assert (told.tpr_at_5_fpr, told.sr_at_5_fpr) == (1 / 4, pytest.approx(3 / 7))
    assert (told.fpr_low, told.fpr_high) == pytest.approx((0.024, 0.090), abs=5e-4)
    # where nobody knows the threshold at 5 %, nothing is said about it
    (blind,) = results(to_table(TEN))
    assert blind.rejection is not None and blind.robust_accuracy == 0.5
    assert all(math.isnan(getattr(blind.rejection, name)) for name in ("tpr_at_5_fpr", "sr_at_5_fpr", "fpr_low"))
    # outside the budget nothing fools
    far = [dataclasses.replace(TEN[3], size_linf=0.2), *TEN[4:]]
    (other,) = results(to_table(far), thresholds={"m": threshold})
    assert other.rejection is not None and other.rejection.tpr_at_5_fpr == pytest.approx(1 / 3)


def test_what_compares_records_knows_refusals() -> None:
    table = to_table(TEN)
    (one,) = per_class(table)
    assert (one.n, one.clean_correct, one.survived) == (10, 7, 5)
    assert mcnemar(table, table).both == 5
    least = dict(zip(*(minimal_budgets(table)[name].to_pylist() for name in ("sample_id", "eps")), strict=True))
    assert [least[f"d/{at}"] for at in range(10)] == [0, 0, 0, 0.1, 0.1, None, None, None, None, None]
    refusal = row(10, "broken", (3, -1.0), (3, 0.4), goal="untargeted strict")
    assert confusion(to_table([refusal, TEN[3]]))["prediction"].to_pylist() == [1, None]


@pytest.mark.parametrize(
    ("n", "low", "high"), [(200, 2.4, 9.0), (500, 3.3, 7.3), (1000, 3.7, 6.5), (5000, 4.4, 5.6), (0, 0, 100)]
)
def test_the_interval_of_a_threshold_is_the_exact_one(n: int, low: float, high: float) -> None:
    found = clopper_pearson(n // 20, n)
    assert found == pytest.approx((low / 100, high / 100), abs=5e-4)


OUTCOMES = st.lists(
    st.tuples(
        st.booleans(), st.booleans(),  # right, and refused, before
        *[st.tuples(st.sampled_from(["broken", "rejected", "survived", "error"]), st.floats(-1, 1))] * 2,
    ),
    min_size=1, max_size=20,
)  # fmt: skip


@given(OUTCOMES, st.floats(-0.5, 0.5))
@settings(max_examples=25, deadline=None)
def test_numbers_never_contradict_each_other(found: list[Any], offset: float) -> None:
    rows = []
    for at, (right, refused, *attacks) in enumerate(found):
        clean = (3 if right else 1, 0.5 if refused else -0.5)
        for cell, (status, excess) in zip("ab", attacks, strict=True):
            status = "clean_rejected" if refused else status if right else "clean_wrong"
            after = (1 if status == "broken" else 3, excess if status != "broken" else -abs(excess))
            rows.append(row(at, status, clean, after, cell=cell, attack=cell))
    thresholds = {"m": FrozenThreshold(100, 5, offset)}
    each = results(to_table(rows), thresholds=thresholds)
    (union,) = worst_case(to_table(rows), thresholds=thresholds)
    for one in [*each, union]:
        told = one.rejection
        assert told is not None
        if not one.n:
            continue
        assert told.strict_robust_accuracy <= one.robust_accuracy <= one.clean_accuracy <= told.coverage
        assert told.coverage + told.fpr == pytest.approx(1)
        if one.clean_correct and offset <= 0:
            # by a threshold that is no looser nothing is accepted but what is broken
            assert told.sr_at_5_fpr <= one.attack_success + 1e-12
    if union.n and all(one.n == union.n for one in each):
        assert union.robust_accuracy <= min(one.robust_accuracy for one in each)
        strict = [one.rejection.strict_robust_accuracy for one in each if one.rejection]
        assert union.rejection is not None and union.rejection.strict_robust_accuracy <= min(strict)


def test_records_of_a_rejecting_model_are_what_the_model_says(run: Run) -> None:
    model, (x, y) = refuser(), images(40)
    seen = apart(model.module(x), rejects=True)
    assert seen.excess is not None
    rows = [one for one in run.records().to_pylist() if one["eps_written"] == "4/255"]
    refused = seen.excess > 0
    assert [one["clean_refused"] for one in rows] == refused.tolist() and 0 < int(refused.sum()) < 40
    assert [one["clean_prediction"] for one in rows] == seen.logits.argmax(1).tolist()
    assert [one["clean_excess"] for one in rows] == pytest.approx(seen.excess.tolist())
    assert [one["clean_confidence"] for one in rows] == pytest.approx(seen.logits.softmax(1).amax(1).tolist())
    wanted = torch.where(refused, 0, torch.where(seen.logits.argmax(1) == y, 1, 2)).tolist()
    kinds = {"clean_rejected": 0, "clean_wrong": 2}
    assert [kinds.get(one["status"], 1) for one in rows] == wanted
    every = run.records().to_pylist()
    assert {one["status"] for one in every} >= {"clean_rejected", "rejected", "broken"} and set(STATUSES) == {
        "clean_wrong", "broken", "survived", "rejected", "error", "excluded", "clean_rejected", "certified",
    }  # fmt: skip
    # a class is never that of the refusal, and what is broken is accepted
    assert all(one["prediction"] in range(4) for one in every)
    assert all(not one["refused"] and one["prediction"] != one["label"] for one in every if one["status"] == "broken")
    curve = run.results()
    assert [one.robust_accuracy for one in curve] == sorted((one.robust_accuracy for one in curve), reverse=True)
    strict = [one.rejection.strict_robust_accuracy for one in curve if one.rejection]
    assert strict == sorted(strict, reverse=True) and strict[0] < curve[0].robust_accuracy


def test_a_module_of_ones_own_is_measured_as_a_chain_is(run: Run) -> None:
    own = load_model(Refuses(Matcher()), rejects=True)
    other = evaluate(own, data(40), PGD, BUDGETS, question="worst_case")
    names = ["sample_id", "eps_written", "status", "clean_prediction", "prediction", "clean_refused", "refused"]
    assert run.records(names).to_pylist() == other.records(names).to_pylist()
    x, y = images(40)
    one = assay.attack(assay.PGD(steps=4), own, x, y, threat=assay.Linf("16/255"))
    assert one.refused is not None and not bool((one.refused & one.success).any()) and bool(one.refused.any())
    assert assay.attack(assay.PGD(steps=1), Matcher(), x, y, threat=assay.Linf("16/255")).refused is None
    with pytest.raises(BadInput, match="4 classes"):
        assay.attack(assay.PGD(steps=1), own, x, y + 1, threat=assay.Linf("16/255"))


def test_an_attack_that_wants_refusals_measures_the_strict_accuracy(run: Run) -> None:
    found = evaluate(refuser(), data(40), PGD, BUDGETS, question="worst_case", goal="untargeted strict")
    for one, two in zip(found.results(), run.results(), strict=True):
        assert one.rejection is not None and two.rejection is not None
        assert one.robust_accuracy == one.rejection.strict_robust_accuracy <= two.rejection.strict_robust_accuracy
    broken = [one for one in found.records().to_pylist() if one["status"] == "broken"]
    assert any(one["refused"] for one in broken)
    with pytest.raises(BadInput, match="refuses nothing"):
        evaluate(matcher(), data(4), PGD, BUDGETS, goal="untargeted strict")


def test_runs_without_refusals_say_nothing_of_them(run: Run) -> None:
    bare = evaluate(matcher(), data(8), PGD, BUDGETS)
    assert all(one.rejection is None and not one.ignores_defense for one in bare.results())
    names = plain(bare.results())[0]
    assert not {*REJECTION_FIELDS, "rejection", "ignores_defense"} & set(names)
    assert bare.records(["refused", "clean_excess"]).to_pylist()[0] == {"refused": None, "clean_excess": None}
    assert set(REJECTION_FIELDS) <= set(plain(run.results())[0])
    assert "rejects" not in bare.manifest["models"][next(iter(bare.manifest["models"]))]


def test_records_made_before_refusals_were_kept_open_all_the_same(run: Run, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(run.path, old)
    for shard in (old / "results").rglob("*.parquet"):
        table = pq.read_table(shard, partitioning=None)
        pq.write_table(table.drop_columns(list(ADDED[ADDED.index("clean_refused") :])), shard)
    for one, now in zip(Run.open(old).results(), run.results(), strict=True):
        assert one == dataclasses.replace(now, rejection=None)


def test_a_targeted_attack_says_nothing_of_the_strict_accuracy() -> None:
    found = evaluate(refuser(), data(16), PGD, BUDGETS, question="worst_case", goal="targeted next")
    for one in found.results():
        assert one.rejection is not None and math.isnan(one.rejection.strict_robust_accuracy)
        assert one.rejection.coverage < 1
    became = {
        (one["prediction"] - one["label"]) % 4 for one in found.records().to_pylist() if one["status"] == "broken"
    }
    assert became == {1}


def test_images_of_an_undefended_twin_are_not_adaptive() -> None:
    bare = matcher()
    named = dataclasses.replace(bare, spec="bare")
    given = {"model": [refuser(), named], "data": data(16)}
    attacks = [{**PGD, "surrogate": "bare"}, PGD]
    found = evaluate(given["model"], given["data"], attacks, BUDGETS, question="worst_case")
    ignores = {
        (one.model.startswith("bare"), "surrogate" in one.attack): one.ignores_defense for one in found.results()
    }
    # of a model without a defence, images of another are an attack like any other
    refusing = [one for one in found.results() if one.rejection is not None]
    assert {"surrogate" in one.attack: one.ignores_defense for one in refusing} == {True: True, False: False}
    assert sum(ignores.values()) == 1
    assert not any(one.ignores_defense for one in found.worst_case())
    alone = evaluate(given["model"], given["data"], attacks[:1], BUDGETS, question="worst_case")
    assert [one.ignores_defense for one in alone.worst_case() if one.rejection] == [True] * 3
    assert all(not group.pivot.head.model.model.endswith(REFUSES) for group in audited(alone))
    # a defence that refuses nothing can be ignored as well
    changed = [assay.defend(matcher(), "bit-depth:bits=3"), named]
    (one, *_) = evaluate(changed, data(8), attacks[0], BUDGETS).results()
    assert one.ignores_defense and one.rejection is None and plain([one])[0]["ignores_defense"]


def test_a_surrogate_without_refusals_is_attacked_as_it_is() -> None:
    x, y = images(12)
    bare, model = matcher(), refuser()
    found = assay.attack(Transferred(assay.PGD(steps=4), bare.oracle()), model, x, y, threat=assay.Linf("64/255"))
    alone = assay.attack(assay.PGD(steps=4), bare, x, y, threat=assay.Linf("64/255"), keep="last")
    assert torch.equal(found.x_adv, alone.x_adv)
    assert found.logits.shape[1] == 5


def test_what_carries_over_to_a_model_that_refuses_is_wrong_and_accepted() -> None:
    bare, model = matcher(), refuser()
    threat = assay.Linf("64/255")
    transfer = Transfer({"bare": (bare,)}, {"bare": bare, "refuses": model}, {"pgd": assay.PGD(steps=4)}, threat)
    found = {one.target: one for one in transfer.measure(data(24)).each}
    x, y = images(24)
    at = assay.attack(assay.PGD(steps=4), bare, x, y, threat=threat, keep="last").x_adv
    clean, after = (apart(model.module(pixels), rejects=True) for pixels in (x, at))
    assert clean.excess is not None and after.excess is not None
    right = (bare.module(x).argmax(1) == y) & (clean.excess <= 0)
    wrong = (after.logits.argmax(1) != y) & (after.excess <= 0)
    assert (found["refuses"].both, found["refuses"].broken) == (int(right.sum()), int((right & wrong).sum()))
    assert found["refuses"].both < found["bare"].both


def test_images_of_the_fit_are_not_evaluated() -> None:
    bare, (x, _) = matcher(), images(30)
    model = fit(bare, x[5:9])
    said = r"4 images of those to be evaluated \('tiny/0005', 'tiny/0006', 'tiny/0007', …\) were used to choose the"
    with pytest.raises(BadInput, match=said):
        evaluate(model, data(30), PGD, BUDGETS)
    large = dataclasses.replace(data(30), input_shape=None)
    with pytest.raises(BadInput, match=said):  # pixels that are not read beforehand are compared as they are attacked
        evaluate(model, large, PGD, BUDGETS)
    assert "were used to choose" in str(assay.doctor(model, data(30)))


def test_the_threshold_of_a_fit_stands_in_the_manifest() -> None:
    bare, (x, _) = matcher(), images(60, seed=5)
    model = fit(bare, x)
    found = evaluate(model, data(30), PGD, BUDGETS, question="worst_case")
    facts = next(iter(found.manifest["models"].values()))
    assert facts["defenses"] == "max-softmax:fpr=0.1" and facts["rejects"]
    assert facts["threshold"]["n"] == 60 and facts["threshold"]["above"] == 6
    assert model.fitted is not None
    one = model.fitted.thresholds[0]
    assert facts["threshold"]["offset_at_5_fpr"] == pytest.approx(2 * (one.at(0.05) - one.value)) != 0
    for result in found.results():
        rows = [each for each in found.records().to_pylist() if each["eps"] == result.eps]
        asked = [each for each in rows if each["status"] in ("broken", "rejected", "survived")]
        fooled = [each for each in asked if each["prediction"] != each["label"]]
        passed = [each for each in fooled if each["excess"] <= facts["threshold"]["offset_at_5_fpr"]]
        assert result.rejection is not None
        assert result.rejection.sr_at_5_fpr == len(passed) / len(asked)
        rate = 1 - len(passed) / len(fooled) if fooled else math.nan
        assert result.rejection.tpr_at_5_fpr == pytest.approx(rate, nan_ok=True)
    assert fooled


def test_predicted_labels_are_classes() -> None:
    x, _ = images(12)
    found = evaluate(refuser(), x, PGD, BUDGETS, labels="predicted")
    rows = found.records(["label", "clean_prediction", "clean_refused", "status"]).to_pylist()
    assert all(one["label"] == one["clean_prediction"] in range(4) for one in rows)
    assert all((one["status"] == "clean_rejected") == one["clean_refused"] for one in rows)
    assert all(math.isnan(one.rejection.selective_accuracy) for one in found.results() if one.rejection)


def test_a_doctor_warns_of_a_model_that_refuses_most_images() -> None:
    good = str(assay.doctor(refuser(), data(40)))
    assert "coverage" in good and "refuses" not in good
    poor = assay.doctor(assay.defend(matcher(), "max-softmax:threshold=-1"), data(40))
    assert any(one.check == "coverage" and "clean images" in one.text for one in poor.warnings)


def test_exported_images_say_no_class_where_they_are_refused(tmp_path: Path) -> None:
    found = assay.evaluate(
        refuser(), data(16), PGD, {"norm": "linf", "eps": ["16/255"]}, audit="off", doctor=False, question="worst_case"
    )
    found.export_images(tmp_path / "out", form="npy", only="all")
    with (tmp_path / "out" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16 and {one["status"] for one in rows} >= {"rejected", "clean_rejected"}
    refused = [one for one in rows if one["status"] in ("rejected", "clean_rejected")]
    assert all(one["prediction"] == "" and one["still_fools"] == "false" for one in refused)
    assert all(one["prediction"] in "0123" for one in rows)


def test_one_result_is_the_same_in_every_form(run: Run) -> None:
    one: Result = run.results()[-1]
    flat = plain([one])[0]
    assert one.rejection is not None
    assert {name: flat[name] for name in REJECTION_FIELDS} == pytest.approx(
        dataclasses.asdict(one.rejection), nan_ok=True
    )
