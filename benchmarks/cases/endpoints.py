"""What an endpoint's client costs over a bare loop of requests, and what its binary form saves: Triton on loopback.

The server answers with the page-orientation classifier, 224 x 224, and with a network that costs it nothing: there the
client's own time shows most.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.models import load_model
from assay.models.remote.ledger import Ledger
from benchmarks.measure import Outcome, Ratio, Row, at_least, at_most, interleaved
from tests.support.packaged import packaged
from tests.support.served import Model, Server, running
from tests.support.tiny_onnx import write_light

SIDE, BATCH, REQUESTS = 224, 4, 20

Rows = np.ndarray[Any, Any]


def overhead(repeats: int) -> Outcome:
    """Time requests for images that are new each time, by the client with its ledger on disk and by a bare loop."""
    draws = _Draws()
    with tempfile.TemporaryDirectory() as folder, _triton(Path(folder)) as server:
        contenders: dict[str, Callable[[], Any]] = {}
        for name in ("page", "light"):
            contenders[f"assay, {name}"] = _ours(server, name, draws, "on", Path(folder))
            contenders[f"bare loop, {name}"] = _bare(server, name, draws, _binary)
        timed = interleaved(contenders, repeats)
    medians = {name: one.median for name, one in timed.items()}
    ratio = {name: medians[f"assay, {name}"] / medians[f"bare loop, {name}"] for name in ("page", "light")}
    ratios = [
        at_most("client against a bare loop, page orientation", ratio["page"], 1.1),
        Ratio("client against a bare loop, a network that costs nothing", ratio["light"], "", True),
    ]
    rows = [one.row(name, BATCH * REQUESTS) for name, one in timed.items()]
    what = f"{REQUESTS} requests for {BATCH} images each of 3 x {SIDE} x {SIDE} to Triton, in binary form"
    return Outcome("endpoint-overhead", what, "s per image", rows, ratios)


def forms(repeats: int) -> Outcome:
    """Time the same requests in binary form, in JSON as the client writes it, and in JSON made of lists."""
    draws = _Draws()
    with tempfile.TemporaryDirectory() as folder, _triton(Path(folder)) as server:
        contenders: dict[str, Callable[[], Any]] = {
            "assay, binary": _ours(server, "light", draws, "on", Path(folder)),
            "assay, JSON": _ours(server, "light", draws, "off", Path(folder)),
            "bare loop, JSON of lists": _bare(server, "light", draws, _lists),
        }
        timed = interleaved(contenders, repeats)
    binary = timed["assay, binary"].median
    ratios = [
        at_least("lists against binary", timed["bare loop, JSON of lists"].median / binary, 5),
        at_least("the client's JSON against binary", timed["assay, JSON"].median / binary, 1),
    ]
    rows: list[Row] = [one.row(name, BATCH * REQUESTS) for name, one in timed.items()]
    what = f"{REQUESTS} requests for {BATCH} images each of 3 x {SIDE} x {SIDE} to Triton, a network that costs nothing"
    return Outcome("endpoint-forms", what, "s per image", rows, ratios)


class _Draws:
    """Images that nobody has asked about: the client would know them."""

    def __init__(self) -> None:
        self._draws = np.random.default_rng(0)
        self._rows = self._draws.random((BATCH, 3, SIDE, SIDE), dtype=np.float32)

    def batch(self) -> Rows:
        # one new pixel is enough, and costs nothing
        self._rows[:, 0, 0, 0] = self._draws.random(BATCH, dtype=np.float32)
        return self._rows


def _triton(folder: Path) -> AbstractContextManager[Server]:
    shape = (3, SIDE, SIDE)
    light = Model("light", write_light(folder / "light.onnx", shape), "pixels", "scores", shape, 3)
    return running("triton", [light, Model("page", packaged("orientation"), "x", "turns", shape, 4)], folder / "triton")


def _ours(server: Server, name: str, draws: _Draws, binary: str, folder: Path) -> Callable[[], None]:
    module = load_model(f"v2:{server.url}/{name}?binary={binary}&batch={BATCH}").module
    run = folder / f"{name}-{binary}"

    def ask() -> None:
        with Ledger.of_run(run).used():
            for _ in range(REQUESTS):
                module(torch.from_numpy(draws.batch()))

    return ask


def _bare(
    server: Server, name: str, draws: _Draws, body: Callable[[Rows, str], tuple[bytes, dict[str, str]]]
) -> Callable[[], None]:
    import httpx2

    client = httpx2.Client(trust_env=False, timeout=60)
    binary, image = body is _binary, {one.name: one.input for one in server.models.values()}[name]

    def ask() -> None:
        for _ in range(REQUESTS):
            content, headers = body(draws.batch(), image)
            answer = client.post(f"{server.url}/v2/models/{name}/infer", content=content, headers=headers)
            answer.raise_for_status()
            if binary:
                np.frombuffer(answer.content[int(answer.headers["inference-header-content-length"]) :], np.float32)
            else:
                np.array(answer.json()["outputs"][0]["data"], np.float32)

    return ask


def _binary(rows: Rows, name: str) -> tuple[bytes, dict[str, str]]:
    image = {"name": name, "datatype": "FP32", "shape": rows.shape, "parameters": {"binary_data_size": rows.nbytes}}
    head = json.dumps({"inputs": [image], "parameters": {"binary_data_output": True}}).encode()
    return head + rows.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def _lists(rows: Rows, name: str) -> tuple[bytes, dict[str, str]]:
    image = {"name": name, "datatype": "FP32", "shape": rows.shape, "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [image]}).encode(), {"Content-Type": "application/json"}
