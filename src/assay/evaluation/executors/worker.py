"""The worker process: reads units by name, does them, sends the records back. It never outlives its parent."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from assay.models.remote.ledger import Ledger

_ORPHANED = 3


def main() -> None:
    """Serve the parent on standard input and output until told to leave."""
    # whatever the user's code prints goes to the log; the pipe is for messages alone
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(messages,), daemon=True).start()
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()

    from assay.core.errors import AssayError

    try:
        setup = messages.get()
        with _ledger(setup["folder"]).used():
            _serve(setup, messages, out)
    except AssayError as error:
        _say(out, {"stop": str(error), "kind": [type(error).__module__, type(error).__qualname__]})


def _ledger(folder: str) -> Ledger:
    from assay.models.remote.ledger import Ledger

    # the parent has looked for damage
    return Ledger.of_run(Path(folder), check=False)


def _serve(setup: dict[str, Any], messages: queue.SimpleQueue[dict[str, Any]], out: BinaryIO) -> None:
    import torch

    from assay.evaluation.cell import Cell, Unit
    from assay.evaluation.executors.base import Done, perform
    from assay.evaluation.loader import Loader
    from assay.evaluation.records.store import to_bytes
    from assay.models.devices import use_device

    torch.set_num_threads(1)
    if setup["loader"]["device"]:
        use_device(setup["loader"]["device"])
    loader = Loader(**setup["loader"])
    cells = {digest: Cell.of(plain) for digest, plain in setup["cells"].items()}
    _say(out, {"ready": True})
    while "leave" not in (message := messages.get()):
        answer = perform(Unit(cells[message["cell"]], message["chunk"]), loader)
        if isinstance(answer, Done):
            counts = {name: getattr(answer, name) for name in ("forwards", "backwards", "errors", "seconds")}
            _say(out, {"done": counts}, to_bytes(answer.records), answer.pictures)
        else:
            _say(out, {"failed": answer.reason, "details": answer.details})


def _say(out: BinaryIO, message: dict[str, Any], *parts: bytes) -> None:
    # a line of JSON, and behind it the bytes whose lengths it states
    out.write(json.dumps({**message, "lengths": [len(part) for part in parts]}).encode() + b"\n")
    for part in parts:
        out.write(part)
    out.flush()


def _read(messages: queue.SimpleQueue[dict[str, Any]]) -> None:
    # the raw descriptor: a thread that waits inside sys.stdin would hold its lock when the interpreter ends
    rest = b""
    while chunk := os.read(0, 1 << 16):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            messages.put(json.loads(line))
    # the other end is closed: the parent is gone, however it went
    os._exit(_ORPHANED)


def _watch(parent: int) -> None:
    # a process forked from the parent may keep the pipe open after it; being given another parent tells as well
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(_ORPHANED)
