"""Comparisons of two runs: known counts, how often they cry wolf, and how often they miss one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.core.errors import BadInput
from assay.evaluation.records.verdicts import REFUTED
from assay.evaluation.study.gate import GateRow
from assay.gate import comparing
from assay.gate.answers import MET, MISSED, UNSURE
from assay.gate.page import page
from assay.gate.pairing import change, compare, match, pairs
from assay.gate.rules import Place, answers
from assay.gate.sides import FELL, Number, Outcomes, Side, side_of
from assay.gate.sides import LEFT as SAFE
from assay.statistics import holm, mcnemar_p, paired_difference, paired_score, share_score, two_sided, wilson
from tests.support.gated import BROKEN, LEFT, WRONG, Fate, fates, gated, verdict

NOT_WORSE = GateRow.model_validate({"robust_accuracy": "not worse by more than 1 point", "against": "baseline"})


def test_holm_is_that_of_the_paper() -> None:
    # Holm 1979: the smallest times m, the next times m - 1, and never less than one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_scores_are_those_that_end_intervals() -> None:
    low, high = wilson(37, 90)
    assert two_sided(share_score(37, 90, low)) == pytest.approx(0.05)
    assert two_sided(share_score(37, 90, high)) == pytest.approx(0.05)
    low, high = paired_difference(6, 16, 161)
    assert [two_sided(paired_score(6, 16, 161, end)) for end in (low, high)] == pytest.approx([0.05, 0.05])


def test_mcnemar_is_the_binomial_of_the_discordant() -> None:
    assert mcnemar_p(1, 9) == pytest.approx(2 * 11 / 1024)
    assert mcnemar_p(5, 5) == mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(0, 2000) == pytest.approx(0.0, abs=1e-300)


def test_what_changed_is_counted_and_named(tmp_path: Path) -> None:
    a = Fate({"4/255": [LEFT, LEFT, BROKEN, BROKEN, WRONG, LEFT], "8/255": fates(1, 5)})
    b = Fate({"4/255": [LEFT, BROKEN, LEFT, BROKEN, LEFT, WRONG]}, weights="bbbb")
    found = compare(side_of(gated(tmp_path / "a", a)), side_of(gated(tmp_path / "b", b)))
    clean, robust = found.changes
    assert (clean.kind, clean.only_a, clean.only_b, clean.both) == ("clean", 1, 1, 4)
    assert (robust.n, robust.both, robust.only_a, robust.only_b) == (6, 1, 2, 2)
    assert robust.lost == ("mnist/test/00001", "mnist/test/00005")
    assert robust.won == ("mnist/test/00002", "mnist/test/00004")
    assert found.only_a == ("fgsm on zoo:mnist-cnn, mnist/test: linf 8/255",)
    assert not found.only_b
    assert [one.name for one in comparing.classes(found, 1)] == ["1", "5", "2", "4"]


def test_other_labels_of_the_only_model_are_the_same_model(tmp_path: Path) -> None:
    a = gated(tmp_path / "a", Fate({"4/255": fates(5, 5)}, model="one"))
    b = gated(tmp_path / "b", Fate({"4/255": fates(5, 5)}, model="two", weights="bbbb"))
    found = compare(side_of(a), side_of(b))
    assert found.differs == ("model one, now two: other weights (aaaa, now bbbb)",)


def test_nothing_in_common_is_refused_with_what_is_there(tmp_path: Path) -> None:
    a = gated(tmp_path / "a", Fate({"4/255": fates(5, 5)}))
    b = gated(tmp_path / "b", Fate({"8/255": fates(5, 5)}))
    with pytest.raises(BadInput, match=r"linf 4/255 there, .*linf 8/255 here"):
        compare(side_of(a), side_of(b))


@pytest.fixture
def rates() -> np.ndarray:
    """How often an attack with a random start breaks each of 1,000 images: always or never, one in 50 by chance."""
    spread = np.random.default_rng(0)
    sure = (spread.random(1000) < 0.5).astype(float)
    return np.where(spread.random(1000) < 0.02, 0.5, sure)


def drawn(rates: np.ndarray, seed: int) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(len(rates)) < rates, FELL, SAFE).astype(np.uint8)


def said(before: np.ndarray, now: np.ndarray) -> str:
    """Answer 'not worse by more than 1 point' at 95 %, as a row of a gate does."""
    number = Number("", "", "", "", "", "", 0.1, "0.1", "", "", 0, 1)
    found = change(Outcomes("", before), Outcomes("", now), number, "")
    if found.worse_p(0.01) < 0.05:
        return MISSED
    return MET if found.interval()[0] > -0.01 else UNSURE


def test_the_same_model_is_not_called_worse(rates: np.ndarray) -> None:
    # 200 replays with other seeds, on subsets of 400 to 1,000 images
    told = []
    for at in range(200):
        subset = rates[np.random.default_rng(at).permutation(1000)[: 400 + 3 * at]]
        told.append(said(drawn(subset, 1000 + 2 * at), drawn(subset, 1001 + 2 * at)))
    assert told.count(MISSED) <= 2
    # what cannot be told is no false alarm: the smaller subsets are too small for one point
    assert told.count(MET) >= 100


def test_a_model_three_points_worse_is_found(rates: np.ndarray) -> None:
    told = []
    for at in range(200):
        # of 1,000 images 30 more fall, whatever the seed
        standing = np.flatnonzero(rates == 0)
        worse = rates.copy()
        worse[np.random.default_rng(at).permutation(standing)[:30]] = 1
        told.append(said(drawn(rates, 1000 + 2 * at), drawn(worse, 1001 + 2 * at)))
    assert told.count(MISSED) >= 160
    assert MET not in told


@pytest.mark.slow
def test_replays_of_whole_directories(tmp_path: Path, rates: np.ndarray) -> None:
    told = []
    for at in range(200):
        sides = [[BROKEN if one == FELL else LEFT for one in drawn(rates, 1000 + 2 * at + side)] for side in (0, 1)]
        old = gated(tmp_path / f"{at}-old", Fate({"4/255": sides[0]}))
        new = gated(tmp_path / f"{at}-new", Fate({"4/255": sides[1]}, weights="bbbb", seed=1))
        told.append(answers(new, [NOT_WORSE], [Place("s.yaml", 1)], lambda old=old: side_of(old)).answer)
        plain = said(*(drawn(rates, 1000 + 2 * at + side) for side in (0, 1)))
        assert told[-1] == plain
    assert told.count(MISSED) <= 10


def test_a_comparison_tells_what_cannot_be_believed(tmp_path: Path) -> None:
    old = gated(tmp_path / "old", Fate({"4/255": fates(400, 600)}))
    better = Fate({"4/255": fates(900, 100)})
    new = gated(tmp_path / "new", better, verdicts=[verdict(better, "4/255", REFUTED, broken=800)])
    found = compare(side_of(old), side_of(new))
    assert "better by more than chance explains. Not all of the numbers now can be believed" in comparing.headline(
        found
    )
    (note,) = [one for one in comparing.notes(found) if "refuted" in one]
    assert "linf 4/255: refuted, stronger attacks left at most 10.0 %" in note
    assert comparing.plain(found)["b"]["doubts"][0] in note
    asked = Fate({"4/255": fates(900, 100)}, facts={"access": "labels"})
    black = compare(side_of(old), side_of(gated(tmp_path / "black", asked)))
    assert any("gives labels alone" in one for one in comparing.notes(black))
    assert "believed" not in comparing.headline(compare(side_of(new), side_of(old)))


def test_names_of_half_a_character_are_written(tmp_path: Path) -> None:
    names = ["half \ud800", "<img src=x onerror=alert(1)>"]
    old = gated(tmp_path / "old", Fate({"4/255": fates(400, 600)}, classes=names))
    new = gated(tmp_path / "new", Fate({"4/255": fates(300, 700)}, classes=names))
    text = page(compare(side_of(old), side_of(new)), [old, new], tmp_path / "c.html").read_text(encoding="utf-8")
    assert "half \\ud800" in text
    assert "<img src=x" not in text


def test_a_seed_is_paired_with_itself_where_it_can_be(tmp_path: Path) -> None:
    def seeded(name: str, *seeds: int) -> Side:
        return side_of(gated(tmp_path / name, *(Fate({"4/255": fates(5, 5)}, seed=seed) for seed in seeds)))

    old, new = seeded("old", 1, 0), seeded("new", 2, 1)
    assert [(one.seed, two.seed) for one, two in pairs(old, new, match(old, new))] == [(0, 2), (1, 1)]
