"""What these servers accept and answer, asked by hand: the table in docs/endpoints.md says the same.

A newer release may answer otherwise; then these tests say which line of the table is old.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.served import Server

pytestmark = pytest.mark.servers

ROW = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)


@pytest.fixture
def asked(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, trust_env=False, timeout=30) as client:
        yield client


def body(rows: NDArray[Any], *, name: str = "pixels", datatype: str = "FP32") -> dict[str, Any]:
    tensor = {"name": name, "datatype": datatype, "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return {"id": "1", "inputs": [tensor]}


def status(client: httpx2.Client, model: str, content: dict[str, Any]) -> int | str:
    """Return the status of an answer, or that the connection broke."""
    try:
        return client.post(f"/v2/models/{model}/infer", json=content).status_code
    except httpx2.TransportError:
        return "reset"


def scores(client: httpx2.Client, model: str, content: dict[str, Any]) -> NDArray[np.float32]:
    answer = client.post(f"/v2/models/{model}/infer", json=content)
    assert answer.status_code == 200, answer.text
    output = answer.json()["outputs"][0]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def binary(rows: NDArray[np.float32]) -> tuple[bytes, dict[str, str]]:
    head = body(rows)
    del head["inputs"][0]["data"]
    head["inputs"][0]["parameters"] = {"binary_data_size": rows.nbytes}
    written = json.dumps(head | {"parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(written)), "Content-Type": "application/octet-stream"}
    return written + rows.tobytes(), headers


def test_versions_and_announced_extensions(server: Server, asked: httpx2.Client) -> None:
    told = asked.get("/v2").json()
    version, announced = {
        "mlserver": ("1.7.1", False), "kserve": ("0.21.0", False), "triton": ("2.51.0", True),
    }[server.kind]  # fmt: skip
    assert told["version"] == version
    assert ("binary_tensor_data" in told["extensions"]) is announced


def test_binary_tensors_work_where_they_are_announced_and_at_kserve(server: Server, asked: httpx2.Client) -> None:
    content, headers = binary(ROW)
    answer = asked.post("/v2/models/tiny/infer", content=content, headers=headers)
    if server.kind == "mlserver":
        assert answer.status_code == 500
        with pytest.raises(httpx2.TransportError):  # after such an answer it drops the connection
            asked.get("/v2")
        # bytes that happen to be UTF-8, as those of a black image are, are refused elsewhere
        content, headers = binary(np.zeros_like(ROW))
        assert asked.post("/v2/models/tiny/infer", content=content, headers=headers).status_code == 422
        return
    length = int(answer.headers["inference-header-content-length"])
    found = np.frombuffer(answer.content[length:], np.float32)
    assert answer.status_code == 200
    assert found.tobytes() == scores(asked, "tiny", body(ROW)).tobytes()


@pytest.mark.parametrize(
    ("content", "answers"),
    [
        pytest.param(body(ROW, name="image"), {"mlserver": 200, "kserve": 200, "triton": 400}, id="wrong name"),
        pytest.param(body(ROW, datatype="FP64"), {"mlserver": 500, "kserve": 500, "triton": 400}, id="wrong type"),
        pytest.param(body(ROW[..., 1:]), {"mlserver": 500, "kserve": 500, "triton": 400}, id="wrong shape"),
    ],
)
def test_what_is_made_of_a_wrong_request(
    content: dict[str, Any], answers: dict[str, int], server: Server, asked: httpx2.Client
) -> None:
    assert status(asked, "tiny", content) == answers[server.kind]


@pytest.mark.parametrize("value", [100.6, 300, -1])
def test_no_grey_levels_for_an_integer_input(value: float, server: Server, asked: httpx2.Client) -> None:
    content = body(np.full((1, 1, 8, 8), value), datatype="UINT8")
    if value == int(value):
        content["inputs"][0]["data"] = [int(value)] * 64
    expected = {"mlserver": (200, 500, 500), "kserve": (200, 500, 500), "triton": (500, 200, 500)}[server.kind]
    index = (100.6, 300, -1).index(value)
    assert status(asked, "bytes", content) == expected[index]
    if expected[index] == 200:  # another image, silently
        taken = body(np.full((1, 1, 8, 8), int(value) % 256), datatype="UINT8")
        assert scores(asked, "bytes", content).tobytes() == scores(asked, "bytes", taken).tobytes()


def test_answers_that_are_no_numbers(server: Server, asked: httpx2.Client) -> None:
    rows = ROW.copy()
    rows[0, 0, 0, :3] = (-1, 0, 1)
    text = asked.post("/v2/models/log/infer", json=body(rows)).text
    written = text.partition('"data":')[2].replace(" ", "")
    assert written.startswith(
        {"mlserver": "[null,null,0.0]", "kserve": "[null,null,0.0]", "triton": "[NaN,-Infinity,0.0]"}[server.kind]
    )


def test_a_row_is_answered_the_same_alone_and_in_a_batch(asked: httpx2.Client) -> None:
    rows = np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)
    together = scores(asked, "tiny", body(rows))
    assert together.tobytes() == b"".join(scores(asked, "tiny", body(rows[k : k + 1])).tobytes() for k in range(4))


def test_an_unknown_model(asked: httpx2.Client) -> None:
    assert asked.get("/v2/models/nobody").status_code == 404


@pytest.mark.parametrize("version", ["1", "v1"])
def test_a_version_is_asked_for(version: str, server: Server, asked: httpx2.Client) -> None:
    # the program for MLServer calls its version v1; Triton numbers them
    answers = {"mlserver": {"1": 404, "v1": 200}, "kserve": {"1": 501, "v1": 501}, "triton": {"1": 200, "v1": 404}}
    assert asked.get(f"/v2/models/tiny/versions/{version}").status_code == answers[server.kind][version]


def test_what_metadata_and_answers_say_of_the_version(server: Server, asked: httpx2.Client) -> None:
    told = asked.get("/v2/models/tiny").json()["versions"]
    answered = asked.post("/v2/models/tiny/infer", json=body(ROW)).json()["model_version"]
    assert (told, answered) == {"mlserver": ([], "v1"), "kserve": (None, None), "triton": (["1"], "1")}[server.kind]


def test_more_rows_than_the_model_takes(server: Server, asked: httpx2.Client) -> None:
    # PyTriton's program allows 16; the others have no such limit
    many = body(np.repeat(ROW, 17, 0))
    assert status(asked, "tiny", many) == {"mlserver": 200, "kserve": 200, "triton": 400}[server.kind]


def test_an_output_that_is_not_there(server: Server, asked: httpx2.Client) -> None:
    content = body(ROW) | {"outputs": [{"name": "nothing"}]}
    # MLServer answers with what there is
    assert status(asked, "tiny", content) == {"mlserver": 200, "kserve": 400, "triton": 400}[server.kind]


@pytest.mark.parametrize("server", ["litserve"], indirect=True)
@pytest.mark.parametrize("content", [{}, {"pixels": [[0.5]]}, {"image": "no base64"}])
def test_litserve_answers_anything_wrong_by_500(content: dict[str, Any], asked: httpx2.Client) -> None:
    assert asked.post("/predict", json=content).status_code == 500
