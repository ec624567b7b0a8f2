"""Requests that arrive: persistent connections, a rate that is kept, and tries again where that may help."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import email.utils
import os
import random
import ssl
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from assay.core.errors import BadInput
from assay.models.remote.address import Address
from assay.models.remote.client import EndpointError
from assay.models.remote.pace import Pace
from assay.models.remote.secrets import Headers
from assay.spending import Limits

AGAIN = frozenset({429, 502, 503, 504})
"""The answers after which a request is sent again."""

BROKEN = frozenset({"reset", "timeout"})
"""Other ends after which it is sent again."""

# a gateway answers so for a server that may have done the work
_MAYBE_DONE = frozenset({502, 504})
_LONGEST_WAIT = 120.0
_FIRST_WAIT, _MOST_BACKOFF = 0.5, 30.0
_MOST_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True)
class Answered:
    """What came back: a status below 300, the headers (names in lower case), the body, and how often it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    retries: int = 0
    doubtful: int = 0


class Transport:
    """Sends requests to one endpoint; may be used by several threads, in a fork, and as a copy.

    `ca` is a file of certificates that are trusted beside nothing else. `again` are the statuses after which a request
    is sent again, and `broken` the other ends; where the endpoint has answered before, a connection that is refused is
    one too. It counts all `requests` that it sent, and the `retries` among them.
    """

    def __init__(
        self,
        address: Address,
        limits: Limits,
        headers: Headers | None = None,
        *,
        ca: str = "",
        again: frozenset[int] = AGAIN,
        broken: frozenset[str] = BROKEN,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if ca and not Path(ca).expanduser().is_file():
            raise BadInput(f"ca names {ca}, and there is no such file; expected certificates in PEM form.")
        self.address = address
        self.limits = limits
        self.headers = headers or Headers()
        self.pace = Pace(limits.per_second, sleep, name=address.host)
        self.requests = 0
        self.retries = 0
        self._ca = ca
        self._again = again
        self._after = broken
        self._sleep = sleep
        self._answered = False
        self._quiet_until = 0.0
        self._connections: tuple[int, Any] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # sockets and locks belong to one process
        return {**vars(self), "_connections": None, "_lock": None, "pace": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()
        self.pace = Pace(self.limits.per_second, self._sleep, name=self.address.host)

    def send(  # shape: as a request is written
        self,
        method: str,
        address: Address,
        content: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        tries: int | None = None,
    ) -> Answered:
        """Send a request, again where that may help, and return what was answered with a status below 300.

        Raises `EndpointError` for any other end of it: in words, without a secret.
        """
        most = self.limits.tries if tries is None else tries
        doubtful = 0
        for tried in range(1, most + 1):
            try:
                answer = self._once(method, address, content, headers, params)
            except _Broken as broken:
                doubtful += broken.doubtful
                last, wait = broken, broken.wait
                if (
                    not broken.again
                    or (broken.kind and broken.kind not in self._after)
                    or tried == most
                    or wait > _LONGEST_WAIT
                ):
                    break
                with self._lock:
                    self.retries += 1
                    # what one thread is told to wait holds for all
                    self._quiet_until = max(self._quiet_until, time.monotonic() + wait)
                self._sleep(max(wait, _backoff(tried)))
                continue
            return dataclasses.replace(answer, retries=tried - 1, doubtful=doubtful)
        else:
            raise AssertionError("a request is sent once at least")
        raise EndpointError(self.headers.redacted(last.said(address, tried)), tried, doubtful, last.status)

    def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        with self._lock:
            held, self._connections = self._connections, None
        if held and held[0] == os.getpid():
            held[1].close()

    def _once(
        self,
        method: str,
        address: Address,
        content: bytes | None,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str] | None,
    ) -> Answered:
        import httpx2

        client = self._client()
        if (quiet := self._quiet_until - time.monotonic()) > 0:
            self._sleep(quiet)
        self.pace.wait()
        with self._lock:
            self.requests += 1
        until = time.monotonic() + self.limits.timeout
        sent = {**self.headers.sent, **(headers or {})}
        try:
            with client.stream(method, address.url, content=content, headers=sent, params=params or None) as response:
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    if time.monotonic() > until:
                        raise _Broken(
                            f"its answer took longer than {self.limits.timeout:g} s", doubtful=1, kind="timeout"
                        )
                    if len(body) > _MOST_BYTES:
                        raise _Broken(f"it answered more than {_MOST_BYTES >> 20} MB", again=False)
                answered = Answered(response.status_code, dict(response.headers), bytes(body))
        except httpx2.TransportError as error:
            raise self._in_words(error) from None
        except httpx2.HTTPError as error:
            raise _Broken(f"its answer could not be read ({type(error).__name__})", again=False) from None
        if answered.status >= 300:
            raise _refused(answered, address, self._again, self.headers)
        self._answered = True
        return answered

    def _in_words(self, error: Exception) -> _Broken:
        import httpx2

        inside = _chain(error)
        if isinstance(error, httpx2.ConnectError) and any(isinstance(one, ssl.SSLError) for one in inside):
            return _tls(inside)
        if isinstance(error, httpx2.ProxyError):
            return _Broken("the proxy of the environment (HTTPS_PROXY, HTTP_PROXY) refused the connection", again=False)
        if isinstance(error, httpx2.ConnectTimeout):
            said = f"no connection within {self.limits.timeout:g} s"
            return _Broken(said, again=self._answered, fix=_IS_IT_UP)
        if isinstance(error, httpx2.ConnectError):
            reason = next(
                (one.strerror for one in inside if isinstance(one, OSError) and one.strerror), "no connection"
            )
            fix = _IS_IT_UP if not self._by_proxy() else "It is asked through the proxy of the environment: is that up?"
            return _Broken(f"{reason[:1].lower()}{reason[1:]}", again=self._answered, fix=fix)
        if isinstance(error, httpx2.TimeoutException):
            return _Broken(
                f"no answer within {self.limits.timeout:g} s",
                doubtful=1,
                kind="timeout",
                fix="Allow more: timeout=120.",
            )
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
            return _Broken(f"the request cannot be sent ({type(error).__name__})", again=False)
        return _Broken("the connection broke off", doubtful=1, kind="reset")

    def _by_proxy(self) -> bool:
        known = {} if self.address.loopback else urllib.request.getproxies()
        return bool(known.get(self.address.scheme) or known.get("all"))

    def _client(self) -> Any:
        # a fork must not write into its parent's sockets
        with self._lock:
            if self._connections is None or self._connections[0] != os.getpid():
                self._connections = (os.getpid(), self._opened())
            return self._connections[1]

    def _opened(self) -> Any:
        import httpx2

        wide = max(self.limits.parallel, 1)
        client = httpx2.Client(
            # of plain http nothing is verified, and to read all of the system's certificates takes a while
            verify=_trusted(self._ca) if self.address.scheme == "https" else False,
            trust_env=not self.address.loopback,
            timeout=httpx2.Timeout(self.limits.timeout, connect=min(self.limits.timeout, 10.0)),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=wide, keepalive_expiry=5.0),
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"user-agent": "assay", "accept-encoding": "identity"},
        )
        weakref.finalize(self, client.close)
        return client


