"""The sweep over temperatures: every column on a network whose answers are known, and the rows that come along."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.paper.inputs import TemperatureRow, read_rows, temperatures, written_rows
from assay.training import FitSettings

ROOT = Path(__file__).parents[3]

ROW = TemperatureRow(
    20.0, 3, 0.91, {0.1: 0.82, 0.3: 0.73}, {0.1: 0.64, 0.3: 0.0}, 0.375, {0.05: 1.5, 0.5: 20.25, 0.95: 300.0}
)


@pytest.fixture(scope="module")
def sweep() -> ModuleType:
    path = ROOT / "studies" / "sen2023" / "temperatures.py"
    spec = importlib.util.spec_from_file_location("sen2023_temperatures", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Inflated(nn.Module):
    """Class 0 where the first pixel is above a half; the second says whether logits are a hundred times larger.

    An image at distance d from the half has the gap 50 d or 5,000 d. FGSM that sees its gradient turns it where the
    budget is larger than d; on its own loss it sees none from a gap of 104 on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2500.0))

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.flatten(1).unbind(1)
        half = self.scale * (0.01 + 0.99 * second) * (first - 0.5)
        return torch.stack([half, -half], 1)


# (distance, inflated, right): gaps 2.5 7.5 22.5 | 250 300 350 1000 2250 | 5 6
IMAGES = [
    *((0.05, 0, True), (0.15, 0, True), (0.45, 0, True)),
    *((0.05, 1, True), (0.06, 1, True), (0.07, 1, True), (0.2, 1, True), (0.45, 1, True)),
    *((0.1, 0, False), (0.12, 0, False)),
]


def data() -> assay.Data:
    def read(at: int) -> Tensor:
        distance, inflated, _ = IMAGES[at]
        return torch.tensor([[[0.5 + distance, float(inflated)]]])

    ids, labels = tuple(str(i) for i in range(10)), tuple(0 if right else 1 for *_, right in IMAGES)
    return assay.Data("inflated", "fingerprint", ids, labels, None, (1, 1, 2), read)


def test_every_column_of_a_network_whose_answers_are_known(sweep: ModuleType, tmp_path: Path) -> None:
    row = sweep.measure(assay.load_model(Inflated()), data(), 100.0, 7, tmp_path)
    assert (row.temperature, row.seed) == (100.0, 7)
    assert row.clean == pytest.approx(0.8)
    assert row.fgsm == pytest.approx({0.1: 0.7, 0.3: 0.6})
    assert row.at_temperature == pytest.approx({0.1: 0.4, 0.3: 0.2})
    assert row.zero == pytest.approx(0.5)
    # of ten sorted values the quantile q lies at 9 q
    assert row.gaps == pytest.approx({0.05: 3.625, 0.5: 136.25, 0.95: 1687.5}, rel=1e-4)


def test_every_cell_stands_under_its_heading(sweep: ModuleType) -> None:
    line = dict(zip(sweep.HEAD.split(" | "), sweep.cells(ROW), strict=True))
    first = {"T": "20", "seed": "3", "clean": ".910", "FGSM .1": ".820", "FGSM .3": ".730", "at T .1": ".640"}
    rest = {"at T .3": ".000", "zero gradients": "37.5 %", "gap 5 %": "1.5", "50 %": "20.2", "95 %": "300.0"}
    assert line == first | rest


def test_at_temperature_one_both_attacks_are_one(sweep: ModuleType, tmp_path: Path) -> None:
    row = sweep.measure(assay.load_model(Inflated()), data(), 1.0, 0, tmp_path)
    assert row.at_temperature == row.fgsm == pytest.approx({0.1: 0.7, 0.3: 0.6})


def test_rows_come_back_from_a_file() -> None:
    text = written_rows([ROW, ROW], {"command": "python x.py", "seeds": [3]})
    assert read_rows(text) == (ROW, ROW)
    assert json.loads(text)["command"] == "python x.py"


def test_the_rows_that_come_along_are_those_of_the_docs(sweep: ModuleType) -> None:
    rows = temperatures()
    section = (ROOT / "docs" / "sen2023.md").read_text().partition("## What the temperature does")[2]
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    assert lines[0] == f"| {sweep.HEAD} |"
    assert [f"| {' | '.join(sweep.cells(row))} |" for row in rows] == lines[2:]
    assert [(row.temperature, row.seed) for row in rows if row.seed == 0] == [(t, 0) for t in (1, 5, 20, 50, 100)]


def test_the_facts_beside_them_are_those_of_the_sweep(sweep: ModuleType) -> None:
    facts = json.loads((ROOT / "src" / "assay" / "paper" / "temperatures.json").read_text())
    defaults = FitSettings()
    assert (facts["learning_rate"], facts["batch"]) == (defaults.learning_rate, defaults.batch)
    assert facts["epochs"] == 3
    assert facts["seeds"] == sorted({row["seed"] for row in facts["rows"]})
    assert "python studies/sen2023/temperatures.py --temperatures 100 --seeds 1 2" in facts["command"]
