"""Endpoints at the command line: what a plan says they are asked, a limit that ends a run, and what was asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.evaluation.run import Run
from tests.support.serving import Server
from tests.support.tiny import write_pictures
from tests.support.workplace import Workplace
from tests.unit.evaluation.test_endpoints import scores

HOW = "--attack square:queries=9 --eps 32/255"


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server(scores, (3, 8, 8), 4).start()
    yield served
    served.close()


def asking(server: Server, place: Workplace, more: str) -> str:
    source = write_pictures(place.folder / "small", 12)
    return f"--model v2:{server.url}/net?{more} --data {source} {HOW}"


def test_a_plan_says_queries_time_and_price(server: Server, place: Workplace) -> None:
    flags = asking(server, place, "batch=4&per_second=2&price=0.5&queries=1000")
    said = place.assay(f"plan {flags}")
    # one look at each image, and nine more
    line = f"queries v2:{server.url}/net is asked at most 120 queries, in 30 requests, 15 s, a price of 60;"
    assert said.code == 0 and line in said.out and "Spent: 0 of 1,000 queries (0)" in said.out
    assert "at most 11 queries" in said.err and f"The plan itself took {server.rows} queries of" in said.err
    assert server.rows <= 11
    (told,) = json.loads(place.assay(f"plan {flags} --json").out)["endpoints"]
    # the rate allows no less; a machine that takes longer than that for a request takes longer
    assert 15.0 <= told.pop("seconds_left_at_most") < 60
    assert told == {
        "model": f"v2:{server.url}/net", "host": server.url.removeprefix("http://"), "queries_left_at_most": 120,
        "requests_left_at_most": 30, "cost_left_at_most": 60.0, "currency": None,
        "queries_allowed": 1000, "queries_spent": 0,
    }  # fmt: skip


def test_a_plan_says_that_a_limit_may_not_suffice_or_that_there_is_none(server: Server, place: Workplace) -> None:
    said = place.assay(f"plan {asking(server, place, 'queries=50')}").out
    assert "; the run may end before it is done" in said
    assert "and the quick audit after it come on top" in said
    said = place.assay(f"plan {asking(server, place, 'queries=50')} --audit off").out
    assert "the look before the run comes on top" in said and "audit after it" not in said
    assert "Nothing limits them: queries=N" in place.assay(f"plan {asking(server, place, 'batch=4')}").out


def test_a_spent_limit_is_exit_code_1_and_a_higher_one_goes_on(server: Server, place: Workplace) -> None:
    said = place.assay(f"run {asking(server, place, 'queries=40')} --audit off --display none")
    assert said.code == 1 and "queries=40 allows 40 queries, and 40 are spent" in said.err and server.rows == 40
    assert "the same command with a higher limit goes on" in said.err
    said = place.assay(f"run {asking(server, place, 'queries=4000&parallel=2')} --audit off --display none")
    assert said.code == 0
    # the default directory is the same: what may be asked is no part of its name
    (folder,) = (place.folder / "runs").iterdir()
    (told,) = Run.open(folder).endpoints()
    assert told["billed"] == server.rows and "queries" not in folder.name.partition("square")[0]
    assert f"Endpoint v2:{server.url}/net: {server.rows} of 4,000 queries for {told['asked']} rows" in said.out


def test_shown_and_written_runs_say_what_was_asked(server: Server, place: Workplace) -> None:
    place.assay(f"run {asking(server, place, 'price=0.25')} --audit off --display none --out runs/one")
    (told,) = Run.open(Path("runs/one")).endpoints()
    cost = f"{told['billed'] / 4:.4g}"
    assert f"{told['billed']} queries ({cost}) for {told['asked']} rows" in place.assay("show runs/one").out
    (shown,) = json.loads(place.assay("show runs/one --json").out)["endpoints"]
    assert shown == told and shown["cost"] == told["billed"] / 4
    place.assay("report runs/one")
    page = Path("runs/one/report.html").read_text()
    assert f"Endpoint v2:{server.url}/net" in page and re.search(rf"{told['billed']} queries \({cost}\)", page)
