from __future__ import annotations

import copy
import dataclasses

from assay.evaluation.run import Run
from assay.report.groups import Group
from assay.report.provenance import ATTENTION, GOOD, IDENTIFIERS, checks, sources
from tests.support.fake_run import with_manifest


def test_what_speaks_against_the_numbers_comes_first(run: Run, found: list[Group]) -> None:
    rows = checks(run, found)
    states = [row.state for row in rows]
    assert states == sorted(states, key=[ATTENTION, GOOD, "plain"].index)
    assert [row.title for row in rows if row.state == ATTENTION] == ["Not reportable", "Warning from the run"]
    assert "No verdict" in [row.title for row in rows]


def test_a_clean_accuracy_far_below_the_published_one_is_shown(run: Run, found: list[Group]) -> None:
    manifest = copy.deepcopy(run.manifest)
    manifest["models"]["efficientnet-lite0"]["published_accuracy"] = 1.0
    manifest["models"]["zoo:mnist-cnn"]["std"] = None
    low = dataclasses.replace(found[1].first, clean_high=0.8)
    group = dataclasses.replace(found[1], lines=(dataclasses.replace(found[1].lines[0], results=(low,)),))
    rows = checks(with_manifest(run, **manifest), [found[0], group])
    state = {row.detail.split(":")[0]: row.state for row in rows if row.title.startswith("Clean accuracy")}
    assert state == {"efficientnet-lite0": ATTENTION, "zoo": GOOD}


def test_an_unfinished_run_says_so(run: Run, found: list[Group]) -> None:
    rows = checks(with_manifest(run, status="cancelled"), found)
    assert "Not finished" in [row.title for row in rows if row.state == ATTENTION]


def test_sources_name_weights_data_seed_versions_and_time(run: Run, found: list[Group]) -> None:
    text = "\n".join(f"{source.title} {name} {value}" for source in sources(run, found) for name, value in source.facts)
    for needed in (
        "8d2f0c9be1a64d37b1f0a3c55e7d9f21", "c1a0d8a4e2ff1b07", "seed 0", "torch 2.15.0", "2 cores",
        "2026-11-23 10:00:00 UTC", "forward", "resize 256, crop 224, interpolation bicubic",
    ):  # fmt: skip
        assert needed in text


def test_identifiers_are_those_of_the_catalogues() -> None:
    assert [code for _, code, _ in IDENTIFIERS] == ["AML.T0043", "AML.T0015", "NISTAML.022", "ML01:2023"]
