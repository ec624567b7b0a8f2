"""A worker: one process with the models, which does one job at a time and tells what happens, line by line.

It reads requests from standard input and writes events to standard output, each a JSON object on a line. When its
input ends (the server is gone, however it went) it ends at once.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class _Line:
    """Both ends of the line to the server."""

    def __init__(self) -> None:
        # whatever a model prints must not get between events
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
        os.dup2(2, 1)
        # and a model that reads gets nothing, where it would take the requests or wait for ever
        self._in = os.fdopen(os.dup(0), "rb")
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        self.setup: Json = json.loads(self._in.readline() or b"null") or os._exit(0)
        self.requests: queue.Queue[Json] = queue.Queue()
        self.stopping: set[int] = set()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._in:
            request = json.loads(line)
            if request["do"] == "stop":
                self.stopping.add(request["job"])
            else:
                self.requests.put(request)
        os._exit(0)

    def tell(self, job: int, event: Json) -> None:
        self._out.write(json.dumps({"job": job, **event}, allow_nan=False) + "\n")
        self._out.flush()


def main() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = _Line()
    setup = line.setup
    import torch

    torch.set_num_threads(1)
    from assay.playground.shelf import Shelf

    shelf = Shelf(setup["models"], setup["allow_pickle"])
    _begin(line, shelf, setup)
    line.tell(0, {"event": "idle"})
    while True:
        request = line.requests.get()
        _do(line, shelf, request)
        line.stopping.discard(request["job"])


def _begin(line: _Line, shelf: Any, setup: Json) -> None:
    from assay.core.errors import AssayError
    from assay.playground import menu
    from assay.playground import shelf as shelves
    from assay.playground.intake import keep_to_formats

    line.tell(0, {"event": "menu", "attacks": menu.attacks(), "defences": menu.defences()})
    kinds: dict[str, str] = {}
    for name in shelf.names:
        told = shelf.load(name)
        line.tell(0, {"event": "model", "model": told})
        if told["ready"]:
            kinds.setdefault(told["kind"], name)
    if setup["samples"]:
        for kind, name in kinds.items():
            try:
                found = list(shelves.samples(setup["data"], shelf.models[name], kind))
                line.tell(0, {"event": "samples", "samples": found})
            except Exception as error:  # a user's data set may raise anything
                why = str(error) if isinstance(error, AssayError) else f"{type(error).__name__}: {error}"
                line.tell(0, {"event": "note", "text": f"No samples for {name}: {why}"})
        for path in setup["patches"]:
            try:
                line.tell(0, {"event": "patch", "patch": shelves.trained_patch(path)})
            except AssayError as error:
                line.tell(0, {"event": "note", "text": f"{error}"})
    keep_to_formats()


def _do(line: _Line, shelf: Any, request: Json) -> None:
    from assay.core.errors import AssayError
    from assay.models.failures import blamed
    from assay.playground.watched import OverLimit, Stopped

    job = request["job"]

    def tell(event: Json) -> None:
        line.tell(job, event)

    try:
        _JOBS[request["do"]](shelf, request, tell, lambda: job in line.stopping)
    except Stopped:
        tell({"event": "stopped"})
    except OverLimit:
        tell({"event": "failed", "error": f"The attack has spent the {request['ask']['passes']:,} passes that one may. "
                                          "Give it fewer steps or queries."})  # fmt: skip
    except AssayError as error:
        tell({"event": "failed", "error": str(error)})
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # nobody but a model raises the last two here
        told = blamed(error)
        tell({"event": "failed", "error": str(told) if told else f"{type(error).__name__}: {error}"})
        if not told:
            import traceback

            traceback.print_exc()
    tell({"event": "end"})


def _look(shelf: Any, request: Json, tell: Callable[[Json], None], stopped: Callable[[], bool]) -> None:
    from assay.playground import intake, shown
    from assay.playground.attacking import look

    model = shelf.model(request["model"])
    taken = intake.take(base64.b64decode(request["content"]), model)
    logits = look(model, taken.image[None])
    tell({
        "event": "image", "png": shown.data_uri(shown.png(taken.image)), "note": taken.note,
        "top": shown.top_five(logits, model), "shape": list(taken.image.shape),
        "values": base64.b64encode(taken.image.contiguous().numpy().astype("<f4").tobytes()).decode(),
    })  # fmt: skip


def _run(shelf: Any, request: Json, tell: Callable[[Json], None], stopped: Callable[[], bool]) -> None:
    from assay.playground import attacking, pasting
    from assay.playground.asked import Ask

    name, defence = request["model"], request["defence"]
    model = shelf.model(name, defence)
    image = _image(request, model)
    ask = Ask(model=f"{name}|{defence}" if defence else name, allow_pickle=shelf.allow_pickle, **request["ask"])
    patch = request["patch"]
    if patch is None:
        attacking.run(ask, model, image, tell, stopped)
        return
    placed = pasting.Placed(base64.b64decode(patch.pop("picture")), **patch)
    pasting.run(ask, model, image, placed, tell)


def _image(request: Json, model: Any) -> Any:
    import numpy as np
    import torch

    from assay.playground import intake

    values = request.get("values")
    if values is None:
        return intake.take(base64.b64decode(request["content"]), model).image
    array = np.frombuffer(base64.b64decode(values), "<f4").reshape(request["shape"])
    return torch.from_numpy(array.astype(np.float32))


def _patch(shelf: Any, request: Json, tell: Callable[[Json], None], stopped: Callable[[], bool]) -> None:
    from assay.playground.shelf import uploaded_patch

    tell({"event": "patch", "patch": uploaded_patch(base64.b64decode(request["content"]))})


_JOBS: dict[str, Callable[[Any, Json, Callable[[Json], None], Callable[[], bool]], None]] = {
    "look": _look,
    "run": _run,
    "patch": _patch,
}

if __name__ == "__main__":
    main()
