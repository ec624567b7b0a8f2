from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.errors import BadInput
from assay.data.selection import Selection, select

LABELS = [0] * 600 + [1] * 300 + [2] * 100
IDS = [f"set/{i:04d}" for i in range(1000)]


def taken(**selection: object) -> tuple[int, ...]:
    return select(IDS, LABELS, Selection(**selection))[0]  # type: ignore[arg-type]


def test_everything_by_default() -> None:
    assert select(IDS, LABELS, Selection()) == (tuple(range(1000)), ())


def test_limit_takes_the_first_and_says_which_classes_are_missing() -> None:
    positions, notes = select(IDS, LABELS, Selection(limit=3))
    assert positions == (0, 1, 2)
    assert "1 of 3 classes" in notes[0]


def test_ids_are_taken_in_the_order_named() -> None:
    assert taken(ids=("set/0005", "set/0002")) == (5, 2)


def test_a_sample_is_even_over_the_classes() -> None:
    assert Counter(LABELS[at] for at in taken(sample=100)) == {0: 60, 1: 30, 2: 10}
    assert Counter(LABELS[at] for at in taken(per_class=7)) == {0: 7, 1: 7, 2: 7}


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 60), st.integers(0, 3))
def test_every_class_gives_its_share_to_within_one_sample(labels: list[int], sample: int, seed: int) -> None:
    ids = [f"{i}" for i in range(len(labels))]
    sample = min(sample, len(labels))
    positions, _ = select(ids, labels, Selection(sample=sample, seed=seed))
    assert len(positions) == len(set(positions)) == sample
    assert list(positions) == sorted(positions)
    counts = Counter(labels[at] for at in positions)
    for label, size in Counter(labels).items():
        assert abs(counts[label] - sample * size / len(labels)) < 2


@given(st.integers(1, 50), st.integers(0, 5))
def test_larger_draws_contain_smaller_ones(sample: int, seed: int) -> None:
    assert set(taken(sample=sample, seed=seed)) <= set(taken(sample=sample + 7, seed=seed))
    assert set(taken(per_class=sample, seed=seed)) <= set(taken(per_class=sample + 1, seed=seed))


def test_a_draw_depends_on_seed_and_ids_alone() -> None:
    assert taken(sample=50, seed=1) == taken(sample=50, seed=1) != taken(sample=50, seed=2)
    order = list(range(999, -1, -1))
    ids, labels = [IDS[i] for i in order], [LABELS[i] for i in order]
    positions, _ = select(ids, labels, Selection(sample=50, seed=1))
    assert {ids[at] for at in positions} == {IDS[at] for at in taken(sample=50, seed=1)}


def test_limit_comes_last() -> None:
    assert taken(sample=50, limit=10) == taken(sample=50)[:10]


def test_too_few_samples_are_noted() -> None:
    positions, notes = select(IDS, LABELS, Selection(per_class=200))
    assert len(positions) == 500
    assert notes == ("1 classes have fewer than 200 samples (class 2: 100); all were taken.",)
    positions, notes = select(IDS, LABELS, Selection(sample=5000))
    assert len(positions) == 1000
    assert "there are 1000" in notes[0]


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        ({"limit": 0}, "limit is 0; expected a whole number of at least 1"),
        ({"sample": -1}, "sample is -1"),
        ({"per_class": 0}, "per_class is 0"),
        ({"sample": 1, "per_class": 1}, "two ways to draw"),
        ({"ids": ("set/5",)}, r"no sample 'set/5'.*Ids look like 'set/0000'"),
        ({"ids": ("set/0001", "set/0001")}, "named twice"),
    ],
)
def test_impossible_selections(selection: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        taken(**selection)


def test_a_held_out_part_and_the_rest_share_nothing_and_are_all() -> None:
    ids, labels = [f"s/{i}" for i in range(60)], [i % 6 for i in range(60)]
    drawn = {"per_class": 5, "seed": 3}
    held, rest = (
        select(ids, labels, Selection(part=f"{part} 12", **drawn))[0]  # type: ignore[arg-type]
        for part in ("held-out", "rest")
    )
    whole = select(ids, labels, Selection(**drawn))[0]  # type: ignore[arg-type]
    assert len(held) == 12 and sorted((*held, *rest)) == list(whole)
    assert [sum(labels[at] == c for at in held) for c in range(6)] == [2] * 6
    fewer = select(ids, labels, Selection(part="held-out 6", **drawn))[0]  # type: ignore[arg-type]
    assert set(fewer) <= set(held)
    assert select(ids, labels, Selection(part="held-out 12", limit=4, **drawn))[0] == held[:4]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("part", "says"),
    [("held-out 60", "leaves none"), ("heldout 5", "Did you mean 'held-out'"), ("rest", "expected 'held-out N'")],
)
def test_parts_that_cannot_be(part: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        select([f"s/{i}" for i in range(60)], [0] * 60, Selection(part=part))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.data())
def test_parts_are_even_disjoint_and_nested(labels: list[int], choice: st.DataObject) -> None:
    ids = [f"s/{i}" for i in range(len(labels))]
    n, seed = choice.draw(st.integers(1, len(labels) - 1)), choice.draw(st.integers(0, 3))
    held, rest = (set(select(ids, labels, Selection(part=f"{p} {n}", seed=seed))[0]) for p in ("held-out", "rest"))
    assert len(held) == n and held | rest == set(range(len(labels))) and not held & rest
    for label, size in Counter(labels).items():
        assert abs(sum(labels[at] == label for at in held) - n * size / len(labels)) < 2
    more = set(select(ids, labels, Selection(part=f"held-out {min(n + 3, len(labels) - 1)}", seed=seed))[0])
    assert held <= more
    # the order of the data changes nobody's part
    back = ids[::-1]
    again = select(back, labels[::-1], Selection(part=f"held-out {n}", seed=seed))[0]
    assert {back[at] for at in again} == {ids[at] for at in held}
