"""The answers of a gate on runs whose numbers are known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import BadInput
from assay.evaluation.records.verdicts import REFUTED, SUSPECT, TRUSTED
from assay.evaluation.run import Run
from assay.evaluation.study.gate import GateRow
from assay.gate.answers import MET, MISSED, UNSURE, Finding, Outcome, more_for_difference, more_for_share, plain
from assay.gate.rules import Place, answers
from assay.gate.sides import Side, side_of
from assay.statistics import paired_difference, wilson
from tests.support.gated import Fate, fates, gated, verdict

PGD = "pgd:steps=10"
ROBUST = {"robust_accuracy": ">= 40 %", "verdict": "any"}
NOT_WORSE = {"robust_accuracy": "not worse by more than 1 point", "against": "baseline"}

Made = Callable[..., Run]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    number = iter(range(100))
    return lambda *cells, **more: gated(tmp_path / f"run-{next(number)}", *cells, **more)


def asked(run: Run, *rows: dict[str, Any], baseline: Run | None = None) -> Outcome:
    places = [Place("study.yaml", 5 + at, f"study.yaml:{5 + at}:3") for at in range(len(rows))]
    side: Callable[[], Side] | None = None if baseline is None else lambda: side_of(baseline)
    return answers(run, [GateRow.model_validate(row) for row in rows], places, side)


def only(outcome: Outcome) -> Finding:
    ((finding,),) = [one.findings for one in outcome.answers]
    return finding


def fate(left: int, broken: int, wrong: int = 0, errors: int = 0, **more: Any) -> Fate:
    return Fate({"4/255": fates(left, broken, wrong, errors)}, **more)


@pytest.mark.parametrize(
    ("left", "answer"),
    [(500, MET), (431, MET), (430, UNSURE), (400, UNSURE), (370, UNSURE), (369, MISSED), (0, MISSED)],
)
def test_the_interval_decides(made: Made, left: int, answer: str) -> None:
    finding = only(asked(made(fate(left, 1000 - left)), ROBUST))
    assert finding.answer == answer
    low, high = wilson(left, 1000)
    assert (finding.value, finding.low, finding.high) == (left / 1000, low, high)
    # the edge cases above are those of Wilson's interval
    assert answer == (MET if low >= 0.4 else MISSED if high < 0.4 else UNSURE)


@pytest.mark.parametrize(("hits", "n", "limit"), [(430, 1000, 0.4), (370, 1000, 0.4), (11, 20, 0.5), (99, 100, 0.98)])
def test_so_many_more_images_settle_it_and_fewer_do_not(hits: int, n: int, limit: float) -> None:
    more = more_for_share(hits, n, limit, 0.95)
    assert more is not None

    def settled(count: int) -> bool:
        low, high = wilson(hits / n * count, count)
        return low >= limit or high < limit

    assert settled(n + more)
    assert not settled(n + more - 1)


def test_a_share_at_the_limit_is_settled_by_no_number_of_images() -> None:
    assert more_for_share(40, 100, 0.4, 0.95) is None
    assert more_for_difference(10, 0, 1000, 0.01, 0.95) is None


def test_so_many_more_pairs_settle_a_difference() -> None:
    more = more_for_difference(8, 2, 400, 0.01, 0.95)
    assert more is not None
    times = (400 + more) / 400
    low, high = paired_difference(round(2 * times), round(8 * times), 400 + more)
    assert low > -0.01 or high < -0.01
    low, high = paired_difference(round(2 * times / 2), round(8 * times / 2), (400 + more) // 2)
    assert low < -0.01 < high


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"unfit": ["only the first 1000 samples of mnist/test (limit)"]}, "limit"),
        ({"unfit": ["2 records are errors: their samples could not be evaluated"]}, "errors"),
    ],
)
def test_a_run_that_is_not_reportable_meets_nothing_and_may_miss(made: Made, more: dict[str, Any], why: str) -> None:
    good = asked(made(fate(900, 50, 50), **more), ROBUST, {"clean_accuracy": ">= 40 %"})
    assert [one.answer for one in good.answers] == [UNSURE, UNSURE]
    assert why in good.answers[0].findings[0].why
    assert asked(made(fate(100, 900), **more), ROBUST).answer == MISSED


def test_missing_records_meet_nothing(made: Made) -> None:
    run = made(fate(900, 100), fate(900, 100, attack=PGD))
    run.store.shard(next(iter(run.cells)), 0).unlink()
    assert asked(run, ROBUST).answer == UNSURE


def test_a_run_without_records_yet_says_so(made: Made) -> None:
    run = made(fate(900, 100))
    run.store.shard(next(iter(run.cells)), 0).unlink()
    with pytest.raises(BadInput, match="1 chunk of records is not there"):
        asked(run, ROBUST)


def test_errors_may_have_been_right(made: Made) -> None:
    # 300 of 800 are 37.5 %, below; with 200 that may have been right 500 of 1000 would be above
    assert only(asked(made(fate(270, 530)), ROBUST)).answer == MISSED
    assert only(asked(made(fate(270, 530, errors=200), unfit=["errors"]), ROBUST)).answer == UNSURE


def test_a_model_of_which_no_worst_case_was_sought_is_not_passed_over(made: Made) -> None:
    run = made(fate(900, 100), fate(100, 900, model="other.py:net", question="as_attacked"))
    answer = asked(run, ROBUST).answers[0]
    assert [(one.model, one.answer) for one in answer.findings] == [("zoo:mnist-cnn", MET), ("other.py:net", MISSED)]
    # of one model the worst case is the number; one attack that left less in the same budget throws doubt on it
    both = only(asked(made(fate(900, 100), fate(100, 900, question="as_attacked")), ROBUST))
    assert (both.value, both.answer) == (0.9, UNSURE)
    alike = only(asked(made(fate(900, 100), fate(900, 100, question="as_attacked")), ROBUST))
    assert (alike.value, alike.answer) == (0.9, MET)


@pytest.mark.parametrize("more", [{}, {"class": "*"}])
@pytest.mark.parametrize("row", [ROBUST, NOT_WORSE])
def test_where_no_image_could_be_evaluated_nothing_can_be_told(
    made: Made, row: dict[str, Any], more: dict[str, str]
) -> None:
    outcome = asked(made(fate(0, 0, errors=100), unfit=["errors"]), {**row, **more}, baseline=made(fate(50, 50)))
    assert outcome.answer == UNSURE
    for finding in outcome.answers[0].findings:
        assert "no image could be evaluated" in finding.why and finding.value is None
    json.dumps(plain(outcome, 5), allow_nan=False)


@pytest.mark.parametrize(
    ("said", "wanted", "answer"),
    [
        (None, None, UNSURE), (None, "trusted", UNSURE), (None, "not refuted", UNSURE), (None, "any", MET),
        (TRUSTED, None, MET), (TRUSTED, "trusted", MET), (TRUSTED, "not refuted", MET), (TRUSTED, "any", MET),
        (SUSPECT, None, UNSURE), (SUSPECT, "trusted", UNSURE), (SUSPECT, "not refuted", MET), (SUSPECT, "any", MET),
        (REFUTED, None, UNSURE), (REFUTED, "trusted", UNSURE), (REFUTED, "not refuted", UNSURE),
        (REFUTED, "any", UNSURE),
    ],
)  # fmt: skip
def test_a_verdict_stands_in_the_way(made: Made, said: str | None, wanted: str | None, answer: str) -> None:
    one = fate(900, 100)
    run = made(one, verdicts=[] if said is None else [verdict(one, "4/255", said)])
    row = {"robust_accuracy": ">= 40 %", **({} if wanted is None else {"verdict": wanted})}
    assert asked(run, row, {**row, "attack": "fgsm"}, {**row, "class": "*"}).answer == answer
    # so few are few, whoever looked
    assert asked(run, {**row, "robust_accuracy": ">= 95 %"}).answer == MISSED


def test_a_limit_on_a_number_that_nobody_audited_says_how_to_go_on(made: Made) -> None:
    run = made(fate(900, 100))
    told = only(asked(run, {"robust_accuracy": ">= 40 %"})).why
    assert "not audited: a broken attack leaves as much" in told
    assert "assay audit RUN" in told
    assert "verdict: any" in told
    assert "not audited (verdict: any accepts that)" in only(asked(run, ROBUST)).why
    assert "not audited (a comparison may be met without an audit)" in only(asked(run, NOT_WORSE, baseline=run)).why
    assert asked(run, {**NOT_WORSE, "verdict": "trusted"}, baseline=run).answer == UNSURE


@pytest.mark.parametrize(
    ("said", "trusted", "not_refuted"),
    [(None, UNSURE, UNSURE), (TRUSTED, MET, MET), (SUSPECT, UNSURE, MET), (REFUTED, MISSED, MISSED)],
)
def test_a_verdict_alone(made: Made, said: str | None, trusted: str, not_refuted: str) -> None:
    one = fate(900, 100)
    run = made(one, verdicts=[] if said is None else [verdict(one, "4/255", said)])
    outcome = asked(run, {"verdict": "trusted"}, {"verdict": "not refuted"})
    assert [row.answer for row in outcome.answers] == [trusted, not_refuted]


def test_what_an_escalation_broke_is_broken(made: Made) -> None:
    one = fate(900, 100)
    finding = only(asked(made(one, verdicts=[verdict(one, "4/255", REFUTED, broken=800)]), ROBUST))
    assert (finding.answer, finding.value) == (MISSED, 0.1)


def test_a_black_box_never_meets_a_robust_row_and_may_miss_it(made: Made) -> None:
    good = asked(made(fate(900, 100, facts={"access": "scores"})), ROBUST, {"clean_accuracy": ">= 40 %"})
    assert [one.answer for one in good.answers] == [UNSURE, MET]
    assert "not broken within" in good.answers[0].findings[0].why
    assert asked(made(fate(100, 900, facts={"access": "scores"})), ROBUST).answer == MISSED


def test_one_attack_is_no_robustness_unless_it_is_asked_for(made: Made) -> None:
    run = made(fate(900, 100, question="as_attacked"))
    assert asked(run, ROBUST).answer == UNSURE
    assert asked(run, {**ROBUST, "attack": "fgsm"}).answer == MET


def test_what_the_run_itself_shows_to_be_less_meets_nothing(made: Made) -> None:
    stepped = fate(200, 800, attack=PGD, question="as_attacked")
    for lower in (stepped, fate(200, 800, attack=PGD, goal="targeted next"),
                  Fate({"2/255": fates(200, 800)}, attack=PGD, question="as_attacked")):  # fmt: skip
        finding = only(asked(made(fate(900, 100), lower), {**ROBUST, "threat": "linf 4/255"}))
        assert finding.answer == UNSURE
        assert "left 20.0 % inside the same budget" in finding.why
    both = made(fate(900, 100), fate(200, 800, question="as_attacked"))
    assert asked(both, {**ROBUST, "attack": "fgsm"}).answer == UNSURE
    # what would meet the row by itself, is of another attack, or of a larger budget says nothing against it
    assert asked(made(fate(900, 100), fate(899, 101, attack=PGD, question="as_attacked")), ROBUST).answer == MET
    assert asked(made(fate(900, 100), stepped), {**ROBUST, "attack": "fgsm"}).answer == MET
    wider = Fate({"8/255": fates(200, 800)}, attack=PGD, question="as_attacked")
    assert asked(made(fate(900, 100), wider), {**ROBUST, "threat": "linf 4/255"}).answer == MET
    # a targeted goal is harder to reach
    harder = made(fate(900, 100, goal="targeted next"), fate(200, 800))
    assert asked(harder, {**ROBUST, "goal": "targeted next"}).answer == MET


def test_a_ball_is_not_met_by_a_part_of_it(made: Made) -> None:
    run = made(fate(900, 100, grid=255))
    with pytest.raises(BadInput, match=r"There are: .*linf grid=255 4/255"):
        asked(run, {**ROBUST, "threat": "linf 4/255"})
    for threat in ("linf", "linf grid=255 4/255"):
        assert asked(run, {**ROBUST, "threat": threat}).answer == MET


def test_images_made_on_another_model_are_an_upper_bound(made: Made) -> None:
    run = made(fate(900, 100))
    ((digest, cell),) = run.manifest["cells"].items()
    run.manifest["cells"][digest] = {**cell, "attack": "fgsm(surrogate=other)"}
    finding = only(asked(run, ROBUST))
    assert finding.answer == UNSURE
    assert "made on another model" in finding.why


def test_several_attacks_count_by_their_worst_case(made: Made) -> None:
    # each leaves 90 %, together they leave 80 %
    first = Fate({"4/255": fates(900, 100)})
    second = Fate({"4/255": [*fates(0, 100), *fates(900, 0)]}, attack=PGD)
    finding = only(asked(made(first, second), ROBUST))
    assert (finding.value, finding.attack, len(finding.cells)) == (0.8, "worst case of 2", 2)
    alone = asked(made(first, second), {**ROBUST, "attack": "pgd"})
    assert only(alone).value == 0.9


def test_rows_choose_their_numbers(made: Made) -> None:
    one = Fate({"2/255": fates(900, 100), "8/255": fates(100, 900)})
    run = made(one)
    outcome = asked(run, ROBUST, {**ROBUST, "threat": "linf 2/255"}, {**ROBUST, "threat": "linf 0.00784313725490196"},
                    {**ROBUST, "threat": "linf", "model": "zoo:*", "data": "mnist/test"})  # fmt: skip
    assert [one.answer for one in outcome.answers] == [MISSED, MET, MET, MISSED]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({**ROBUST, "threat": "linf 3/255"}, r"study.yaml:5:3  gate\[0\]: .*'linf 3/255'. There are: zoo:mnist-cnn on"),
        ({**ROBUST, "threat": "l2"}, "There are: "),
        ({**ROBUST, "model": "nobody"}, "model 'nobody'"),
        ({**ROBUST, "attack": "apgd"}, "attack 'apgd'"),
        ({**ROBUST, "goal": "targeted next"}, "goal 'targeted next'"),
        ({"clean_accuracy": ">= 4 %", "data": "x"}, "zoo:mnist-cnn on mnist/test"),
        ({**ROBUST, "class": "seven"}, "There are: 0, 1, 2"),
        ({"verdict": "trusted", "threat": "linf 3/255"}, "There are"),
    ],
)  # fmt: skip
def test_a_row_that_matches_nothing_says_what_is_there(made: Made, row: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        asked(made(fate(900, 100)), row)


def test_classes(made: Made) -> None:
    # of every ten samples one is of each class; all of class 0 fall
    statuses = ["broken" if i % 10 == 0 else "survived" for i in range(1000)]
    run = made(Fate({"4/255": statuses}, classes=["<b>&]]>", *map(str, range(1, 10))]))
    outcome = asked(run, {**ROBUST, "class": "*"}, {**ROBUST, "class": "3"}, {**ROBUST, "class": "<b>&]]>"}, ROBUST)
    assert [one.answer for one in outcome.answers] == [MISSED, MET, MISSED, MET]
    assert [one.class_name for one in outcome.answers[0].telling] == ["<b>&]]>"]
    assert [one.n for one in outcome.answers[0].findings] == [100] * 10


def test_many_classes_are_tested_at_once(made: Made) -> None:
    # by itself one class misses at 95 %, among fifty that is chance
    bad, n = 12, 50
    assert wilson(bad, n)[1] < 0.4
    statuses = ["broken" if i % 50 == 0 and i // 50 >= bad else "survived" for i in range(50 * n)]
    run = made(Fate({"4/255": statuses}, classes=list(map(str, range(50)))))
    alone = only(asked(run, {**ROBUST, "class": "0"}))
    (among,) = [one for one in asked(run, {**ROBUST, "class": "*"}).answers[0].findings if one.class_name == "0"]
    assert (alone.answer, among.answer) == (MISSED, UNSURE)
    assert "one of 50" in among.why


def pair(both: int, lost: int, won: int, neither: int) -> tuple[Sequence[str], Sequence[str]]:
    before = fates(both + lost, won + neither)
    now = [*fates(both, 0), *fates(0, lost), *fates(won, 0), *fates(0, neither)]
    return before, now


@pytest.mark.parametrize(
    ("counts", "answer"),
    [
        ((500, 0, 0, 500), MET), ((500, 3, 3, 494), MET), ((500, 30, 30, 440), UNSURE), ((500, 30, 2, 468), MISSED),
        ((400, 100, 2, 498), MISSED), ((500, 10, 0, 490), UNSURE), ((500, 0, 100, 400), MET),
    ],
)  # fmt: skip
def test_against_a_baseline(made: Made, counts: tuple[int, int, int, int], answer: str) -> None:
    before, now = pair(*counts)
    old, new = made(Fate({"4/255": before})), made(Fate({"4/255": now}, weights="bbbb"))
    finding = only(asked(new, NOT_WORSE, baseline=old))
    both, lost, won, _ = counts
    low, high = paired_difference(won, lost, 1000)
    assert finding.answer == answer == (MET if low > -0.01 else MISSED if high < -0.01 else UNSURE)
    assert finding.change is not None
    assert (finding.change.both, finding.change.only_a, finding.change.only_b) == (both, lost, won)
    assert (finding.value, finding.low, finding.high) == (pytest.approx((won - lost) / 1000), low, high)


def test_other_weights_versions_and_seeds_are_told(made: Made) -> None:
    old = made(fate(500, 500))
    new = made(fate(500, 500, weights="bbbb", version=2, seed=3), versions={"torch": "2.15.0"})
    told = "; ".join(asked(new, NOT_WORSE, baseline=old).differs)
    for part in ("other weights (aaaa, now bbbb)", "version 1, now 2", "seed 0, now 3", "torch 2.14.0, now 2.15.0"):
        assert part in told


def test_other_data_are_refused(made: Made) -> None:
    with pytest.raises(BadInput, match=r"fingerprint f00d in .*, beef in "):
        asked(made(fate(500, 500, fingerprint="beef")), NOT_WORSE, baseline=made(fate(500, 500)))


def test_a_milder_attack_than_that_of_the_baseline_meets_nothing(made: Made) -> None:
    # the strong attack is gone, and the weak one alone shows no loss
    old = made(fate(500, 500), fate(300, 700, attack=PGD))
    finding = only(asked(made(fate(500, 500)), NOT_WORSE, baseline=old))
    assert finding.answer == UNSURE
    assert "the baseline was attacked with pgd(steps=10), and this run was not" in finding.why
    swapped = asked(made(fate(500, 500)), NOT_WORSE, baseline=made(fate(300, 700, attack=PGD)))
    assert swapped.answer == UNSURE
    # more attacks than before are compared where both have them
    more = asked(made(fate(500, 500), fate(300, 700, attack=PGD)), NOT_WORSE, baseline=made(fate(500, 500)))
    assert (more.answer, only(more).attack) == (MET, "fgsm")


def test_what_the_baseline_alone_measured_is_told(made: Made) -> None:
    old = made(Fate({"4/255": fates(500, 500), "8/255": fates(500, 500)}), fate(500, 500, model="other"))
    (note,) = [one for one in asked(made(fate(500, 500)), NOT_WORSE, baseline=old).notes if "Only in the base" in one]
    assert "fgsm on zoo:mnist-cnn, mnist/test: linf 8/255" in note
    assert "fgsm on other" in note


def test_a_baseline_that_is_not_reportable_meets_nothing(made: Made) -> None:
    old = made(fate(500, 500), unfit=["only the first 1000 samples (limit)"])
    assert asked(made(fate(500, 500)), NOT_WORSE, baseline=old).answer == UNSURE


def test_several_comparisons_are_tested_at_once(made: Made) -> None:
    before, now = pair(500, 25, 4, 471)
    names = [f"{i}/255" for i in range(1, 13)]
    same = fates(500, 500)
    old = made(Fate({name: before if name == "4/255" else same for name in names}))
    new = made(Fate({name: now if name == "4/255" else same for name in names}, weights="bbbb"))
    alone = only(asked(new, {**NOT_WORSE, "threat": "linf 4/255"}, baseline=old))
    (among,) = [one for one in asked(new, NOT_WORSE, baseline=old).answers[0].findings if one.eps_written == "4/255"]
    assert alone.p_value is not None
    assert (alone.answer, among.answer) == (MISSED, UNSURE)
    assert among.p_value == pytest.approx(12 * alone.p_value)


def test_clean_accuracy_and_classes_against_a_baseline(made: Made) -> None:
    old = made(Fate({"4/255": fates(500, 450, 50)}))
    new = made(Fate({"4/255": [*fates(500, 350), *fates(0, 0, 150)]}, weights="bbbb"))
    clean = {"clean_accuracy": "not worse by more than 1 point", "against": "baseline"}
    outcome = asked(new, clean, NOT_WORSE, {**NOT_WORSE, "class": "3"}, baseline=old)
    assert [one.answer for one in outcome.answers] == [MISSED, MET, UNSURE]
    assert only(dataclasses.replace(outcome, answers=outcome.answers[2:])).n == 100


def test_a_baseline_is_asked_for_where_none_is_given(made: Made) -> None:
    with pytest.raises(BadInput, match="--baseline"):
        asked(made(fate(500, 500)), NOT_WORSE)


def test_predicted_labels_have_no_accuracy(made: Made) -> None:
    finding = only(asked(made(fate(900, 100, labels="predicted")), {"clean_accuracy": ">= 40 %"}))
    assert finding.answer == UNSURE
    assert "the model's own answers" in finding.why
