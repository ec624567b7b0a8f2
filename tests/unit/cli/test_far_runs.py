"""Runs in a store at the command line: read by their URL, written nowhere but here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.workplace import RUN, Workplace


@pytest.fixture
def url(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ASSAY_CACHE", str(place.folder / "cache"))
    assert place.assay(f"{RUN} --out bucket/run").code == 0
    return f"file://{Path('bucket/run').absolute()}"


def test_a_run_is_shown_and_reported_by_its_url(place: Workplace, url: str) -> None:
    near, far = place.assay("show bucket/run --json"), place.assay(f"show {url} --json")
    assert far.code == 0 and json.loads(far.out) == json.loads(near.out)
    before = sorted(Path("bucket/run").rglob("*"))
    said = place.assay(f"report {url}")
    assert (said.code, said.out.strip()) == (0, "report.html") and Path("report.html").stat().st_size > 10_000
    assert sorted(Path("bucket/run").rglob("*")) == before
    again = place.assay(f"report {url}")
    assert again.code == 2 and "report.html is there already" in again.err
    assert place.assay(f"report {url} --force").code == 0


def test_slips_in_urls_are_told(place: Workplace, url: str) -> None:
    for line, told in (
        (f"show {url}-not", "There are no files under"),
        ("show s4://bucket/run", "s4:// is no kind of store"),
        ("show s3://key:secret@bucket/run", "holds credentials"),
    ):
        said = place.assay(line)
        assert said.code == 2 and told in " ".join(said.err.split()) and "secret" not in said.err
