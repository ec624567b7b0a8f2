"""Processes on other machines that hold a lock, as their files tell them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path

from assay.evaluation.execution.lock import Holder


def content(holder: Holder) -> bytes:
    """Return what a lock says of its holder: of one length, to be written over itself."""
    return json.dumps(dataclasses.asdict(holder)).encode().ljust(768)


@contextlib.contextmanager
def elsewhere(path: Path, what: str = "run", beats: bool = True) -> Iterator[None]:
    """A holder on another machine, whose locks this one does not see: it gives signs of life, or is gone."""
    ended = threading.Event()
    holder = dataclasses.replace(Holder.here(what), host="node7", machine="another")

    def live() -> None:
        count = 0
        while not ended.wait(0.02) and beats:
            count += 1
            with path.open("r+b") as file:
                file.write(content(dataclasses.replace(holder, beat=count)))

    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content(holder))
    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
