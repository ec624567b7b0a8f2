"""A stand-in for the playground's server: it speaks the same words to the page, and computes nothing.

Its two models answer by script, so that tests of the page alone need no torch. Names of classes are hostile where a
test asks for that. Every request is kept, with the token that it carried.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.server
import io
import json
import secrets
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from assay.playground import page

Json = dict[str, Any]

HOSTILE = "<img src=x onerror=\"document.title='broken out'\"> & 'seven'"
ROBUST = "MNIST network, adversarially trained"
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PICTURES = [
    "tabby cat",
    "golden retriever",
    "sports car",
    "lighthouse",
    "espresso",
    "acorn squash",
    "toaster",
    "banana",
    "teapot",
    "flamingo",
]
UNREADABLE = (
    "The file is not a picture that can be read: it begins like text. Give a PNG, JPEG, WebP, BMP, GIF or TIFF."
)


@dataclasses.dataclass
class Double:
    """A running stand-in: where it answers, what it was asked, and how it is to behave."""

    url: str = ""
    token: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(16))
    hostile: bool = False
    loading: int = 0
    """How many times the models are said to be loading before they are ready."""
    samples: bool = True
    pace: float = 0.01
    """Seconds between two points of the curve."""
    asked: list[tuple[str, str, Json]] = dataclasses.field(default_factory=list)
    images: dict[str, tuple[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    results: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    stopped: set[str] = dataclasses.field(default_factory=set)
    left: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def link(self) -> str:
        return f"{self.url}/?token={self.token}"

    @property
    def digits(self) -> list[str]:
        return [HOSTILE if self.hostile and at in (3, 7) else word for at, word in enumerate(WORDS)]

    def last(self, path: str) -> Json:
        """Return what came with the latest request of a path."""
        return next(
            body for at, where, body in reversed([(m, p.split("?")[0], b) for m, p, b in self.asked]) if where == path
        )


@contextlib.contextmanager
def playing(**behaviour: Any) -> Iterator[Double]:
    """Run a stand-in on a free port of this machine until the block ends."""
    double = Double(**behaviour)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"double": double}))
    server.daemon_threads = True
    double.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    double: Double

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        at = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(at.query))
        self.double.asked.append(("GET", self.path, {}))
        if at.path == "/":
            self._page(query.get("token"))
        elif self.headers["X-Assay-Token"] != self.double.token:
            self._json({"error": "The token is missing or wrong."}, 403)
        elif at.path == "/api/setup":
            self._json(setup(self.double))
        elif at.path == "/api/download":
            content = self.double.results[query["run"], query["model"]]
            self._send(200, "image/png", base64.b64decode(content.split(",")[1]), {"X-Assay-Checked": "still broken"})
        else:
            self._json({"error": "There is nothing here."}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        at = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(at.query))
        said: Json = json.loads(body) if at.path in ("/api/run", "/api/stop") else {"bytes": body}
        self.double.asked.append(("POST", self.path, said))
        if self.headers["X-Assay-Token"] != self.double.token:
            self._json({"error": "The token is missing or wrong."}, 403)
        elif at.path == "/api/image":
            self._image(body, query["model"])
        elif at.path == "/api/run":
            self._run(said)
        elif at.path == "/api/stop":
            self.double.stopped.add(said["run"])
            self._json({})
        elif at.path == "/api/patch":
            self._json({"id": "uploaded", "png": _uri(Image.open(io.BytesIO(body)).convert("RGB"))})

    def _page(self, token: str | None) -> None:
        if token != self.double.token:
            self._json({"error": "Open the address that assay play printed: it ends with a token."}, 403)
            return
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data: blob:; "
            "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
        text = page.render(token, nonce)
        self._send(200, "text/html; charset=utf-8", text.encode(), {"Content-Security-Policy": policy})

    def _image(self, body: bytes, model: str) -> None:
        try:
            picture = Image.open(io.BytesIO(body))
        except OSError:
            self._json({"error": UNREADABLE}, 400)
            return
        mode, side = ("L", 28) if model == "mnist-cnn" else ("RGB", 224)
        seen = picture.convert(mode).resize((side, side))
        name = secrets.token_hex(4)
        self.double.images[name] = (model, np.asarray(seen, dtype=np.float32) / 255)
        note = "" if picture.size == seen.size else f"Resized from {picture.width} × {picture.height}."
        self._json({"image": name, "png": _uri(seen), "note": note, "top": top(self.double, model, broken=False)})

    def _run(self, said: Json) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.end_headers()
        run = secrets.token_hex(4)
        try:
            for event in events(self.double, run, said):
                self.wfile.write(json.dumps(event).encode() + b"\n")
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.double.left.set()
        self.close_connection = True

    def _json(self, value: Json, status: int = 200) -> None:
        self._send(status, "application/json", json.dumps(value).encode(), {})

    def _send(self, status: int, kind: str, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def setup(double: Double) -> Json:
    """Return what the page is made of."""
    ready = double.loading <= 0
    double.loading -= 1
    common = {"ready": ready, "failed": None, "access": "gradient", "defended": False}
    steps = {"name": "steps", "type": "int", "default": 40, "help": "Steps along the gradient."}
    size = {"name": "step_size", "type": "float", "default": None, "help": "Length of a step; without one, eps / 4."}
    start = {"name": "random_start", "type": "bool", "default": True, "help": "Start at a random point of the ball."}
    by = {
        "name": "objective",
        "type": "choice",
        "choices": ["ce", "margin"],
        "default": "ce",
        "help": "What is climbed.",
    }
    return {
        "models": [
            {"name": "mnist-cnn", "title": "MNIST network", "kind": "digits", "shape": [1, 28, 28],
             "classes": double.digits, **common},
            {"name": "mnist-pgd", "title": ROBUST, "kind": "digits", "shape": [1, 28, 28],
             "classes": double.digits, **common},
            {"name": "lite0", "title": "EfficientNet-Lite0", "kind": "picture", "shape": [3, 224, 224],
             "classes": PICTURES, **common},
            {"name": "gone", "title": "A model that failed", "kind": "picture", "shape": [3, 32, 32], "classes": [],
             **common, "ready": False, "failed": "The file gone.onnx does not exist."},
        ],
        "attacks": [
            {"name": "fgsm", "title": "one step along the sign of the gradient", "norms": ["linf"], "gradient": True,
             "options": [], "source": "arXiv:1412.6572"},
            {"name": "pgd", "title": "projected gradient descent from random starts", "norms": ["linf", "l2", "l1"],
             "gradient": True, "options": [steps, size, start, by], "source": "arXiv:1706.06083"},
            {"name": "square", "title": "random squares, by scores alone", "norms": ["linf", "l2"], "gradient": False,
             "options": [{**steps, "name": "queries", "default": 5000, "help": "Passes at most."}],
             "source": "arXiv:1912.00049"},
            {"name": "sigma-zero", "title": "a smooth count of values, lowered", "norms": ["l0"], "gradient": True,
             "options": [], "source": "arXiv:2402.01879"},
        ],
        "defences": [{"name": "jpeg:quality=75", "title": "JPEG at quality 75"}, {"name": "bits:3", "title": "3 bits"}],
        "samples": _samples() if double.samples else [],
        "patches": [{"id": "stripes", "title": "stripes", "png": _uri(scene(9).resize((64, 64)))}],
        "budgets": {
            "linf": {"least": "0.5/255", "most": "0.5", "default": "4/255", "unit": "1/255"},
            "l2": {"least": "0.1", "most": "10", "default": "2.0", "unit": "1"},
            "l1": {"least": "1", "most": "100", "default": "10", "unit": "1"},
            "l0": {"least": "1", "most": "200", "default": "20", "unit": "pixels"},
        },
        "limits": {"seconds": 60, "passes": 20000, "upload": 8388608},
    }  # fmt: skip


def _samples() -> list[Json]:
    digits = [
        {"id": f"digit-{k}", "title": f"a {k}", "model_kind": "digits", "label": k, "png": _uri(digit(k))}
        for k in range(10)
    ]
    scenes = [
        {"id": f"scene-{k}", "title": f"scene {k}", "model_kind": "picture", "png": _uri(scene(k))} for k in range(6)
    ]
    return [*digits, *scenes]


def events(double: Double, run: str, said: Json) -> Iterator[Json]:
    """Yield what the server says of one run."""
    yield {"event": "started", "run": run}
    if said["attack"] == "sigma-zero":
        yield {"event": "failed", "error": f"sigma-zero found no scores at {HOSTILE}: they are NaN."}
        return
    models = [said["model"], *([said["second"]] if said["second"] else [])]
    for model in models:
        yield {"event": "clean", "model": model, "top": top(double, model, broken=False), "margin": 9.4, "right": None}
    passes = 2 if said["attack"] == "fgsm" or said["patch"] else int(said["options"].get("steps", 40))
    ends = {model: (9.0 if model == "mnist-pgd" else 1.6 * 9.4) for model in models}
    for at in range(1, passes + 1):
        for model in models:
            wobble = 0.25 * np.sin(at * 1.7)
            margin = 9.4 - ends[model] * (1 - np.exp(-3 * at / passes)) + wobble
            yield {"event": "point", "model": model, "pass": at, "margin": float(margin)}
        time.sleep(double.pace)
        if run in double.stopped:
            yield {"event": "stopped"}
            return
    for model in models:
        yield _done(double, run, said, model)


def _done(double: Double, run: str, said: Json, model: str) -> Json:
    _, x = double.images[said["image"]]
    size = float(said["eps"].split("/")[0]) / (255 if "/" in said["eps"] else 1)
    size = size if said["norm"] == "linf" else 0.1
    draws = np.random.default_rng(0)
    result = np.clip(x + size * draws.choice([-1, 1], size=x.shape), 0, 1).astype(np.float32)
    success = model != "mnist-pgd"
    factor = max(1, round(0.5 / size))
    change = np.clip(0.5 + factor * (result - x), 0, 1)
    shown = _uri(_picture(result))
    double.results[run, model] = shown
    state = "broken" if success else "not broken"
    why = (
        "The picture is the proof: the verdict rests on one answer of the model, to the PNG read back from its file."
        if success
        else "No proof that nothing would break it: the verdict rests on 40 steps of one attack."
    )
    smallest = {"eps": "0.11", "value": 0.11, "how": "bisection, 8 sweeps, 328 passes"}
    python = f'import assay\n\nmodel = assay.load_model("{model}")\nfound = assay.attack(method, model, x, y)'
    return {
        "event": "done", "model": model, "success": success, "original": _uri(_picture(x)), "result": shown,
        "change": _uri(_picture(change)), "factor": factor, "size": size, "norm": said["norm"],
        "grey_levels": 255 * size, "top": top(double, model, broken=success), "margin": -5.1 if success else 2.2,
        "forwards": 1 if said["patch"] else 41, "backwards": 0 if said["patch"] else 40, "seconds": 0.41,
        "smallest": smallest if said["smallest"] else None,
        "certified": {"radius": None, "norm": "linf", "how": "no certificate fits this network"} if success else
                     {"radius": 0.05, "norm": "linf", "how": "interval bounds"},
        "verdict": {"state": state, "text": why},
        "shell": f"assay run --model {model} --attack {said['attack']} --eps {said['eps']}",
        "python": python,
        "array": base64.b64encode(result.tobytes()).decode(),
        "checked": {"saved_breaks": success, "note": "read back from the PNG: the model answers the same"},
    }  # fmt: skip


def top(double: Double, model: str, *, broken: bool) -> list[Json]:
    """Return the five likeliest classes, before or after."""
    names = double.digits if model.startswith("mnist") else PICTURES
    order, shares = ([7, 3, 2, 8, 9], (0.83, 0.11, 0.04, 0.01, 0.005)) if not broken else (
        [3, 7, 2, 8, 1], (0.72, 0.2, 0.05, 0.02, 0.004))  # fmt: skip
    return [{"class": at, "name": names[at], "share": share} for at, share in zip(order, shares, strict=True)]


def digit(k: int) -> Image.Image:
    """Return a digit, white on black, 28 x 28, with soft edges."""
    large = Image.new("L", (280, 280))
    ImageDraw.Draw(large).text((140, 140), str(k), fill=255, font=ImageFont.load_default(230), anchor="mm")
    return large.resize((28, 28), Image.Resampling.BOX)


def scene(k: int) -> Image.Image:
    """Return a picture of soft colours, 224 x 224."""
    y, x = np.mgrid[0:224, 0:224] / 224
    phase = 1 + 0.7 * k
    colours = [0.5 + 0.4 * np.sin(phase + (2 + k) * x + 3 * y + 2 * c) for c in range(3)]
    return Image.fromarray((255 * np.stack(colours, -1)).astype(np.uint8))


def _picture(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(255 * values).astype(np.uint8))


def _uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
