"""The playground against the bare call: PGD-40 on a digit, one thread each, from the click to the last byte."""

from __future__ import annotations

import time
from typing import Any

import torch

import assay
from assay.attacks import build
from assay.playground.attacking import SAMPLE
from benchmarks.measure import Outcome, Row, at_most, interleaved
from tests.support.playing import Playing, done, drawn_three, playground, request

MODEL = "zoo:mnist-cnn"
CLICKS = 9


def clicked(place: Playing, image: str) -> float:
    """Attack by all of PGD's 40 steps, as the page does; return the seconds until the first point."""
    began, first = time.perf_counter(), 0.0
    events = []
    for event in place.lines(request(image, model=MODEL, options={"question": "as_attacked"})):
        events.append(event)
        if event["event"] == "point" and not first:
            first = time.perf_counter() - began
    assert done(events)["forwards"] == 41
    return first


def measure(repeats: int) -> Outcome:
    """Compare a click with the call, and tell how long the page and the first point of the curve take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        began = time.perf_counter()
        with playground("--model", MODEL) as place:
            assert place.ask("GET", f"/?token={place.token}", token=False)[0] == 200
            painted = time.perf_counter() - began
            place.ready()
            image = place.image(drawn_three(), MODEL)
            model, x, y = assay.load_model(MODEL), _seen(image), torch.tensor([image["top"][0]["class"]])

            def bare() -> Any:
                return assay.attack(build("pgd"), model, x, y, assay.Linf("0.3"), keep="last", ids=[SAMPLE])

            timed = interleaved(
                {
                    "assay.attack": lambda: [bare() for _ in range(CLICKS)],
                    "assay play": lambda: [clicked(place, image["image"]) for _ in range(CLICKS)],
                },
                repeats,
            )
    finally:
        torch.set_num_threads(threads)
    call, shown = timed["assay.attack"], timed["assay play"]
    firsts = sorted(first for result in shown.results for first in result)
    rows = [
        call.row("assay.attack, PGD-40 on a digit", CLICKS),
        shown.row("the same by a click, with pictures and curve", CLICKS, "41 points"),
        Row("first point after the click", firsts[len(firsts) // 2], firsts[0], firsts[-1]),
        Row("page after the command", painted, painted, painted),
    ]
    ratios = [
        at_most("click / call", shown.median / call.median, 1.5),
        at_most("first point, seconds", firsts[-1], 0.3),
        at_most("page, seconds", painted, 1.0),
    ]
    return Outcome("play", "The playground, MNIST network, one thread", "seconds", rows, ratios)


def _seen(image: dict[str, Any]) -> torch.Tensor:
    import base64
    import io

    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(image["png"].partition(",")[2]))) as picture:
        return torch.from_numpy(np.asarray(picture).copy())[None, None].float() / 255
