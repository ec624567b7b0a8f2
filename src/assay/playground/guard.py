"""Who may ask: pages of this server alone, with its token, from the names that it goes by."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import ipaddress
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN = b"x-assay-token"
COOKIE = "assay-visitor"

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"x-frame-options", b"DENY"),
)


@dataclasses.dataclass(frozen=True)
class Guard:
    """An application behind its checks: `Host` and `Origin`, then the token. It tells visitors apart by a cookie.

    Bound to loopback, the server goes by `localhost` and loopback addresses; bound elsewhere, by any address and by the
    name of the machine. Other names are what pages on the internet would use that make their own name mean this
    machine.
    """

    app: App
    token: str
    port: int
    open_to_others: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400 for a foreign `Host`, 403 for a foreign `Origin` or without the token."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        visitor, fresh = _visitor(headers)
        scope["visitor"] = visitor

        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                more = [*message.get("headers", []), *_HEADERS]
                if fresh:
                    more.append((b"set-cookie", f"{COOKIE}={visitor}; HttpOnly; SameSite=Strict; Path=/".encode()))
                message = {**message, "headers": more}
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except asyncio.CancelledError:
            # the server ends; what is cut off by that is nothing to trouble the terminal with
            with contextlib.suppress(Exception):
                if begun:
                    await send({"type": "http.response.body", "body": b""})
                else:
                    await _refuse(send, 503, "The server ends.")

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        hosts = [value for name, value in scope["headers"] if name.lower() == b"host"]
        host = hosts[0].decode("latin-1") if len(hosts) == 1 else ""
        if not self._known(host):
            return 400, "This server goes by the address that assay play printed, and by no other name."
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") != f"http://{host}":
            return 403, "Requests come from the playground's own page alone."
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            return 403, "Requests come from the playground's own page alone."
        given = headers.get(TOKEN, b"")
        if scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            given = (parse_qs(scope["query_string"].decode("latin-1")).get("token") or [""])[0].encode()
        if not hmac.compare_digest(given, self.token.encode()):
            return 403, "The token is missing or wrong. Open the address that assay play printed, with its token."
        return None

    def _known(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        if not name or port != str(self.port):
            # at port 80 browsers leave it out
            name, port = host, "80"
        if port != str(self.port):
            return False
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower() == "localhost" or (self.open_to_others and name.lower() == socket.gethostname().lower())
        return address.is_loopback or self.open_to_others


def _visitor(headers: dict[bytes, bytes]) -> tuple[str, bool]:
    try:
        told = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    except Exception:  # a cookie of someone else's that cannot be read
        told = None
    known = told is not None and len(told.value) == 22
    return (told.value, False) if told is not None and known else (secrets.token_urlsafe(16), True)


async def _refuse(send: Send, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
