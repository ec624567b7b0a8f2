from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from assay.evaluation.run import Run
from assay.report import page
from assay.report.formats import csv
from tests.support.fake_run import HOSTILE, fake_run, with_manifest
from tests.support.html_reader import ALLOWED, Reader


@pytest.fixture(scope="module")
def html(run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(run, tmp_path_factory.mktemp("page") / "deep" / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def test_the_policy_allows_exactly_what_the_page_holds(read: Reader) -> None:
    policy = next(attrs["content"] for tag, attrs in read.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")
    assert "unsafe" not in policy and "http" not in policy
    kinds = [attrs.get("type") for tag, attrs in read.tags if tag == "script"]
    code = [text for text, kind in zip(read.inside["script"], kinds, strict=True) if kind is None]
    assert len(code) == 2 and len(read.inside["style"]) == 1
    for text in [*code, *read.inside["style"]]:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_nothing_is_loaded_and_nothing_runs_from_an_attribute(read: Reader) -> None:
    for tag, attrs in read.tags:
        assert not any(name.startswith("on") or name == "style" for name in attrs), (tag, attrs)
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name, value)


def test_hostile_names_stay_text(read: Reader) -> None:
    assert {tag for tag, _ in read.tags} <= ALLOWED
    assert all((attrs["src"] or "").startswith("data:image/png") for tag, attrs in read.tags if tag == "img")
    text = "".join(read.text)
    assert HOSTILE in text and "</script><script>alert(2)</script>" in text


def test_charts_are_json_and_have_a_still_picture(read: Reader) -> None:
    kinds = [(attrs.get("type"), attrs.get("id")) for tag, attrs in read.tags if tag == "script"]
    specs = [
        json.loads(text)
        for text, (kind, _) in zip(read.inside["script"], kinds, strict=True)
        if kind == "application/json"
    ]
    assert len(specs) == 6
    charts = [attrs["id"] for tag, attrs in read.tags if attrs.get("class") == "chart"]
    assert sorted(f"{name}-spec" for name in charts) == sorted(str(name) for kind, name in kinds if kind)
    assert sum(attrs.get("class") == "marks" for tag, attrs in read.tags if tag == "svg") == 6


def test_the_numbers_can_be_downloaded(run: Run, read: Reader) -> None:
    href = next(attrs["href"] for tag, attrs in read.tags if tag == "a" and "download" in attrs)
    assert href is not None
    assert base64.b64decode(href.partition("base64,")[2]).decode() == csv(run)


def test_it_says_what_a_reader_must_know(read: Reader) -> None:
    text = " ".join("".join(read.text).split())
    for needed in (
        "Under imperceptible changes", "one attack, not robustness", "Not reportable.", "AML.T0043", "AML.T0015",
        "NISTAML.022", "ML01:2023", "assay run demo.yaml", "8d2f0c9be1a64d37b1f0a3c55e7d9f21", "No verdict",
        "change × ",
    ):  # fmt: skip
        assert needed in text, needed
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_pictures_lie_in_the_run_directory(run: Run, html: str) -> None:
    files = list((Path(run.path) / "pictures").glob("*.png"))
    assert len(files) == html.count("data:image/png;base64,")


def test_a_run_directory_that_takes_no_pictures_still_gets_its_page(tmp_path: Path) -> None:
    blocked = fake_run(tmp_path, scenes=False, digits=20)
    (tmp_path / "pictures").write_text("in the way")
    text = page(blocked, tmp_path / "report.html").read_text("utf-8")
    assert "is also a PNG file" not in text and "data:image/png" in text


def test_a_run_without_results_still_has_a_page(tmp_path: Path) -> None:
    empty = with_manifest(fake_run(tmp_path, digits=20, change=lambda rows: []), status="started")
    text = page(empty, tmp_path / "report.html").read_text("utf-8")
    assert "No results yet" in text and "Not finished" in text


def test_the_same_run_gives_the_same_page(run: Run, html: str, tmp_path: Path) -> None:
    assert page(run, tmp_path / "report.html").read_text("utf-8") == html
