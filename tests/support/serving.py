"""A server on this machine that answers with a function, in the forms that real servers use.

It speaks the Open Inference Protocol (JSON and binary), version 1, and plain JSON with pictures in it, and counts.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

Predict = Callable[[np.ndarray], np.ndarray]

NUMPY = {"FP32": "<f4", "FP64": "<f8", "FP16": "<f2", "UINT8": "u1", "INT64": "<i8", "INT32": "<i4"}
LENGTH = "Inference-Header-Content-Length"


class Server:
    """Serves `predict`, from float32 `[N, C, H, W]` in [0, 1] to `[N, K]`, until it is closed.

    `asked` counts requests by what they are for, `rows` the images that were answered, `seen` the headers. `binary`
    says whether the binary form is understood; `datatype`, `layout` and `metadata` are what the model's metadata state.
    """

    def __init__(self, predict: Predict, shape: tuple[int, int, int], classes: int, **facts: Any) -> None:
        self.predict, self.shape, self.classes = predict, shape, classes
        self.binary: str = facts.pop("binary", "yes")
        self.datatype: str = facts.pop("datatype", "FP32")
        self.layout: str = facts.pop("layout", "nchw")
        self.version: str = facts.pop("version", "1")
        self.flat: bool = facts.pop("flat", False)
        self.batch: int = facts.pop("batch", -1)
        self.labels: bool = facts.pop("labels", False)
        self.metadata: dict[str, Any] = facts.pop("metadata", {})
        self.names: list[str] = facts.pop("names", [f"c{at}" for at in range(classes)])
        assert not facts, facts
        self.asked: Counter[str] = Counter()
        self.rows = 0
        self.batches: list[int] = []
        self.seen: list[dict[str, str]] = []
        self.ids: list[str] = []
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def answer(self, images: np.ndarray) -> np.ndarray:
        with self.lock:
            self.rows += len(images)
            self.batches.append(len(images))
        return np.asarray(self.predict(np.ascontiguousarray(images, np.float32)))

    def start(self) -> Server:
        self.thread.start()
        return self

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(5)

    def respond(self, handler: BaseHTTPRequestHandler, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = path.partition("?")[0].strip("/").split("/")
        if parts[0] == "v2":
            return self.v2(handler, parts, body)
        if parts[0] == "v1":
            return self.v1(parts, body)
        return self.plain(parts[-1], body)

    def v2(self, handler: Any, parts: list[str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if parts[2:3] != ["net"]:
            return 404, {}, b'{"error": "no such model"}'
        if parts[-1] != "infer":
            self.asked["metadata"] += 1
            c, h, w = self.shape
            sides = [c, h, w] if self.layout == "nchw" else [h, w, c]
            out = {"name": "scores", "datatype": "FP32", "shape": [-1, self.classes]}
            out = {"name": "label", "datatype": "INT64", "shape": [-1]} if self.labels else out
            told = {
                "name": "net", "versions": [self.version], "platform": "python",
                "inputs": [{"name": "image", "datatype": self.datatype, "shape": [self.batch, *sides]}],
                "outputs": [out], **self.metadata,
            }  # fmt: skip
            return 200, {}, json.dumps(told).encode()
        self.asked["infer"] += 1
        length = handler.headers.get(LENGTH)
        if length is not None and self.binary == "no":
            return 500, {}, b"Internal Server Error"
        head = json.loads(body[: int(length)] if length else body)
        self.ids.append(head["id"])
        given, wanted = head["inputs"][0], head["outputs"][0]
        assert given["name"] == "image" and given["datatype"] == self.datatype, given
        if length:
            assert given["parameters"]["binary_data_size"] == len(body) - int(length)
            flat = np.frombuffer(body[int(length) :], NUMPY[self.datatype])
        else:
            flat = np.array(given["data"], NUMPY[self.datatype])
        scores = self.answer(self.images(flat.reshape(given["shape"])))
        output = {"name": wanted["name"], "datatype": "FP32", "shape": list(scores.shape)}
        if self.labels:
            output["datatype"] = "INT64"
        told = {"model_name": "net", "model_version": self.version, "id": head["id"], "outputs": [output]}
        if (wanted.get("parameters") or {}).get("classification"):
            first = scores.argmax(1)
            output |= {"datatype": "BYTES", "shape": [len(scores), 1]}
            output["data"] = [f"{row[at]:.6f}:{at}:{self.names[at]}" for row, at in zip(scores, first, strict=True)]
        elif (wanted.get("parameters") or {}).get("binary_data") and self.binary in ("yes", "wrong"):
            data = (scores + (self.binary == "wrong")).astype(NUMPY[output["datatype"]]).tobytes()
            output["parameters"] = {"binary_data_size": len(data)}
            answer = json.dumps(told).encode()
            return 200, {LENGTH: str(len(answer)), "content-type": "application/octet-stream"}, answer + data
        else:
            exact = scores.astype(np.float64) if scores.dtype.kind == "f" else scores
            output["data"] = (exact.reshape(-1) if self.flat else exact).tolist()
        return 200, {}, json.dumps(told).encode()

    def v1(self, parts: list[str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if parts[2:3] not in (["net"], ["net:predict"]):
            return 404, {}, b'{"error": "no such model"}'
        if not parts[-1].endswith(":predict"):
            self.asked["metadata"] += 1
            if parts[-1] == "metadata":
                return 404, {}, b"{}"
            status = {"version": self.version, "state": "AVAILABLE", "status": {}}
            return 200, {}, json.dumps({"model_version_status": [status]}).encode()
        self.asked["infer"] += 1
        given = json.loads(body)["instances"]
        given = [one["image"] if isinstance(one, dict) else one for one in given]
        scores = self.answer(self.images(np.array(given, np.float32)))
        return 200, {}, json.dumps({"predictions": scores.astype(np.float64).tolist()}).encode()

    def plain(self, kind: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Answer `/png`, `/floats` and `/raw` with scores, `/labelled` with labels and scores, `/named` with one.

        `/by-name` with an object of scores by label, behind a byte order mark, and `/number` with a label as 3.0.
        """
        self.asked["infer"] += 1
        many = False
        if kind == "raw":
            images = opened(body)[None]
        else:
            request = json.loads(body)
            given = request["inputs"]
            many = isinstance(given, list) and kind != "floats"
            if kind == "floats":
                images = np.array(given, np.float32)
                many = images.ndim == 4
                images = images if many else images[None]
            else:
                images = np.stack([opened(base64.b64decode(one)) for one in (given if many else [given])])
        scores = self.answer(images)
        if kind == "labelled":
            order = np.argsort(-scores[0], kind="stable")[: request.get("top", self.classes)]
            told: Any = [{"label": self.names[at], "score": float(scores[0, at])} for at in order]
        elif kind == "named":
            told = {"label": self.names[int(scores[0].argmax())]}
        elif kind == "by-name":
            told = {self.names[at]: float(scores[0, at]) for at in np.argsort(-scores[0])}
            return 200, {}, b"\xef\xbb\xbf" + json.dumps(told).encode()
        elif kind == "number":
            told = {"label": float(scores[0].argmax()) + request.get("off", 0)}
        else:
            rows = scores.astype(np.float64).tolist()
            told = {"result": {"scores": rows if many else rows[0]}}
        return 200, {}, json.dumps(told).encode()

    def images(self, given: np.ndarray) -> np.ndarray:
        images = given.astype(np.float32) / (255 if self.datatype == "UINT8" else 1)
        return images if self.layout == "nchw" else images.transpose(0, 3, 1, 2)


