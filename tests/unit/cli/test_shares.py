"""Shares at the command line: what a share says, `assay gather`, and who works on what in `assay ls`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from assay.evaluation.execution import lock
from assay.evaluation.execution.lock import Holder, locked
from assay.evaluation.execution.parts import lock_of
from assay.evaluation.execution.share import Share
from tests.support.holders import content, elsewhere
from tests.support.workplace import RUN, Workplace

SHARED = f"{RUN} --no-doctor --out runs/toy --set chunk=3"


def test_shares_are_run_gathered_and_finished(place: Workplace) -> None:
    first = place.assay(f"{SHARED} --share 1/3")
    assert (first.code, first.out) == (0, ""), first.err
    assert "Share 1/3 is done: 2 of 2 units." in first.err
    assert "Not done  share 2/3 not begun; share 3/3 not begun" in first.err
    assert "How far it is: assay gather runs/toy" in first.err

    told = place.assay("gather runs/toy")
    assert told.code == 6 and "fgsm" in told.out
    for words in ("Units     2 of 6 are there", "share 2/3 not begun; 2 missing", "assay gather runs/toy --finish"):
        assert words in told.err
    plain = json.loads(place.assay("gather runs/toy --json").out)
    assert (plain["complete"], plain["units"], plain["units_planned"]) == (False, 2, 6)
    assert plain["missing"] == {"2/3": 2, "3/3": 2}
    assert [one["state"] for one in plain["shares"]] == ["done", "not begun", "not begun"]
    assert [one["n"] for one in plain["results"]] == [6, 6]

    (listed,) = json.loads(place.assay("ls --json").out)
    assert listed["status"] == "started"
    assert [(one["share"], one["state"]) for one in listed["working"]] == [
        ("1/3", "done"), ("2/3", "not begun"), ("3/3", "not begun"),
    ]  # fmt: skip

    finished = place.assay("gather runs/toy --finish --display none")
    assert finished.code == 0, finished.err
    assert "Units     6 of 6 are there" in finished.err
    shutil.copytree("runs/toy", "runs/copy")
    whole = place.assay(SHARED.replace("runs/toy", "runs/whole"))
    assert whole.out == finished.out
    assert place.assay("gather runs/toy").code == 0
    (listed, _, _) = sorted(json.loads(place.assay("ls --json").out), key=lambda one: one["directory"] != "runs/toy")
    assert (listed["status"], listed["working"]) == ("success", [])


def test_gather_finishes_what_is_complete(place: Workplace) -> None:
    assert place.assay(f"{SHARED} --share 1/2").code == 0
    last = place.assay(f"{SHARED} --share 2/2")
    assert last.code == 0 and "fgsm" in last.out and "36 rows" in last.err
    # as if the last one had been killed before it could say so
    path = Path("runs/toy/manifest.json")
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "status": "started", "reportable": False}))
    told = place.assay("gather runs/toy --display none")
    assert told.code == 0 and told.out == last.out
    assert json.loads(path.read_text())["status"] == "success"


def test_a_model_that_broke_meanwhile_is_told(place: Workplace) -> None:
    assert place.assay(f"{SHARED} --share 1/2").code == 0
    Path("toy.py").write_text("import nowhere_to_be_found\n")
    said = place.assay("gather runs/toy --finish --display none")
    assert said.code == 2 and "nowhere_to_be_found" in said.err and "Traceback" not in said.err
    # what is there is scored without a model
    assert place.assay("gather runs/toy").code == 6


def test_samples_with_errors_are_exit_code_3(place: Workplace) -> None:
    Path("pictures/0/0.png").write_bytes(b"no picture")
    one, two = (place.assay(f"{SHARED} --share {number}/2") for number in (1, 2))
    assert {one.code, two.code} == {0, 3} or (one.code, two.code) == (3, 3)
    assert two.code == 3, "the last one speaks of the run"
    assert place.assay("gather runs/toy").code == 3


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--share 0/2", "share 0/2 is none; shares count from 1"),
        ("--share half", "expected a number and how many there are, such as 3/8, or slurm"),
        ("--share slurm", "SLURM_ARRAY_TASK_ID is not set"),
    ],
)
def test_what_is_no_share_is_told(place: Workplace, monkeypatch: pytest.MonkeyPatch, more: str, told: str) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    said = place.assay(f"{SHARED} {more}")
    assert said.code == 2 and told in " ".join(said.err.split())
    assert not Path("runs").exists()


def test_a_job_array_alone_shares_nothing(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ID": "2", "COUNT": "2", "MIN": "1", "MAX": "2"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert "36 rows" in place.assay(SHARED).err
    assert "Share 2/2 is done" in place.assay(f"{SHARED.replace('runs/toy', 'runs/other')} --share slurm").err
    with locked(Path("runs/toy")):
        said = place.assay(SHARED)
    assert said.code == 2 and "--share slurm gives each task its part" in " ".join(said.err.split())


def test_ls_says_who_works_on_what(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.1)
    assert place.assay(f"{SHARED} --share 1/2").code == 0
    with elsewhere(lock_of(Path("runs/toy"), Share(2, 2)), "share 2/2"):
        (listed,) = json.loads(place.assay("ls --json").out)
        told = " ".join(place.assay("ls").out.split())
        gathered = place.assay("gather runs/toy")
        refused = place.assay("gather runs/toy --finish")
    one = listed["working"][1]
    assert (one["share"], one["state"], one["host"]) == ("2/2", "working", "node7") and one["since"]
    assert " work " in told and "node7" in told
    assert gathered.code == 6 and "share 2/2 working" in gathered.err and "3 missing" in gathered.err
    assert "The last share finishes the run." in gathered.err
    assert refused.code == 2 and "is being written by share 2/2" in refused.err
    with locked(Path("runs/toy")):
        (listed,) = json.loads(place.assay("ls --json").out)
    assert (listed["working"][0]["share"], listed["working"][0]["state"]) == (None, "working")
    # one that was killed leaves its name
    Path("runs/toy/lock").write_bytes(content(dataclasses.replace(Holder.here("run"), units=3, planned=6)))
    assert "killed" in place.assay("ls").out
    (listed,) = json.loads(place.assay("ls --json").out)
    one = listed["working"][0]
    assert (one["share"], one["state"], one["units"], one["planned"]) == (None, "killed", 3, 6)


def test_gather_of_what_is_no_run(place: Workplace) -> None:
    said = place.assay("gather nowhere")
    assert said.code == 2 and "nowhere is not a run directory" in said.err


def test_gather_of_a_run_in_a_store_says_what_reads_it(place: Workplace) -> None:
    import fsspec

    assert place.assay(f"{SHARED} --share 1/2").code == 0
    memory = fsspec.filesystem("memory")
    memory.put("runs/toy", "/gathered/toy", recursive=True)
    said = place.assay("gather memory://gathered/toy")
    assert said.code == 2 and "assay show memory://gathered/toy" in " ".join(said.err.split())


def test_many_shares_that_nobody_began_are_one_line(place: Workplace) -> None:
    assert place.assay(f"{SHARED} --share 3/500").code == 0
    listed = place.assay("ls").out
    assert len(listed.splitlines()) < 20, listed
    # six units: the first six shares have one each
    gathered = place.assay("gather runs/toy").err
    for words in ("share 1/500 not begun; 1 missing", "share 2/500 not begun; 1 missing"):
        assert words in gathered
    assert "share 3/500" not in gathered
    assert "share 6/500 not begun; 1 missing" in gathered
    assert place.assay(f"{SHARED} --share 9/500").code == 0
    assert "shares 10/500 to 500/500 not begun" in " ".join(place.assay("ls").out.split())
    assert len(json.loads(place.assay("ls --json").out)[0]["working"]) == 500
