"""A server that misbehaves on purpose: each request for predictions takes the next word of its script."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import struct
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.serving import Predict, Server

PAGE = b"<html><body><h1>We will be back soon</h1></body></html>"
ERRORS = {"400", "401", "403", "404", "413", "422", "500", "501", "502", "503", "504"}


class Misbehaving(Server):
    """Answers as its `script` says, one word a request, and rightly when it is used up (or for the word "ok").

    A status; `429:SECONDS` and `429@SECONDS` (as a date); `reset` before the answer and `half` within it; `page` and
    `cut` (200, an error page, JSON cut short); `slow:SECONDS`, before the answer, and `drip:SECONDS`, byte by byte;
    `nan`, `infinity`, `null`, `text` among the scores; `classes`, `rows` (one too few); `changed` (another answer);
    `version` (another version); `elsewhere`, `here` (redirects); `echo` (401 with the header that it was sent).
    """

    def __init__(self, predict: Predict, shape: tuple[int, int, int], classes: int, **facts: Any) -> None:
        self.script: list[str] = facts.pop("script", [])
        self.at: list[float] = []
        self.under_way = self.most_under_way = 0
        super().__init__(predict, shape, classes, **facts)

    def respond(self, handler: BaseHTTPRequestHandler, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if handler.command == "GET":
            return super().respond(handler, path, body)
        with self.lock:
            self.at.append(time.monotonic())
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            word = self.script.pop(0) if self.script else "ok"
        try:
            return self.acted(word, handler, path, body)
        finally:
            with self.lock:
                self.under_way -= 1

    def acted(self, word: str, handler: Any, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        kind, _, value = word.partition(":")
        if word in ERRORS:
            return int(word), {"content-type": "text/plain"}, f"that was {word}".encode()
        if kind == "429":
            return 429, {"retry-after": value}, b"{}"
        if word.startswith("429@"):
            at = email.utils.formatdate(time.time() + float(word.removeprefix("429@")), usegmt=True)
            return 429, {"retry-after": at}, b"{}"
        if kind == "slow":
            time.sleep(float(value))
        if word == "page":
            return 200, {"content-type": "text/html; charset=utf-8"}, PAGE
        if word in ("elsewhere", "here"):
            to = "https://elsewhere.example/steal?key=1" if word == "elsewhere" else "/moved/"
            return 307, {"location": to}, b""
        if word == "echo":
            return 401, {}, f"not allowed: {handler.headers.get('authorization')}".encode()
        if word == "reset":
            broken(handler)
            return 0, {}, b""
        status, headers, answer = self.told(word, handler, path, body)
        if word == "half":
            handler.wfile.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer[: len(answer) // 2]
            )
            broken(handler)
            return 0, {}, b""
        if kind == "drip":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer))
            with contextlib.suppress(OSError):
                for byte in answer:
                    handler.wfile.write(bytes([byte]))
                    time.sleep(float(value))
            handler.close_connection = True
            return 0, {}, b""
        return status, headers, answer[: len(answer) // 2] if word == "cut" else answer

    def told(self, word: str, handler: Any, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        right, version = self.predict, self.version
        if word == "classes":
            self.predict = lambda images: right(images)[:, :-1]
        if word == "changed":
            self.predict = lambda images: right(images) + 1
        if word == "rows":
            self.predict = lambda images: right(images)[:-1]
        if word == "version":
            self.version = "2"
        try:
            status, headers, answer = super().respond(handler, path, body)
        finally:
            self.predict, self.version = right, version
        if word in ("nan", "infinity", "null", "text"):
            wrong = {"nan": b"NaN", "infinity": b"-Infinity", "null": b"null", "text": b'"high"'}[word]
            head, _, tail = answer.rpartition(b"]")
            # the last number of the innermost list
            at = max(head.rfind(b"["), head.rfind(b","))
            answer = head[: at + 1] + wrong + head[at + 1 + len(number_in(head[at + 1 :])) :] + b"]" + tail
        return status, headers, answer


def number_in(text: bytes) -> bytes:
    return text[: len(text) - len(text.lstrip(b" 0123456789.+-e"))]


def broken(handler: Any) -> None:
    """Reset the connection, as a process that is killed does."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RD)
    handler.connection.close()


@contextlib.contextmanager
def misbehaving(
    predict: Predict, *script: str, shape: tuple[int, int, int] = (3, 8, 8), **facts: Any
) -> Iterator[Misbehaving]:
    """Serve a function by a script while the block runs."""
    server = Misbehaving(predict, shape, facts.pop("classes", 5), script=list(script), **facts)
    server.start()
    try:
        yield server
    finally:
        server.close()
