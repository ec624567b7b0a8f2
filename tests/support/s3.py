"""A real S3 API on this machine (moto's server), and a proxy before it that fails as stores do."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIDFORTESTS",
    "AWS_SECRET_ACCESS_KEY": "a-secret-for-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@contextlib.contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """Start the server, and yield its URL."""
    port = free_port()
    with log.open("wb") as out:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **KEYS})
    try:
        _wait(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"moto's server did not start: {log.read_text()}")


Fault = Callable[[str, int], str | float | None]
"""(key, number of its GET, from 1) -> "503", "short", "drop", seconds to wait, or None."""


class Proxy:
    """Passes requests on to a store. `fault` may be replaced at any time; `gets` counts the GETs of each object."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.fault: Fault = lambda key, number: None
        self.gets: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def counted(self, key: str) -> int:
        """Count a GET, and return its number."""
        with self._lock:
            self.gets[key] += 1
            return self.gets[key]

    def stop(self) -> None:
        """End."""
        self.http.shutdown()
        self.http.server_close()


_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            key = unquote(urlsplit(self.path).path).lstrip("/")
            is_object = self.command == "GET" and "/" in key and "list-type" not in self.path
            fault = proxy.fault(key, proxy.counted(key)) if is_object else None
            if isinstance(fault, float):
                time.sleep(fault)
            if fault == "503":
                self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN)
                return
            if fault == "drop":
                self.close_connection = True
                return
            upstream = http.client.HTTPConnection(str(proxy.upstream.hostname), proxy.upstream.port, timeout=60)
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
            self._answer(answer.status, answer.getheaders(), content, cut=fault == "short")
            upstream.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers}.get("content-length")
            self.send_header("Content-Length", str(length if self.command == "HEAD" and length else len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

        def log_message(self, *given: Any) -> None:
            """Say nothing."""

    return Handler
