"""A place in a store, from its URL: which library opens it, and what must not stand in its name."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from assay.core.errors import BadInput, did_you_mean
from assay.files import is_far

# user:password@host, or any user before a web server: that is a token
_LOGIN = re.compile(r"://[^/@]*:[^/@]*@|^(https?|s3|gs|gcs)://[^/@]*@", re.IGNORECASE)
_SIGNED = re.compile(
    r"[?&](x-(amz|goog)-[a-z-]+|awsaccesskeyid|sig|signature|(access_?)?token|secret|key|password)=", re.IGNORECASE
)
_NEEDS = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs",
    "http": "aiohttp", "https": "aiohttp",
}  # fmt: skip
_ENVIRONMENT = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (FSSPEC_S3_ANON=true for a public bucket, AWS_ENDPOINT_URL for "
    "another server than Amazon's)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "abfs": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_S3 = {"connect_timeout": 10, "read_timeout": 30, "retries": {"total_max_attempts": 1, "mode": "standard"}}
_HIDDEN = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AZURE_STORAGE_ACCOUNT_KEY")


@dataclasses.dataclass(frozen=True)
class Place:
    """A file system of fsspec, a path in it, and the URL that the user wrote."""

    url: str
    fs: Any
    path: str

    @property
    def local(self) -> bool:
        """Whether files lie on this machine."""
        return type(self.fs).__name__ in ("LocalFileSystem", "MemoryFileSystem")

    def at(self, path: str) -> Place:
        """Return another place of the same file system; `path` is as it lists them."""
        return dataclasses.replace(self, path=path)

    def relative(self, path: str) -> str:
        """Return a path as it is below this place."""
        root = self.path.rstrip("/")
        below = path.removeprefix(root).lstrip("/")
        return unquote(below) if root.startswith(("http://", "https://")) else below


def place_of(name: str, scheme: str) -> Place:
    """Return the place of a URL, or of a path on this machine; `scheme` stood before it (`folder:`).

    Raises `BadInput` for a kind of URL that nothing here opens, saying what to install, and for one with credentials.
    """
    import fsspec

    if not is_far(name):
        from fsspec.implementations.local import LocalFileSystem

        return Place(name, LocalFileSystem(), str(Path(name).expanduser().absolute()))
    refuse_credentials(name)
    if "::" in name:
        raise BadInput(f"{scheme}{name} is a chain of stores ('::'), which is not read here. Name one store.")
    protocol = name.partition("://")[0].lower()
    settings: dict[str, Any] = {"config_kwargs": _S3} if protocol in ("s3", "s3a") else {}
    try:
        fs, path = fsspec.core.url_to_fs(name, **settings)
    except ImportError as error:
        needed = _NEEDS.get(protocol, "the library that its error names")
        how = "assay[s3]" if needed == "s3fs" else needed
        told = f" ({error})" if protocol not in _NEEDS else ""
        raise BadInput(f"{needed} is not installed, which {protocol}:// needs{told}. Install it with: pip install "
                       f"'{how}'") from error  # fmt: skip
    except ValueError as error:
        near = did_you_mean(protocol, fsspec.available_protocols())
        raise BadInput(
            f"{protocol}:// is no kind of store that fsspec knows ({scheme}{protocol}://…).{near} Usual ones are s3, "
            "gs, abfs, https and file."
        ) from error
    if hasattr(fs, "retries"):
        fs.retries = 1  # tries are ours, or they would multiply
    return Place(name.rstrip("/"), fs, path)


def refuse_credentials(name: str) -> None:
    """Raise `BadInput`, without repeating them, where credentials stand in a URL."""
    if not is_far(name) or not (_LOGIN.search(name) or _SIGNED.search(name)):
        return
    protocol = name.partition("://")[0].lower()
    where = _ENVIRONMENT.get(protocol, "the variables that the store's library reads")
    raise BadInput(
        f"The {protocol}:// address of the data holds credentials (a login before the host, or a signature behind the "
        "?), and addresses stand in studies, records and logs. Leave them out, and give them in the environment: "
        f"{where}."
    )


def credentials_advice(place: Place) -> str:
    """Return where a store's credentials are read."""
    protocol = place.url.partition("://")[0].lower() if is_far(place.url) else "file"
    where = _ENVIRONMENT.get(protocol)
    return f"Credentials are read from the environment: {where}." if where else "Check that you may read it."


def in_short(error: BaseException) -> str:
    """Return an error of a store's library in one line, without what is secret in it."""
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in filter(None, map(os.environ.get, _HIDDEN)):
        text = text.replace(secret, "***")
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]+", r"\1?…", text)[:300]
