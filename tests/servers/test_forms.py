"""The other forms in which a model is asked: pictures and numbers to LitServe, version 1 to KServe, labels of Triton.

Each gives the records that the model's file gives.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.core.errors import AssayError
from assay.models import load_model
from assay.models.remote.client import EndpointError
from tests.servers.conftest import Subjects
from tests.support.pages import OPTIONS, folder_of_pages
from tests.support.served import Server, free_ports
from tests.support.studied import studied

pytestmark = pytest.mark.servers

LINF, L2 = {"norm": "linf", "eps": [0, 0.02, 0.1]}, {"norm": "l2", "eps": [0.1, 0.5, 1]}
SCORES, LABELS = [{"attack": "square", "queries": 30}], [{"attack": "hop-skip-jump", "queries": 60}]

FLOATS = """
protocol: json
url: {url}/predict
image: floats
layout: nchw
size: [8, 8]
channels: 1
request: {{pixels: $image}}
answer: {{scores: scores}}
classes: 3
"""
PNG = """
protocol: json
url: {url}/predict
image: png
size: [8, 8]
channels: 1
request: {{image: $image}}
answer: {{scores: "result[*].score", labels: "result[*].label"}}
classes: [class-0, class-1, class-2]
limits: {{queries: 5000, parallel: 2}}
"""


@pytest.mark.parametrize(("form", "twin"), [(FLOATS, "tiny"), (PNG, "bytes")], ids=["floats", "png"])
@pytest.mark.parametrize("server", ["litserve"], indirect=True)
def test_litserve(form: str, twin: str, server: Server, subjects: Subjects, tmp_path: Path) -> None:
    described = tmp_path / "endpoint.yaml"
    described.write_text(form.format(url=server.url))
    found = studied(tmp_path / "server", f"remote:{described}", subjects.pictures, SCORES, LINF)
    assert found == studied(tmp_path / "file", subjects.file(twin), subjects.pictures, SCORES, LINF)
    assert {row["status"] for row in found} == {"survived", "broken"}


@pytest.mark.parametrize("server", ["kserve"], indirect=True)
def test_version_1_of_the_protocol(server: Server, subjects: Subjects, tmp_path: Path) -> None:
    model = f"v1:{server.url}/tiny?layout=nchw&size=8&channels=1"
    found = studied(tmp_path / "server", model, subjects.pictures, SCORES, LINF)
    assert found == studied(tmp_path / "file", subjects.file("tiny"), subjects.pictures, SCORES, LINF)


@pytest.mark.parametrize("server", ["triton"], indirect=True)
def test_labels_alone(server: Server, subjects: Subjects, tmp_path: Path) -> None:
    found = studied(tmp_path / "server", f"v2:{server.url}/tiny?top=1", subjects.pictures, LABELS, L2)
    by_file = studied(tmp_path / "file", subjects.file("tiny"), subjects.pictures, LABELS, L2)
    # confidences and ranks are what labels do not tell
    told = [name for name in found[0] if not name.endswith(("confidence", "rank"))]
    assert [[row[name] for name in told] for row in found] == [[row[name] for name in told] for row in by_file]
    with pytest.raises(AssayError, match="label"):
        studied(tmp_path / "scores", f"v2:{server.url}/tiny?top=1", subjects.pictures, SCORES, LINF)


@pytest.fixture(scope="module")
def page_study(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{folder_of_pages(tmp_path_factory.mktemp('pages'), 4)}"


def test_a_real_classifier(server: Server, subjects: Subjects, page_study: str, tmp_path: Path) -> None:
    asked = ([{"attack": "square", "queries": 8}], {"norm": "linf", "eps": ["8/255", 0.3]})
    by_file = studied(
        tmp_path / "file", f"{subjects.file('page')}?{OPTIONS}", page_study, *asked, outputs="probabilities"
    )
    model = f"v2:{server.url}/page?{OPTIONS}&batch=4"
    assert studied(tmp_path / "server", model, page_study, *asked, outputs="probabilities") == by_file
    assert all(row["label"] == row["clean_prediction"] for row in by_file)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nobody", "There is no model at 127.0.0.1"),
        ("tiny?input=image", "image.*pixels"),
        ("tiny?output=logits", "logits.*scores"),
        ("tiny?size=9", "9x9.*8x8"),
        ("tiny?classes=4", "classes is 4.*3 scores"),
        ("tiny?version=17", "17"),
    ],
)
def test_what_is_refused_before_anything_is_asked(spec: str, said: str, server: Server) -> None:
    with pytest.raises(AssayError, match=said):
        load_model(f"v2:{server.url}/{spec}")


def test_scores_that_are_no_numbers_make_error_records(server: Server, subjects: Subjects, tmp_path: Path) -> None:
    # bare NaN and infinity are read as the file's; null may be either, and is never taken for a low score
    there = studied(tmp_path / "server", f"v2:{server.url}/log", subjects.pictures, SCORES, LINF)
    here = studied(tmp_path / "file", f"onnx:{subjects.log}", subjects.pictures, SCORES, LINF)
    told = [[(one["sample_id"], one["eps_written"], one["status"]) for one in records] for records in (there, here)]
    differing = {(one[-1], other[-1]) for one, other in zip(*told, strict=True) if one != other}
    assert {status for status, _ in differing} == (set() if server.kind == "triton" else {"error"})


def test_a_server_that_is_not_there() -> None:
    nobody = free_ports(1)[0]
    with pytest.raises(EndpointError, match=rf"127\.0\.0\.1:{nobody}"):
        load_model(f"v2:http://127.0.0.1:{nobody}/tiny?tries=2")


@pytest.mark.parametrize("server", ["triton"], indirect=True)
def test_requests_larger_than_the_server_takes(server: Server, subjects: Subjects, tmp_path: Path) -> None:
    # the server's own words say what to change
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1.*answered 400.*batch-size must be <= 16"):
        studied(tmp_path / "server", f"v2:{server.url}/tiny?batch=24", subjects.pictures, SCORES, LINF, chunk=24)
