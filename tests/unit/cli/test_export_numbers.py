from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from assay.cli.export import To
from assay.exports.table import EXPORTS
from tests.support.workplace import RUN, Workplace


@pytest.fixture
def ran(place: Workplace) -> Workplace:
    assert place.assay(f"{RUN} --out runs/r").code == 0
    return place


def test_the_exports_are_those_of_the_table() -> None:
    assert [one.value for one in To] == list(EXPORTS)


def test_numbers_of_a_run_for_other_programs(ran: Workplace) -> None:
    shown = json.loads(ran.assay("show runs/r --json").out)
    said = ran.assay("export runs/r --to csv --to json")
    assert (said.code, said.out) == (0, "runs/r/exports/results.csv\nruns/r/exports/results.json\n")
    assert "Not reportable: 18 images in folder:pictures: too few to report. The export says so." in said.err
    read = json.loads(Path("runs/r/exports/results.json").read_text())
    assert {name: read[name] for name in shown} == shown
    with Path("runs/r/exports/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["robust_accuracy"]) for row in rows] == [one["robust_accuracy"] for one in shown["results"]]


@pytest.mark.parametrize(
    "line",
    ["export runs/r --to evidence --out e", "export --to evidence --out e runs/r",
     "export --to=evidence runs/r --out e",
     "export numbers runs/r --to evidence --out e"],
)  # fmt: skip
def test_the_command_can_be_left_out(ran: Workplace, line: str) -> None:
    said = ran.assay(line)
    assert (said.code, said.out) == (0, "e/evidence.md\ne/evidence.json\n")


def test_a_run_that_is_called_as_a_command(ran: Workplace) -> None:
    Path("runs/r").rename("images")
    assert ran.assay("export images --to json").out == "images/exports/results.json\n"
    assert ran.assay("export images images --out pngs --display none").code == 0


def test_refusals(ran: Workplace) -> None:
    Path("taken.csv").write_text("mine")
    for line, told in (
        ("export runs/no --to csv", "runs/no is not a run directory"),
        ("export runs/r", "Missing option '--to'"),
        ("export runs/r --to xml", "'xml' is not one of"),
        ("export runs/r --to csv --out taken.csv", "taken.csv is there already. Name another --out, or replace it"),
        ("export runs/r --to csv --to json --out x", "--out x is one place, and --to names 2 exports"),
        ("run --model x --track wandb", "'wandb' is not"),
    ):
        said = ran.assay(line)
        assert said.code == 2 and told in " ".join(said.err.replace("│", " ").split()), said
    assert Path("taken.csv").read_text() == "mine"
    assert ran.assay("export runs/r --to csv --out taken.csv --force").code == 0


def test_help_names_both_commands(place: Workplace) -> None:
    for line in ("export --help", "export"):
        said = place.assay(line).out or place.assay(line).err
        assert "images" in said and "numbers" in said
    assert "--to" in place.assay("export numbers --help").out
