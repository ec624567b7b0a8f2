"""Baseline files: small, the same as the run they are made of, and refused where they are damaged."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest

from assay.core.errors import BadInput
from assay.gate.baseline import baseline_text, open_side, read_baseline
from assay.gate.pairing import compare
from assay.gate.sides import side_of
from tests.support.gated import BROKEN, ERROR, LEFT, WRONG, Fate, fates, gated


def nested(n: int, names: list[str], seed: int = 0) -> dict[str, list[str]]:
    """Return statuses of which each sample falls at a budget that was drawn for it."""
    draw = random.Random(seed)
    at = [draw.choice([-1, *range(len(names) + 1)]) for _ in range(n)]
    return {
        name: [WRONG if one < 0 else BROKEN if one <= place else LEFT for one in at] for place, name in enumerate(names)
    }


def test_a_file_tells_what_the_run_tells(tmp_path: Path) -> None:
    names = ["2/255", "4/255", "8/255"]
    statuses = nested(300, names)
    statuses["4/255"][7] = ERROR
    run = gated(tmp_path / "run", Fate(statuses), Fate(nested(300, names, 1), attack="pgd"))
    path = tmp_path / "b.json"
    path.write_text(baseline_text(run))
    file, own = read_baseline(path), side_of(run)
    assert file.numbers == own.numbers
    assert (file.models, file.data, file.versions, file.unfit) == (own.models, own.data, own.versions, own.unfit)
    for number in own.numbers:
        a, b = file.outcomes([number]), own.outcomes([number])
        assert a is not None
        assert b is not None
        assert a.samples == b.samples
        assert np.array_equal(a.states, b.states)
    plain = json.loads(path.read_text())["cells"][0]
    for place, name in enumerate(names):
        result = next(one for one in run.results() if one.cell == plain["cell"] and one.eps_written == name)
        counts = [plain[key][place] for key in ("n", "clean_correct", "survived", "errors")]
        assert counts == [result.n, result.clean_correct, result.survived, result.errors]
    # a file and its run compare as two runs do, in both directions
    for sides in ((file, own), (own, file), (file, file), (own, own)):
        found = compare(*sides)
        assert [(one.only_a, one.only_b) for one in found.changes] == [(0, 0)] * len(found.changes)
        assert found.changes[0].n == 300 or found.changes[0].kind == "clean"


@pytest.mark.parametrize(("budgets", "most"), [(1, 3500), (4, 5000)])
def test_ten_thousand_images_take_less_than_five_kilobytes_a_cell(tmp_path: Path, budgets: int, most: int) -> None:
    names = [f"{place}/255" for place in range(1, budgets + 1)]
    one, two = Fate(nested(10_000, names)), Fate(nested(10_000, names, 1), attack="pgd")
    texts = [baseline_text(gated(tmp_path / str(len(cells)), *cells)) for cells in ((one,), (one, two))]
    assert len(texts[1].encode()) - len(texts[0].encode()) < most


def test_the_same_run_gives_the_same_file(tmp_path: Path) -> None:
    one = Fate(nested(50, ["4/255"]))
    assert baseline_text(gated(tmp_path / "a", one)) == baseline_text(gated(tmp_path / "b", one))


def test_an_unfinished_run_is_none(tmp_path: Path) -> None:
    run = gated(tmp_path / "run", Fate(nested(50, ["4/255"])))
    with pytest.raises(BadInput, match="not finished"):
        baseline_text(dataclasses.replace(run, manifest={**run.manifest, "status": "cancelled"}))
    run.store.shard(next(iter(run.cells)), 0).unlink()
    with pytest.raises(BadInput, match="not finished"):
        baseline_text(run)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:-40], "cannot be read as a baseline"),
        (lambda text: "[]", "no baseline file"),
        (lambda text: "{}", "no key 'assay_baseline'"),
        (lambda text: text.replace('"assay_baseline": 1', '"assay_baseline": 2'), "version 2, this assay reads"),
        (lambda text: text.replace('"survived": [', '"survived": [1'), "is damaged .*survived of cell"),
        (lambda text: text.replace('"samples": "', '"samples": "00'), "is damaged"),
        (lambda text: text.replace('"patterns": ["1"', '"patterns": ["9"'), "is damaged"),
        (lambda text: text.replace('"eps": ["4/255"]', '"eps": ["four"]'), "is damaged"),
        (lambda text: text.replace('"eps": ["4/255"]', '"eps": []'), "is damaged"),
        (lambda text: text.replace('"eps": ["4/255"]', '"eps": [null]'), "is damaged"),
        (lambda text: text.replace('"attack": "fgsm"', '"attack": []'), "is damaged .*attack"),
        (lambda text: text.replace('"attack": "fgsm"', '"attack": null'), "is damaged .*attack"),
        (lambda text: text.replace('"seed": 0', '"seed": Infinity'), "is damaged"),
        (lambda text: text.replace('"version": 1,', '"version": [],'), "is damaged"),
        (lambda text: text.replace('"zoo:mnist-cnn": "aaaa"', '"zoo:mnist-cnn": 7'), "is damaged"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path: Path, change: object, told: str) -> None:
    path = tmp_path / "b.json"
    text = baseline_text(gated(tmp_path / "run", Fate(nested(50, ["4/255"]))))
    changed = change(text)  # type: ignore[operator]  # a function of the table above
    assert changed != text
    path.write_text(changed)
    with pytest.raises(BadInput, match=told):
        open_side(path)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no baseline"):
        open_side(tmp_path / "b.json")
    with pytest.raises(BadInput, match="not a run directory"):
        open_side(tmp_path / "run")
    gated(tmp_path / "run", Fate(nested(50, ["4/255"])))
    with pytest.raises(BadInput, match="Give the run's directory"):
        open_side(tmp_path / "run" / "manifest.json")


def test_a_file_of_other_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(baseline_text(gated(tmp_path / "a", Fate({"4/255": fates(30, 20)}))))
    with pytest.raises(BadInput, match="other samples"):
        compare(open_side(path), side_of(gated(tmp_path / "b", Fate({"4/255": fates(30, 21)}))))
