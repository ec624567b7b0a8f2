"""The main job by the command line, end to end: run, show, report, run again, add an attack, stop and go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from tests.support.workplace import AUDITED, RUN, Workplace, make_workplace

EVERY_FIELD = [
    "cell", "model", "data", "attack", "threat", "eps", "unit", "grey_levels", "question", "seed", "n",
    "clean_accuracy", "robust_accuracy", "robust_low", "robust_high", "attack_success", "top1_error", "top5_error",
    "median_size", "forwards", "backwards", "queries", "seconds", "errors", "verdict", "excluded",
    "access", "queries_limit", "wording",
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workplace:
    monkeypatch.chdir(tmp_path)
    make_workplace(tmp_path)
    return Workplace(tmp_path, capsys)


def shards(directory: str) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in Path(directory, "results").rglob("part-*.parquet")}


def test_accuracy_against_queries_instead_of_eps(place: Workplace) -> None:
    attack = "--attack pgd:steps=5 --attack fgsm"
    assert place.assay(f"{RUN.replace('--attack fgsm', attack)} --out runs/toy").code == 0
    told = json.loads(place.assay("show runs/toy --over queries --json").out)
    final = {one["eps"]: one for one in json.loads(place.assay("show runs/toy --json").out)["results"][:2]}
    assert [one["attack"] for one in told["curves"]] == ["pgd(steps=5)"] * 2
    for one in told["curves"]:
        left = one["points"][-1][1] if one["points"] else one["clean_accuracy"]
        assert left == pytest.approx(final[one["eps"]]["robust_accuracy"])
    assert any(one["points"] for one in told["curves"])
    said = place.assay("show runs/toy --over steps")
    assert "once so many looks at the model per image were spent" in said.out
    assert place.assay("show runs/toy --over query").code == 2
    assert "Did you mean 'queries'?" in place.assay("show runs/toy --over query").err
    assert "use --over with --json" in place.assay("show runs/toy --over steps --format md").err


def test_from_flags_to_a_page_and_back(place: Workplace) -> None:
    command = f"{AUDITED} --out runs/toy"
    said = place.assay(command)
    assert said.code == 0, said.err
    assert "fgsm" in said.out
    assert "runs/toy/results  (36 rows; assay show runs/toy)" in said.err
    assert f"Again     assay {command}" in said.err

    told = json.loads(place.assay("show runs/toy --json").out)
    assert list(told) == ["study", "status", "reportable", "results", "verdicts"]
    assert (told["study"], told["status"], told["reportable"]) == ("toy", "success", False)
    records = ds.dataset("runs/toy/results").to_table()
    assert {"sample_id", "status"} <= set(records.column_names)
    for one, eps in zip(told["results"], (4 / 255, 16 / 255), strict=True):
        assert list(one) == EVERY_FIELD
        mine = records.filter(pc.equal(records["eps"], eps))
        survived = sum(status == "survived" for status in mine["status"].to_pylist())
        expected = {
            "cell": mine["cell"][0].as_py(), "model": "toy.py:linear", "data": "folder:pictures", "attack": "fgsm",
            "threat": "linf", "eps": eps, "unit": "pixel", "grey_levels": pytest.approx(255 * eps),
            "question": "worst_case", "seed": 0, "n": 18, "clean_accuracy": 1.0, "robust_accuracy": survived / 18,
            "attack_success": 1 - survived / 18, "top1_error": 1 - survived / 18, "top5_error": 0.0,
            "forwards": pc.sum(mine["forwards"]).as_py(), "backwards": pc.sum(mine["backwards"]).as_py(),
            "queries": pc.sum(mine["queries"]).as_py(), "seconds": pytest.approx(pc.sum(mine["seconds"]).as_py()),
            "errors": 0, "access": "gradient", "queries_limit": None, "wording": "robust accuracy",
        }  # fmt: skip
        assert {name: one[name] for name in expected} == expected
        # one step of one attack: never trusted
        assert one["verdict"] in ("suspect", "refuted")
        assert one["robust_low"] < one["robust_accuracy"] <= one["robust_high"]
    assert [one["median_size"] for one in told["results"]] == [None, pytest.approx(16 / 255, rel=1e-4)]
    # FGSM asks for one gradient, and judges each budget
    assert [one["forwards"] for one in told["results"]] == [36, 18]
    assert [one["backwards"] for one in told["results"]] == [18, 0]

    assert place.assay("report runs/toy").out == "runs/toy/report.html\n"
    assert "toy.py:linear" in Path("runs/toy/report.html").read_text()

    before, manifest = shards("runs/toy"), Path("runs/toy/manifest.json").read_bytes()
    again = place.assay(command)
    assert (again.code, again.out) == (0, said.out)
    assert "(nothing was left to do)" in again.err
    assert shards("runs/toy") == before
    assert Path("runs/toy/manifest.json").read_bytes() == manifest

    assert place.assay(f"{command} --attack pgd:steps=3 --audit off").code == 0
    after = shards("runs/toy")
    assert {path: when for path, when in after.items() if path in before} == before
    assert len(after) == 2 * len(before)
    assert len(json.loads(place.assay("show runs/toy --json").out)["results"]) == 4


STUDY = """\
study: toy
models: [toy.py:linear]
data: {source: "folder:pictures", per_class: 4}
threats: [{norm: linf, eps: [4/255, 16/255]}]
attacks: [fgsm]
seed: 1
audit: off
"""


def seeds(directory: str) -> set[int]:
    return {cell["seed"] for cell in json.loads(Path(directory, "manifest.json").read_text())["cells"].values()}


def test_a_study_file_then_the_environment_then_flags(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("study.yaml").write_text(STUDY)
    assert place.assay("run study.yaml --display none").code == 0
    assert seeds("runs/toy") == {1}
    monkeypatch.setenv("ASSAY_RUN_SEED", "2")
    assert place.assay("run study.yaml --out runs/environment").code == 0
    assert seeds("runs/environment") == {2}
    assert place.assay("run study.yaml --out runs/flag --seed 3").code == 0
    assert seeds("runs/flag") == {3}
    assert place.assay("run study.yaml --out runs/set --seed 3 --set seed=4").code == 0
    assert seeds("runs/set") == {4}


def test_a_run_directory_goes_on_by_itself(place: Workplace) -> None:
    Path("study.yaml").write_text(STUDY)
    assert place.assay("run study.yaml --display none").code == 0
    (shard,) = Path("runs/toy/results").rglob("*.parquet")
    shard.unlink()
    said = place.assay("run runs/toy --display plain")
    assert said.code == 0
    assert "100 %  24 of 24 records" in said.err
    assert shard.exists()


def test_a_limited_run_says_so_wherever_its_numbers_are(place: Workplace) -> None:
    said = place.assay(f"{RUN} --limit 3 --out runs/few")
    assert "Not reportable: only the first 3 samples of folder:pictures (limit)" in said.out
    assert "Not reportable: only the first 3" in place.assay("show runs/few").out
    assert json.loads(place.assay("show runs/few --json").out)["reportable"] is False


def test_one_sample_by_its_id(place: Workplace) -> None:
    assert place.assay(f"{RUN} --out runs/one --sample-id 1/3.png --sample-id 0/0.png").code == 0
    assert set(ds.dataset("runs/one/results").to_table()["sample_id"].to_pylist()) == {"1/3.png", "0/0.png"}


@pytest.mark.slow  # tests/unit/evaluation/test_executors.py asks it of a smaller run
def test_workers_give_the_same_records(place: Workplace) -> None:
    for name, how in (("serial", ""), ("processes", "--executor processes --workers 2")):
        said = place.assay(f"{RUN} --attack pgd:steps=3 --set chunk=6 --out runs/{name}/toy {how}")
        assert said.code == 0, said.err
    columns = ["sample_id", "attack", "eps", "status", "prediction", "confidence", "size_linf", "forwards"]
    order = [(name, "ascending") for name in columns[:3]]
    one, two = (ds.dataset(f"runs/{name}/toy/results").to_table(columns) for name in ("serial", "processes"))
    assert one.sort_by(order).equals(two.sort_by(order))


def test_a_truncated_picture_is_an_error_record_and_the_run_goes_on(place: Workplace) -> None:
    picture = Path("pictures/1/3.png")
    picture.write_bytes(picture.read_bytes()[:80])
    said = place.assay(f"{RUN} --out runs/toy")
    assert said.code == 3
    assert "1/3.png could not be read and will be an error record" in said.err
    records = ds.dataset("runs/toy/results").to_table(["sample_id", "status"]).to_pylist()
    assert {one["sample_id"] for one in records if one["status"] == "error"} == {"1/3.png"}
    assert len(records) == 36
    result = json.loads(place.assay("show runs/toy --json").out)["results"][0]
    assert (result["n"], result["errors"]) == (17, 1)
    # the same command again: still finished, still with that error
    assert place.assay(f"{RUN} --out runs/toy").code == 3


@pytest.mark.parametrize(("limit", "code"), [("any", 1), ("0.01", 1), ("1%", 1), ("0.5", 3), ("5", 3)])
def test_too_many_errors(place: Workplace, limit: str, code: int) -> None:
    Path("pictures/1/3.png").write_bytes(b"no picture")
    said = place.assay(f"{RUN} --out runs/toy --fail-on-error {limit}")
    assert said.code == code
    assert ("1 samples could not be evaluated" in said.err) == (code == 1)


def test_warnings_of_the_doctor_are_kept_with_the_numbers(place: Workplace) -> None:
    said = place.assay(RUN.replace("linear", "swapped") + " --out runs/toy")
    assert said.code == 0
    assert "Warning: toy.py:swapped on folder:pictures: Clean accuracy is 0.0 %" in said.err
    (warning,) = json.loads(Path("runs/toy/manifest.json").read_text())["warnings"]
    assert "Labels and classes do not line up: images of label 0 are taken for class 2" in warning
    quiet = place.assay(RUN.replace("linear", "swapped") + " --out runs/quiet --no-doctor")
    assert "Warning" not in quiet.err


def test_a_default_directory_gives_way_and_a_named_one_does_not(place: Workplace) -> None:
    assert place.assay(RUN).code == 0
    other = place.assay(f"{RUN} --seed 3")
    assert other.code == 0
    first = "runs/toy-linear-pictures-fgsm"
    assert f"{first} belongs to another study (seed 3 here, seed 0 there); this one runs in {first}-2." in other.err
    assert (seeds(first), seeds(f"{first}-2")) == ({0}, {3})
    # the same command finds its own directory again
    assert f"{first}-2/results" in place.assay(f"{RUN} --seed 3").err
    named = place.assay(f"{RUN} --seed 3 --out {first}")
    assert named.code == 2
    assert "belongs to another study (seed 3 here, seed 0 there). Use another --out, or --fork" in named.err
    forked = place.assay(f"{RUN} --seed 4 --out {first} --fork")
    assert forked.code == 0
    assert seeds(f"{first}-3") == {4}


def test_no_live_display_and_no_colour_without_a_terminal(place: Workplace) -> None:
    said = place.assay(RUN.replace("--display none", "--display full") + " --out runs/toy")
    assert said.code == 0
    assert "\x1b" not in said.out + said.err
    assert "\r" not in said.out + said.err
    assert "100 %  36 of 36 records" in said.err


def test_ctrl_c_then_the_same_command_continues(place: Workplace) -> None:
    command = f"{RUN} --out runs/slow --set chunk=2".replace("linear", "slow")
    line = [sys.executable, "-m", "assay.cli", *command.split()]
    with subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not shards("runs/slow") and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"Stopped. What is finished is kept; the same command continues:\n  assay {command}" in err
    assert "Traceback" not in err
    kept = shards("runs/slow")
    assert 0 < len(kept) < 9
    assert [one["status"] for one in json.loads(place.assay("ls --json").out)] == ["cancelled"]
    assert place.assay(command).code == 0
    after = shards("runs/slow")
    assert len(after) == 9
    assert {path: when for path, when in after.items() if path in kept} == kept


def test_what_changed_in_a_run_is_said(place: Workplace) -> None:
    command = f"{RUN} --attack pgd:steps=3 --out runs/toy"
    assert place.assay(command).code == 0
    next(iter(Path("runs/toy/results").rglob("*.parquet"))).write_bytes(b"cut off")
    said = place.assay(command)
    assert said.code == 0
    assert "is cut off or damaged; moved to" in said.err
    said = place.assay(f"{RUN} --out runs/toy")
    assert "Note: 1 cells are no longer in the study" in said.err


def test_plan_says_what_is_left(place: Workplace) -> None:
    told = json.loads(place.assay("plan", *AUDITED.replace(" --display none", "").split()[1:], "--json").out)
    assert told["directory"] == "runs/toy-linear-pictures-fgsm"
    (cell,) = told["cells"]
    assert (cell["samples"], cell["eps"]) == (18, ["4/255", "16/255"])
    assert (cell["forwards_per_sample"], cell["backwards_per_sample"]) == (3, 1)
    assert (told["records_left"], told["forwards_left"], told["backwards_left"]) == (36, 54, 18)
    assert 0 < told["seconds_left"] < 60
    assert told["bytes_left"] > 0
    (alone,) = told["workers"]
    assert alone["workers"] == 1 and 0 < alone["seconds_left"] == told["longest_unit_seconds"] < 60
    assert place.assay(RUN).code == 0
    said = place.assay("plan", *AUDITED.replace(" --display none", "").split()[1:])
    assert said.code == 0
    assert "runs/toy-linear-pictures-fgsm holds all of it: nothing left to do." in said.out
    longer = place.assay("plan", *AUDITED.replace(" --display none", "").split()[1:], "--attack", "pgd")
    for words in ("2 cells, 72 records to make", "at most about", "forward and", "kB of records in"):
        assert words in longer.out
    assert "workers 1: " in longer.out and "the longest of 2 chunks takes" in longer.out
    shorter = place.assay(
        "plan", *AUDITED.replace(" --display none", "").split()[1:], "--attack", "pgd", "--set", "chunk=4"
    )
    assert "workers 1: " in shorter.out and "; 2: " in shorter.out and "the longest of 10 chunks takes" in shorter.out


def test_a_worker_on_each_device(place: Workplace) -> None:
    said = place.assay(f"{RUN} --set chunk=6 --out runs/two --devices cpu,cpu")
    assert said.code == 0, said.err
    assert place.assay(f"{RUN} --set chunk=6 --out runs/one").code == 0
    two, one = (json.loads(place.assay(f"show runs/{name} --json").out)["results"] for name in ("two", "one"))
    for each in (*two, *one):
        each.pop("seconds")
    assert two == one and len(one) == 2
