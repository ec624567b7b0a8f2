"""The MNIST tables of Sen et al. 2023: the curves they print, and what the flat one hides."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from assay.evaluation.study.yaml_source import read_yaml
from assay.paper.inputs import read_rows
from assay.paper.smallest import said as said_of
from assay.paper.smallest import smallest_changes
from tests.support.workplace import Workplace

STUDIES = Path(__file__).parents[2] / "studies" / "sen2023"
TEMPERED = "fgsm(objective=cross_entropy/100)"
images = pytest.mark.parametrize("n", [1000, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workplace:
    monkeypatch.chdir(tmp_path)
    return Workplace(tmp_path, capsys)


def curves(place: Workplace, name: str, n: int) -> dict[str, dict[float, float]]:
    """Run a study's FGSM on its first `n` images and return the accuracy by attack and budget."""
    raw = dict(read_yaml((STUDIES / f"{name}.yaml").read_text(), name)[0])
    # Carlini-Wagner costs a hundred times as much
    raw["attacks"] = [one for one in raw["attacks"] if "fgsm" in str(one)]
    Path(f"{name}.yaml").write_text(json.dumps(raw))
    said = place.assay(f"run {name}.yaml --limit {n} --audit off --out {name}")
    assert said.code == 0, said.err
    found: dict[str, dict[float, float]] = {}
    for one in json.loads(place.assay(f"show {name} --json").out)["results"]:
        assert one["n"] == n
        found.setdefault(one["attack"], {})[one["eps"]] = one["robust_accuracy"]
    return found


@images
@pytest.mark.parametrize("mode", [pytest.param("as-published", marks=pytest.mark.slow), "corrected"])
def test_the_plain_network_falls(place: Workplace, mode: str, n: int) -> None:
    (curve,) = curves(place, f"table-xiii-{mode}", n).values()
    values = [curve[eps] for eps in sorted(curve)]
    assert len(values) == 9
    # one digit in a hundred may come back: FGSM overshoots, and dropout draws anew
    assert all(after <= before + 0.01 for before, after in itertools.pairwise(values))
    assert values[0] > 0.96
    assert values[-1] < 0.25


@images
@pytest.mark.parametrize("mode", ["as-published", pytest.param("corrected", marks=pytest.mark.slow)])
def test_the_distilled_network_is_flat_until_its_gradient_is_seen(place: Workplace, mode: str, n: int) -> None:
    found = curves(place, f"table-xiv-{mode}", n)
    naive, tempered = found.pop("fgsm"), found[TEMPERED]
    assert naive[0.0] - naive[0.3] < 0.15
    assert naive[0.3] > 0.7
    assert tempered[0.3] < 0.05
    # margin and DLR cannot saturate either
    assert all(curve[0.3] < 0.3 for curve in found.values())


@pytest.mark.parametrize("mode", [pytest.param("as-published", marks=pytest.mark.slow), "corrected"])
def test_autoattack_leaves_nothing_of_the_distilled_network(place: Workplace, mode: str) -> None:
    name = f"table-xiv-autoattack-{mode}"
    raw = dict(read_yaml((STUDIES / f"{name}.yaml").read_text(), name)[0])
    # an image that survives costs seconds, and at 0.1 some do
    raw["threats"] = [{**raw["threats"][0], "eps": [0.2, 0.3]}]
    Path(f"{name}.yaml").write_text(json.dumps(raw))
    said = place.assay(f"run {name}.yaml --limit 6 --out {name} --no-doctor --audit off")
    assert said.code == 0, said.err
    found = json.loads(place.assay(f"show {name} --json").out)["results"]
    assert [one["eps"] for one in found] == [0.2, 0.3]
    assert found[0]["clean_accuracy"] > 0.5
    assert all(one["robust_accuracy"] == 0 for one in found)


@pytest.mark.slow  # tests/unit/cli/test_paper.py runs the study with a shorter attack
def test_distillation_has_moved_no_boundary(place: Workplace) -> None:
    name = "table-xiv-smallest"
    assert place.assay(f"run {STUDIES / name}.yaml --out {name} --no-doctor --audit off").code == 0
    found = smallest_changes(Path())
    assert [one.true for one in found] == [7, 2, 1, 0, 4, 1]
    assert all(len(one.changed) == 2 for one in found)
    assert all(changed.predicted != one.true for one in found for changed in one.changed.values())
    assert "moved no boundary" in said_of(found)


def test_the_temperature_sweep_prints_a_row_for_each_and_goes_on(tmp_path: Path) -> None:
    """The columns' values: tests/unit/paper/test_temperatures.py."""
    flags = ["--temperatures", "1", "20", "--epochs", "1", "--limit", "100", "--validation", "50", "--runs", "sweep"]
    command = [sys.executable, str(STUDIES / "temperatures.py"), *flags, "--out", "rows.json"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    rows = [line.strip("| ").split(" | ") for line in first.stdout.splitlines()]
    assert [len(row) for row in rows if len(row) > 1] == [11, 11, 11]
    assert [row[0] for row in rows[2:]] == ["1", "20"]
    assert "T 20, seed 0: student epoch 1" in first.stderr
    kept = read_rows((tmp_path / "rows.json").read_text())
    assert [f"{row.clean:.3f}".removeprefix("0") for row in kept] == [row[2] for row in rows[2:]]
    assert json.loads((tmp_path / "rows.json").read_text())["epochs"] == 1
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert again.stdout == first.stdout
    assert "epoch" not in again.stderr
