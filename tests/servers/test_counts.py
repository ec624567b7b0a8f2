"""What a run says it asked is what the server counted itself, by Triton's own metrics; and what is known is free."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.cli import main
from assay.evaluation.run import Run
from tests.servers.conftest import Subjects
from tests.servers.counted import Counted
from tests.support.served import Server

pytestmark = [pytest.mark.servers, pytest.mark.parametrize("server", ["triton"], indirect=True)]


def assay(*words: str) -> None:
    with pytest.raises(SystemExit) as left:
        main([*words, "--display", "none"])
    assert not left.value.code


@pytest.mark.parametrize("binary", ["off", "on"])
def test_billed_rows_and_requests_are_the_servers_own_counts(
    binary: str, server: Server, subjects: Subjects, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    model = f"v2:{server.url}/tiny?binary={binary}&batch=5&queries=20000"
    words = ("run", "--model", model, "--data", subjects.pictures, "--attack", "square:queries=20", "--eps", "0.02,0.1")
    before = Counted.of(server, "tiny")
    assay(*words, "--out", str(out))
    counted = Counted.of(server, "tiny").since(before)
    told = Run.open(out).endpoints()[0]
    assert (told["billed"], told["requests"]) == (counted.rows, counted.requests)
    assert told["retries"] == 0 and told["queries_allowed"] == 20000
    # the cell's own part is what its records say, as far as it was not known already
    rows = Run.open(out).records().to_pylist()
    digest = rows[0]["cell"]
    own = told["places"][digest]
    assert own["asked"] == sum(row["queries"] for row in rows)
    assert 0 < own["billed"] <= own["asked"]
    assert f"{told['billed']:,} of 20,000 queries" in capsys.readouterr().out
    # the same command again asks nothing, nor does the same study under another limit
    assay(*words, "--out", str(out))
    assert Counted.of(server, "tiny").since(before) == counted


def test_what_is_allowed_ends_the_run_and_more_goes_on(
    server: Server, subjects: Subjects, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ("--data", subjects.pictures, "--attack", "square:queries=20", "--eps", "0.1", "--audit", "off")
    before = Counted.of(server, "tiny")
    with pytest.raises(SystemExit) as left:
        main(["run", "--model", f"v2:{server.url}/tiny?queries=100", *words, "--out", str(out), "--display", "none"])
    assert left.value.code == 1
    assert "100" in capsys.readouterr().err
    assert Counted.of(server, "tiny").since(before).rows <= 100
    assay("run", "--model", f"v2:{server.url}/tiny?queries=5000", *words, "--out", str(out))
    run = Run.open(out)
    assert run.status == "success"
    assert run.endpoints()[0]["billed"] == Counted.of(server, "tiny").since(before).rows
