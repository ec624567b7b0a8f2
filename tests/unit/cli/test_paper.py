from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from assay.models.imagenet import imagenet_synsets
from assay.paper import measured
from assay.paper.commands import paper
from assay.paper.studies import raw_study
from assay.paper.tables import MODES, printed_tables
from assay.session import Session
from tests.support.fake_imagenet import fake_imagenet
from tests.support.workplace import Workplace


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_imagenet(tmp_path_factory.mktemp("imagenet"))


QUICK = "--display none --no-doctor"


def test_the_list_tells_what_there_is_and_what_is_done(place: Workplace) -> None:
    assert place.assay(f"paper run --table XIII --mode corrected --limit 4 {QUICK}").code == 0
    told = json.loads(place.assay("paper list --json").out)
    assert [one["table"] for one in told["tables"]][:5] == ["I", "II", "III", "IV", "V"]
    assert len(told["tables"]) == 14 and len(told["figures"]) == 11
    distilled = told["tables"][13]["modes"]["corrected"]
    # AutoAttack and the smallest changes are run with the table
    assert distilled["images"] == 10_000 and distilled["forwards"] > 360_000 + 10_000 * 101 + 600_000
    digits = told["tables"][12]["modes"]
    assert digits["corrected"]["measured"] == {"directory": "runs/sen2023/table-xiii-corrected", "status": "success"}
    assert "measured" not in digits["as_published"]
    said = place.assay("paper list")
    assert said.code == 0
    for words in ("Error under FGSM,", "55,000", "done", "losses of the MNIST network", "--stand-in"):
        assert words in said.out


def test_digits_from_the_printed_numbers_to_the_records(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(name: str) -> dict[str, Any]:
        raw = raw_study(name)
        if "smallest" in name:
            return {**raw, "attacks": [{"attack": "carlini-wagner", "inner": 20, "rounds": 2}]}
        if "autoattack" not in name:
            return raw
        # what survives it at a smaller budget, or twenty looks a step long, costs half a minute
        attack = {"attack": "autoattack", "version": "rand", "steps": 5} if "published" in name else "autoattack"
        return {**raw, "attacks": [attack], "threats": [{**raw["threats"][0], "eps": [0.3]}]}

    monkeypatch.setattr("assay.paper.runs.raw_study", quick)
    monkeypatch.setitem(measured._NAMES, "autoattack(version=rand, steps=5)", "AutoAttack")
    command = f"paper run --table xiv --limit 2 --out out {QUICK}"
    said = place.assay(command)
    assert said.code == 0, said.err
    assert "Table XIV  Accuracy under FGSM, distilled MNIST network (T = 100), share of images" in said.out
    for words in ("printed", "as published", "corrected", "difference", "FGSM on the loss at T = 100", "9,291"):
        assert words in said.out
    assert "Not to be reported, as published: only the first 2 samples of mnist/test" in said.out
    assert "out/table-xiv-corrected/results  (90 rows; assay show out/table-xiv-corrected)" in said.err
    assert sorted(path.name for path in Path("out").glob("probe-*.json")) == [
        "probe-mnist-cnn.json", "probe-mnist-distilled-t100-as-published.json", "probe-mnist-distilled-t100.json",
    ]  # fmt: skip
    assert "Refuted, corrected: at eps 0.3 FGSM leaves" in said.out
    assert "AutoAttack, 2 images" in said.out and "AutoAttack, as published: dropout stays on" in said.out
    assert "Table XIV, as published and corrected (table-xiv-smallest)" in said.err
    assert "zoo:mnist-distilled-t100: the gradient is exactly zero for" in said.out
    assert place.assay("show out/table-xiv-as-published").code == 0
    again = place.assay(command)
    assert (again.code, again.out) == (0, said.out)
    assert f"Again     assay {command}  (nothing was left to do)" in again.err
    other = place.assay(command.replace("--limit 2", "--limit 1"))
    assert other.code == 2
    assert "out/table-xiv-as-published belongs to another study (samples 1 here, samples 2 there" in other.err
    assert "--fork" not in other.err


def test_a_narrow_terminal_gets_every_digit(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    command = f"paper run --table XIII --limit 6 --out out {QUICK}"
    wide = place.assay(command)
    monkeypatch.setenv("COLUMNS", "70")
    narrow = place.assay(command)
    for said in (wide, narrow):
        assert "…" not in said.out
        assert all(value in said.out for value in (".9698", ".9650", ".9366", ".8556", ".5405", ".2767", "difference"))
    assert max(map(len, narrow.out.splitlines())) <= 70


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("", "Which table? Give --table IV, or --all."),
        ("--table IV --all", "give one of them"),
        ("--table XVI", "There is no table 'XVI'. Did you mean"),
        ("--table IV", "Table IV needs ImageNet's validation pictures"),
        ("--all", "need ImageNet's validation pictures"),
        ("--table IV --imagenet pictures", "has pictures of 3 of ImageNet's 1,000 classes"),
        ("--table IV --imagenet nowhere", "There is no directory"),
        ("--table IV --stand-in --imagenet pictures", "leave out --imagenet"),
        ("--table IV --imagenet pictures --model-file resnet101", "expected NETWORK=PATH"),
        ("--table IV --imagenet pictures --model-file resnet=a.pth", "no network 'resnet'. Did you mean 'resnet101'"),
        ("--table XIII --limit 0", "--limit is 0"),
        ("--table XIII --executor serail", "Did you mean 'serial'"),
        ("--table XIII --stand-in --image a.png", "names images for Tables II and III"),
        ("--table XIII --table VII --limit 3", "Table VII needs ImageNet's validation pictures"),
        ("--table XIII --mode publisht", "'publisht' is not one of"),
    ],
)
def test_slips_are_told_and_nothing_is_run(place: Workplace, flags: str, says: str) -> None:
    said = place.assay(f"paper run {flags} --out out")
    assert said.code == 2, said.err
    assert says in " ".join(said.err.replace("│", " ").split())
    assert not list(Path("out").rglob("*.parquet"))


def test_an_imagenet_of_999_classes_is_refused_by_name(place: Workplace, imagenet: Path) -> None:
    copy = shutil.copytree(imagenet, "val")
    shutil.rmtree(Path(copy) / imagenet_synsets()[954])
    said = place.assay("paper run --table V --imagenet val --out out")
    assert said.code == 2
    assert "999 of ImageNet's 1,000 classes" in said.err
    assert "n07753592 (banana)" in said.err


def test_all_are_fourteen_and_the_stand_in_has_those_of_imagenet(imagenet: Path) -> None:
    flags = paper.PaperFlags(every=True, imagenet=imagenet)
    assert flags.numbers() == list(printed_tables())
    assert paper.PaperFlags(stand_in=True).numbers() == list(printed_tables())[:6]
    assert flags.modes() == MODES
    assert paper.PaperFlags(mode=paper.Mode.CORRECTED).modes() == ("corrected",)


def test_ctrl_c_says_how_to_go_on(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def start(session: Session, reporter: object) -> None:
        started.append(session)
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "run", start)
    said = place.assay(f"paper run --table XIII --workers 2 --device cpu {QUICK}")
    assert said.code == 130
    assert f"the same command continues:\n  assay paper run --table XIII --workers 2 --device cpu {QUICK}" in said.err
    (session,) = started
    assert str(session.out) == "runs/sen2023/table-xiii-as-published"
    assert (session.study.study, session.chosen) == ("sen2023-table-xiii-as-published", True)
    assert (session.options.workers, session.doctor) == (2, False)
    assert session.how_audited.preset == "off"
    assert dataclasses.asdict(session.options)["command"].startswith("assay paper run --table XIII")
