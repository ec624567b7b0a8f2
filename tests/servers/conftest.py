"""The servers, one at a time, and the models that each of them serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tiny_onnx
from tests.support.packaged import packaged
from tests.support.served import Model, Server, running

PROTOCOL = ("mlserver", "kserve", "triton")
"""Servers of version 2 of the Open Inference Protocol."""


@dataclasses.dataclass(frozen=True)
class Subjects:
    """Files that all servers serve, and pictures that the small network answers right by definition."""

    tiny: Path
    bytes: Path
    log: Path
    page: Path
    pictures: str

    def file(self, name: str) -> str:
        """Return the name of a model that is read from its file."""
        return f"onnx:{getattr(self, name)}"

    def served(self) -> list[Model]:
        """Return them as models of a server."""
        small = {"input": tiny_onnx.INPUT, "output": tiny_onnx.OUTPUT, "shape": tiny_onnx.SHAPE, "classes": 3}
        return [
            Model("tiny", self.tiny, **small),  # type: ignore[arg-type]  # by name
            Model("bytes", self.bytes, **small, datatype="UINT8"),  # type: ignore[arg-type]  # by name
            Model("log", self.log, **small),  # type: ignore[arg-type]  # by name
            Model("page", self.page, "x", "turns", (3, 224, 224), 4),
        ]


@pytest.fixture(scope="session")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    folder = tmp_path_factory.mktemp("subjects")
    tiny = tiny_onnx.write_net(folder / "tiny.onnx")
    return Subjects(
        tiny=tiny,
        bytes=tiny_onnx.write_net(folder / "bytes.onnx", pixels=True),
        log=tiny_onnx.write_log(folder / "log.onnx"),
        page=packaged("orientation"),
        pictures=tiny_onnx.write_pictures(folder / "pictures", tiny, 24),
    )


# pytest orders tests by the parameters of session fixtures, so that one server runs at a time; a test of one kind alone
# says @pytest.mark.parametrize("server", [KIND], indirect=True)
@pytest.fixture(scope="session", params=PROTOCOL)
def server(
    request: pytest.FixtureRequest, subjects: Subjects, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with running(request.param, subjects.served(), tmp_path_factory.mktemp(request.param)) as started:
        yield started
