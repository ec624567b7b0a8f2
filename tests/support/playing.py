"""A playground as a process of its own, and a client that speaks to it as the page does."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

Json = dict[str, Any]


@dataclasses.dataclass
class Playing:
    """A running playground."""

    process: subprocess.Popen[str]
    url: str
    printed_after: float

    @property
    def token(self) -> str:
        return self.url.rpartition("token=")[2]

    @property
    def port(self) -> int:
        port = urllib.parse.urlsplit(self.url).port
        assert port is not None
        return port

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, *, token: bool = True
    ) -> tuple[int, dict[str, str], bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(link):
            own = {"X-Assay-Token": self.token} if token else {}
            link.request(method, path, body, {**own, **(headers or {})})
            answer = link.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def setup(self) -> Json:
        return json.loads(self.ask("GET", "/api/setup")[2])  # type: ignore[no-any-return]  # JSON

    def ready(self) -> Json:
        """Wait until all models are at hand."""
        end = time.monotonic() + 150
        while time.monotonic() < end:
            told = self.setup()
            if told["attacks"] and all(one["ready"] or one["failed"] for one in told["models"]):
                return told
            time.sleep(0.1)
        raise AssertionError(f"the models were not ready: {told['models']}")

    def image(self, content: bytes, model: str = "zoo:mnist-certified") -> Json:
        status, _, body = self.ask("POST", f"/api/image?model={urllib.parse.quote(model)}", content)
        assert status == 200, body
        return json.loads(body)  # type: ignore[no-any-return]  # JSON

    def lines(self, said: Json) -> Iterator[Json]:
        """Start a run; closing the iterator closes the stream."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(link):
            link.request("POST", "/api/run", json.dumps(said).encode(), {"X-Assay-Token": self.token})
            answer = link.getresponse()
            if answer.status != 200:
                yield {"event": "refused", "status": answer.status, **json.loads(answer.read())}
                return
            while line := answer.readline():
                yield json.loads(line)

    def run(self, image: str, /, **changed: Any) -> list[Json]:
        return list(self.lines(request(image, **changed)))


def request(image: str, /, **changed: Any) -> Json:
    """Return what the page sends for a run."""
    return {
        "image": image, "model": "zoo:mnist-certified", "second": None, "attack": "pgd", "norm": "linf", "eps": "0.3",
        "goal": "untargeted", "defence": None, "options": {}, "seed": 0, "smallest": False, "patch": None, **changed,
    }  # fmt: skip


def done(events: list[Json]) -> Json:
    """Return the last event, which has to be that of a finished run."""
    assert events[-1]["event"] == "done", events[-1]
    return events[-1]


@contextlib.contextmanager
def playground(*flags: str, folder: Path | None = None) -> Iterator[Playing]:
    """Run `assay play` until the block ends, by SIGTERM."""
    began = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "assay.cli", "play", "--no-browser", *flags],
        stdout=subprocess.PIPE, text=True, cwd=folder, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        yield Playing(process, url, time.monotonic() - began)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        process.stdout.close()


def drawn_three() -> bytes:
    """Return a PNG of a 3 as one draws it with a mouse, 280 x 280."""
    picture = Image.new("L", (280, 280))
    pen = ImageDraw.Draw(picture)
    pen.arc((80, 50, 200, 140), 180, 90, fill=255, width=22)
    pen.arc((80, 130, 200, 230), 270, 180, fill=255, width=22)
    return as_bytes(picture)


def as_bytes(picture: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    """Return a picture as a file."""
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return stream.getvalue()


def processes(parent: int) -> list[int]:
    """Return the children of a process that are alive."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            after = place.read_text().rpartition(")")[2].split()
            if int(after[1]) == parent and after[0] != "Z":
                found.append(int(place.parent.name))
    return found


def memory(process: int) -> int:
    """Return the resident bytes of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
