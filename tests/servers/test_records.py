"""A model behind a server gives the records that its file gives: every column, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assay.evaluation.execution.options import Options
from assay.evaluation.run import Run
from assay.evaluation.run_study import run_study
from assay.evaluation.study.yaml_source import load_study
from assay.models.remote.client import EndpointError
from tests.servers.conftest import Subjects
from tests.support.served import Model, Server, running
from tests.support.studied import records_of, studied, study_of

pytestmark = pytest.mark.servers

LINF, L2 = {"norm": "linf", "eps": [0, 0.02, 0.1]}, {"norm": "l2", "eps": [0.1, 0.5, 1]}
SCORES = [{"attack": "square", "queries": 30}]
LABELS = [{"attack": "hop-skip-jump", "queries": 60}, {"attack": "boundary", "queries": 40}]

Records = list[dict[str, Any]]


@pytest.fixture(scope="session")
def by_scores(subjects: Subjects, tmp_path_factory: pytest.TempPathFactory) -> Records:
    records = studied(tmp_path_factory.mktemp("file") / "a", subjects.file("tiny"), subjects.pictures, SCORES, LINF)
    # it tells attacks that see something from those that do not
    assert {row["status"] for row in records} == {"survived", "broken"}
    return records


@pytest.fixture(scope="session")
def by_labels(subjects: Subjects, tmp_path_factory: pytest.TempPathFactory) -> Records:
    records = studied(tmp_path_factory.mktemp("file") / "a", subjects.file("tiny"), subjects.pictures, LABELS, L2)
    assert {row["status"] for row in records} == {"survived", "broken"}
    return records


def test_a_score_attack_by_json(server: Server, subjects: Subjects, by_scores: Records, tmp_path: Path) -> None:
    model = f"v2:{server.url}/tiny?binary=off"
    assert studied(tmp_path / "server", model, subjects.pictures, SCORES, LINF) == by_scores


def test_label_attacks_in_parallel_requests(
    server: Server, subjects: Subjects, by_labels: Records, tmp_path: Path
) -> None:
    model = f"v2:{server.url}/tiny?parallel=2&batch=4"
    assert studied(tmp_path / "server", model, subjects.pictures, LABELS, L2) == by_labels


def test_a_score_attack_in_binary_form(server: Server, subjects: Subjects, by_scores: Records, tmp_path: Path) -> None:
    model = f"v2:{server.url}/tiny?binary=on"
    if server.kind == "mlserver":  # which has none
        with pytest.raises(EndpointError, match=r"answered (500|422)"):
            studied(tmp_path / "server", model, subjects.pictures, SCORES, LINF)
    else:
        assert studied(tmp_path / "server", model, subjects.pictures, SCORES, LINF) == by_scores


def test_grey_levels_for_an_integer_input(server: Server, subjects: Subjects, tmp_path: Path) -> None:
    threat = {"norm": "linf", "eps": ["8/255", "24/255"], "grid": 255}
    of_file = studied(tmp_path / "file", subjects.file("bytes"), subjects.pictures, SCORES, threat)
    model = f"v2:{server.url}/bytes"
    assert studied(tmp_path / "server", model, subjects.pictures, SCORES, threat) == of_file
    assert {row["status"] for row in of_file} == {"survived", "broken"}


def test_a_server_that_dies_and_comes_back(subjects: Subjects, by_scores: Records, tmp_path: Path) -> None:
    served: list[Model] = subjects.served()
    with running("kserve", served, tmp_path / "kserve") as server:
        model = f"v2:{server.url}/tiny?tries=2"
        study = load_study(study_of(tmp_path / "study", model, subjects.pictures, SCORES, LINF))
        out = tmp_path / "study" / "run"
        asked = 0

        def die(progress: object) -> None:
            nonlocal asked
            asked += 1
            if asked == 2:
                server.kill()

        with pytest.raises(EndpointError, match=r"127\.0\.0\.1"):
            run_study(study, out, Options(), on_progress=die)
        assert Run.open(out).status == "error"
        server.start()
        run = run_study(study, out, Options())
        assert run.status == "success"
        assert records_of(run) == by_scores
