"""Where an endpoint is, without anything that a log should not hold."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, quote, urlsplit

from assay.core.errors import BadInput

# what a name of a query parameter says about its value
_SECRET = re.compile(r"key|token|secret|passw|pwd|auth|sig|credential|session", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


@dataclasses.dataclass(frozen=True)
class Address:
    """The parts of an endpoint's URL: `http` or `https`, a host, a port, and a path, "" or from a slash on.

    The slash at a path's end stays: to some servers the two are different addresses.
    """

    scheme: str
    name: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str, *, plain_http: bool = False) -> Address:
        """Read a URL. `plain_http` lets an endpoint be asked without TLS that is not on this machine.

        Raises `BadInput` for what is no URL of an endpoint, for one that holds a password or a query, and for http to
        another machine.
        """
        parts, port = _split(url)
        if "@" in parts.netloc:
            raise BadInput(
                f"The URL of the endpoint at {parts.hostname} holds a user name or a password. Leave it out, and give "
                'it as a header in an endpoint.yaml: headers: {authorization: "Basic ${NAME}"}.'
            )
        if parts.query or parts.fragment:
            raise BadInput(
                f"The URL of the endpoint at {parts.hostname}{parts.path} goes on after a '?' or '#', which would "
                'stand in files and logs. Give keys as headers (headers: {x-api-key: "${NAME}"}) and other parameters '
                "as params in an endpoint.yaml: params: {api-version: v1}."
            )
        address = cls(parts.scheme, str(parts.hostname), port, quote(parts.path, safe="/%:@!$&'()*+,;=~-._"))
        if address.scheme == "http" and not address.loopback and not plain_http:
            raise BadInput(
                f"The endpoint {address.shown} would be asked by plain http, which anybody on the way can read and "
                "change. Write https://, or say that it is meant: plain_http=yes."
            )
        return address

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine."""
        if self.name == "localhost" or self.name.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.name).is_loopback
        except ValueError:
            return False

    @property
    def host(self) -> str:
        """Return host and port, the port where it is not the scheme's own."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def url(self) -> str:
        """Return the whole URL."""
        return f"{self.scheme}://{self.host}{self.path}"

    @property
    def shown(self) -> str:
        """Return what messages say: host and path."""
        return f"{self.host}{self.path}"

    def under(self, path: str) -> Address:
        """Return the address of `path`, which begins with a slash, below this one."""
        return dataclasses.replace(self, path=self.path.rstrip("/") + path)


def refuse_secrets(spec: str) -> None:
    """Raise `BadInput` for a model's name that holds a password or a key, before anybody repeats that name."""
    plain, _, options = spec.partition("|")[0].partition("?")
    if re.search(r"://[^/\s]*@", plain):
        raise BadInput(
            "A model's name holds a user name or a password in its address, and names stand in records and logs. "
            'Leave it out, and give it as a header in an endpoint.yaml: headers: {authorization: "Basic ${NAME}"}.'
        )
    for option in options.split("&") if "://" in plain else ():
        if _SECRET.search(option.partition("=")[0]):
            raise BadInput(
                f"The model at {plain} is given a key in its name, and names stand in records and logs. Leave it out, "
                'and give it as a header in an endpoint.yaml: headers: {x-api-key: "${NAME}"}.'
            )


def check_params(params: Mapping[str, str]) -> None:
    """Raise `BadInput` for a parameter of the query whose name says that its value is a secret."""
    for name in params:
        if _SECRET.search(name):
            raise BadInput(
                f"params: {name} looks like a secret, and a query stands in the logs of every server on the way. Give "
                f'it as a header: headers: {{{name}: "${{NAME}}"}}.'
            )


def _split(url: str) -> tuple[SplitResult, int]:
    # what cannot be taken apart is not repeated: it may hold a password
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise BadInput(
            "The address of the endpoint is no URL; expected such as http://127.0.0.1:8080/model."
        ) from error
    if parts.scheme not in _PORTS or not parts.hostname or re.search(r"[\s\x00-\x1f\\]", parts.netloc + parts.path):
        shown = url if "@" not in url and "?" not in url else f"{parts.scheme}://…"
        raise BadInput(
            f"{shown!r} is no address of an endpoint; expected http:// or https:// with a host, such as "
            "http://127.0.0.1:8080/model."
        )
    return parts, _PORTS[parts.scheme] if port is None else port
