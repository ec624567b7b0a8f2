"""Starting and ending the server: one socket, one address to print, no process left behind."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from assay.core.errors import BadInput
from assay.playground.pool import Setting

if TYPE_CHECKING:
    import uvicorn

USUAL_PORT = 8321


@dataclasses.dataclass(frozen=True)
class Address:
    """Where the server listens."""

    listening: socket.socket
    host: str
    port: int

    @property
    def origin(self) -> str:
        """The address as browsers write it."""
        # 0.0.0.0 is no place to go to
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether this machine alone can reach it."""
        return _address(self.host).is_loopback


def listen(host: str, port: int | None) -> Address:
    """Listen at an address; without a port at the usual one, or at any that is free.

    Raises `BadInput` for what is no address of this machine, and for a port that is taken.
    """
    family = socket.AF_INET6 if _address(host).version == 6 else socket.AF_INET
    for wanted in (USUAL_PORT, 0) if port is None else (port,):
        opened = socket.socket(family, socket.SOCK_STREAM)
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((host, wanted))
            opened.listen(128)
        except OSError as error:
            opened.close()
            if port is None and wanted:
                continue
            raise BadInput(
                f"The server cannot listen at {host}, port {wanted}: {error.strerror or error}. Give another --port, "
                "or leave it out for one that is free."
            ) from error
        return Address(opened, host, opened.getsockname()[1])
    raise AssertionError("unreachable: the last port is any")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise BadInput(f"--host is {host!r}, expected an address of this machine such as 127.0.0.1.") from None


def serve(setting: Setting, address: Address, announce: Callable[[str], None], workers: int | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM; then end every worker.

    `announce` is told the page's address, with its token, as soon as the socket listens.
    """
    token = secrets.token_urlsafe(24)
    announce(f"{address.origin}/?token={token}")
    import uvicorn

    from assay.playground.guard import Guard
    from assay.playground.server import Playground, application

    async def live() -> None:
        place = Playground(setting, token, address.origin, workers)
        app = Guard(application(place), token, address.port, open_to_others=not address.loopback)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, lifespan="on",
            timeout_graceful_shutdown=1, limit_concurrency=200, ws="none",
        )  # fmt: skip
        await _ending(config).serve(sockets=[address.listening])

    asyncio.run(live())


def _ending(config: uvicorn.Config) -> uvicorn.Server:
    """Return a server that ends at a signal and is done with it.

    uvicorn's own raises the signal again at the end, which would end the process before its last words.
    """
    import uvicorn

    class Ending(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            def end(*_: object) -> None:
                self.force_exit = self.should_exit
                self.should_exit = True

            if threading.current_thread() is not threading.main_thread():
                # who serves from another thread sets should_exit
                yield
                return
            before = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for one, handler in before.items():
                    signal.signal(one, handler)

    return Ending(config)
