from __future__ import annotations

from pathlib import Path

import pytest

from assay.evaluation.run import Run
from assay.report.groups import Group, groups
from tests.support.fake_run import fake_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fake_run(Path(tmp_path_factory.mktemp("run")), digits=60)


@pytest.fixture(scope="session")
def found(run: Run) -> list[Group]:
    return groups(run)


@pytest.fixture(scope="session")
def digits(found: list[Group]) -> Group:
    return found[0]


@pytest.fixture(scope="session")
def scenes(found: list[Group]) -> Group:
    return found[1]