class _Broken(Exception):
    """One try that came to nothing: why, whether another may help, and how long the endpoint asks to wait.

    `kind` is reset or timeout, where it ended so.
    """

    status = 0

    def __init__(  # shape: each a fact of its own, most often left out
        self, why: str, *, again: bool = True, doubtful: int = 0, wait: float = 0.0, kind: str = "", fix: str = ""
    ) -> None:
        super().__init__(why)
        self.kind = kind
        self.again = again
        self.doubtful = doubtful
        self.wait = wait
        self.fix = fix

    def said(self, address: Address, tries: int) -> str:
        often = (
            f"gave no answer in {tries} tries; the last time: {self}" if tries > 1 else f"could not be asked: {self}"
        )
        if self.wait > _LONGEST_WAIT:
            return f"The endpoint {address.shown} asks to wait {self.wait:.0f} s ({self}). Go on with it then."
        return f"The endpoint {address.shown} {often}.{' ' if self.fix else ''}{self.fix}"


_IS_IT_UP = "Is it up, and is the address right?"
_FIXES = {
    400: "Does the request have the form that it expects?",
    403: "Has the key the right to ask this model?",
    404: "Are the path and the model's name right?",
    405: "Is it the address where predictions are asked for?",
    413: "Give a smaller batch.",
    422: "Does the request have the form that it expects?",
    429: "Give a lower per_second, or fewer parallel requests.",
}  # fmt: skip


