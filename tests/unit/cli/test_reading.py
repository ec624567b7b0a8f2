"""The commands that read runs: ls, show, report."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from assay.report.numbers import FIELDS
from tests.support.workplace import Said, Workplace


@pytest.fixture
def reader(place: Workplace, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.chdir(finished)
    return place


def test_ls(reader: Workplace) -> None:
    said = reader.assay("ls")
    assert said.code == 0
    assert "runs/toy" in said.out
    assert "success" in said.out
    assert "not reportable" in said.out


def test_ls_json(reader: Workplace) -> None:
    (told,) = json.loads(reader.assay("ls --json").out)
    assert told.pop("started").startswith("20")
    assert told == {
        "directory": "runs/toy", "study": "toy", "status": "success", "reportable": False,
        "models": ["toy.py:linear"], "data": ["folder:pictures"], "cells": 2, "working": [],
    }  # fmt: skip


def test_ls_of_a_run_directory_itself(reader: Workplace) -> None:
    assert [one["directory"] for one in json.loads(reader.assay("ls runs/toy --json").out)] == ["runs/toy"]


def test_ls_where_there_is_nothing(place: Workplace) -> None:
    said = place.assay("ls")
    assert (said.code, said.out) == (0, "")
    assert "No runs in runs. Begin one with: assay run" in said.err
    said = place.assay("ls rnus")
    assert said.code == 2
    assert "There is no folder rnus" in said.err


def test_ls_shows_a_damaged_run_beside_the_others(place: Workplace, finished: Path) -> None:
    shutil.copytree(finished / "runs", "runs")
    shutil.copytree("runs/toy", "runs/damaged")
    Path("runs/damaged/manifest.json").write_text("{")
    told = {one["directory"]: one for one in json.loads(place.assay("ls --json").out)}
    assert told["runs/toy"]["status"] == "success"
    assert told["runs/damaged"]["status"] == "unreadable"
    said = place.assay("ls")
    assert said.code == 0
    assert "runs/damaged" in said.out


def test_show_json_is_what_scripts_rely_on(reader: Workplace) -> None:
    told = json.loads(reader.assay("show runs/toy --json").out)
    assert list(told) == ["study", "status", "reportable", "results", "worst_case", "verdicts"]
    assert (told["study"], told["status"], told["reportable"]) == ("toy", "success", False)
    assert len(told["results"]) == 4  # two attacks at two budgets
    for one in told["results"]:
        assert tuple(one) == FIELDS
        assert one["verdict"] in ("trusted", "suspect", "refuted")
        assert one["n"] == 18
        assert 0 <= one["robust_low"] <= one["robust_accuracy"] <= one["robust_high"] <= 1
        assert one["clean_accuracy"] == 1
        assert one["unit"] == "pixel"
    assert [one["grey_levels"] for one in told["results"]] == [4, 16, 4, 16]
    assert [one["attack"] for one in told["results"]] == ["fgsm", "fgsm", "pgd(steps=3)", "pgd(steps=3)"]
    assert [one["n"] for one in told["verdicts"]] == [18, 18]
    for one in told["verdicts"]:
        assert one["verdict"] == "refuted" or "18 images are too few to be trusted" in one["why"]
        assert {look["family"] for look in one["looks"]} <= {"gradient", "minimum norm", "black box"}
        assert one["resolution"] is None or 0 <= one["resolution"] <= 1
    # the larger budget breaks some and not all: a flat table would hide a broken command
    assert [one["robust_accuracy"] for one in told["results"]] == [1, 0.5, 1, 0.5]


def test_show_for_people(reader: Workplace) -> None:
    said = reader.assay("show runs/toy")
    assert said.code == 0
    for part in ("toy.py:linear", "fgsm", "pgd(steps=3)", "16/255", "Not reportable"):
        assert part in said.out


@pytest.mark.parametrize(("form", "sign"), [("md", "|"), ("latex", r"\begin{tab"), ("csv", ",")])
def test_show_in_other_forms(reader: Workplace, form: str, sign: str) -> None:
    said = reader.assay(f"show runs/toy --format {form}")
    assert said.code == 0
    assert sign in said.out
    assert "fgsm" in said.out


def test_show_csv_holds_a_row_per_number(reader: Workplace) -> None:
    rows = list(csv.DictReader(io.StringIO(reader.assay("show runs/toy --format csv").out)))
    assert len([row for row in rows if row["attack"] == "fgsm"]) == 2


def test_show_is_one_thing_at_a_time(reader: Workplace) -> None:
    assert reader.assay("show runs/toy --json --format md").code == 2


@pytest.mark.parametrize("command", ["show", "report"])
def test_what_is_no_run(reader: Workplace, command: str) -> None:
    near: Said = reader.assay(f"{command} runs/tyo")
    assert near.code == 2
    assert "Did you mean 'toy'?" in near.err
    assert "it has no manifest.json" in reader.assay(f"{command} pictures").err


def test_report_writes_a_page(place: Workplace, finished: Path) -> None:
    with contextlib.suppress(FileExistsError):
        shutil.copytree(finished / "runs", "runs")
    said = place.assay("report runs/toy")
    assert (said.code, said.out) == (0, "runs/toy/report.html\n")
    assert "<html" in Path("runs/toy/report.html").read_text()
    Path("elsewhere").mkdir()
    assert place.assay("report runs/toy --out elsewhere").out == "elsewhere/report.html\n"
    assert Path("elsewhere/report.html").is_file()


def test_report_writes_charts(place: Workplace, finished: Path) -> None:
    shutil.copytree(finished / "runs", "runs")
    said = place.assay("report runs/toy --format svg --out charts")
    assert said.code == 0
    paths = said.out.split()
    assert paths
    assert all("<svg" in Path(path).read_text() for path in paths)
    assert place.assay("report runs/toy --format gif").code == 2