def opened(data: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(data)), np.float32) / 255
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.reply(b"")

        def do_POST(self) -> None:
            self.reply(self.rfile.read(int(self.headers.get("content-length", 0))))

        def reply(self, body: bytes) -> None:
            with server.lock:
                server.seen.append({name.lower(): value for name, value in self.headers.items()})
            status, headers, answer = server.respond(self, self.path, body)
            if not status:
                # whoever responded has written, or broken off, by itself
                return
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):  # a connection that was broken off
                super().handle()

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def of_module(module: torch.nn.Module) -> Predict:
    """Return a module as a function of arrays."""

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return predict


def linear(shape: tuple[int, int, int], classes: int, seed: int = 0) -> torch.nn.Module:
    """Return a small network with fixed weights."""
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(int(np.prod(shape)), classes)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator))
    return torch.nn.Sequential(torch.nn.Flatten(), layer).eval()


@contextlib.contextmanager
def served(predict: Predict, shape: tuple[int, int, int], classes: int, **facts: Any) -> Iterator[Server]:
    """Serve a function while the block runs."""
    server = Server(predict, shape, classes, **facts).start()
    try:
        yield server
    finally:
        server.close()


def with_tls(server: Server, folder: Path) -> Path:
    """Let a server that was not started speak TLS with a certificate of its own, and return that certificate's file."""
    import subprocess

    key, certificate = folder / "key.pem", folder / "cert.pem"
    told = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", *told, *names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    return certificate