def _refused(answered: Answered, address: Address, again: frozenset[int], headers: Headers) -> _Broken:
    status = answered.status
    if status < 400:
        to = answered.headers.get("location", "")
        return _Broken(f"it answered {status} and points elsewhere{_elsewhere(to, address)}", again=False)
    said = excerpt(headers.redacted(answered.body.decode("utf-8", "replace")))
    broken = _Broken(
        f"it answered {status}{f': {said}' if said else ''}",
        again=status in again,
        doubtful=int(status in _MAYBE_DONE),
        wait=_retry_after(answered.headers.get("retry-after", "")),
        fix=_no_key(headers) if status == 401 else _FIXES.get(status, ""),
    )
    broken.status = status
    return broken


def _no_key(headers: Headers) -> str:
    named = ", ".join(f"{name}: {text}" for name, text in headers.template.items() if "${" in text)
    if named:
        return f"Is the key right that headers take from the environment ({named})?"
    return 'Give a key in an endpoint.yaml: headers: {authorization: "Bearer ${TOKEN}"}.'


def excerpt(text: str) -> str:
    """Return the beginning of a text on one line, without what a terminal would act on."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text[:2000]).split())
    return line if len(line) <= 200 else f"{line[:199]}…"


def _elsewhere(to: str, address: Address) -> str:
    with contextlib.suppress(BadInput):
        there = Address.of(urljoin(address.url, to).partition("?")[0], plain_http=True)
        if (there.scheme, there.host) != (address.scheme, address.host):
            taken = "redirects are not followed: they would take images and keys along"
            return f" ({there.scheme}://{there.host}), and {taken}"
        return f" (to {there.path or '/'}), and redirects are not followed: write that address"
    return ", and redirects are not followed"


def _retry_after(text: str) -> float:
    if text.strip().isdigit():
        return float(text)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=datetime.UTC)
    return max(0.0, (at - datetime.datetime.now(datetime.UTC)).total_seconds())


def _backoff(tried: int) -> float:
    # jitter parts clients that failed together; a generator of its own leaves the user's seeds alone
    return min(_FIRST_WAIT * 2.0 ** (tried - 1), _MOST_BACKOFF) * random.SystemRandom().uniform(0.5, 1.0)


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found


def _tls(inside: list[BaseException]) -> _Broken:
    told = next((one for one in inside if isinstance(one, ssl.SSLCertVerificationError)), None)
    if told is None:
        return _Broken("it does not speak TLS as https:// means it", again=False, fix="Is it http:// instead?")
    return _Broken(
        f"its certificate is not trusted ({told.verify_message})",
        again=False,
        fix="Name a file with the certificate, or of who signed it: ca=FILE.",
    )


def _trusted(ca: str) -> ssl.SSLContext | bool:
    if not ca:
        return True
    try:
        return ssl.create_default_context(cafile=str(Path(ca).expanduser()))
    except (ssl.SSLError, OSError) as error:
        raise BadInput(f"ca names {ca}, which holds no certificates in PEM form: {error}") from error
