"""The playground's server: the page, images in, attacks out as they happen. Nothing here imports torch."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import hashlib
import json
import math
import secrets
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from assay.core.errors import BadInput
from assay.playground import page
from assay.playground.pool import SECONDS, Pool, Setting, Ticket, worker_count
from assay.playground.same import ADDRESS, RUN
from assay.playground.store import Store

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

Json = dict[str, Any]

UPLOAD = 8 * 2**20
PASSES = 20_000
_BODIES = 2
"""Uploads that are in hand at a time: others wait at the door, so that what they take in memory is bounded."""
_SMALL = 64 * 1024
"""Bytes of uploads that wait for no others, such as drawings: who uploads slowly does not keep them out."""
_LOOK = 20.0
"""Seconds that looking at a file may take."""
_SLOW = 30.0
"""Seconds after which an upload that trickles in is given up."""


@dataclasses.dataclass(frozen=True)
class Brought:
    """An image that a visitor brought: its bytes, what `model` sees of it, and its label where it is known."""

    content: bytes
    model: str
    values: str
    shape: list[int]
    label: int | None


@dataclasses.dataclass
class Result:
    """What a run left: of each model a PNG, the data to do it again, and what reading the PNG back said."""

    kept: dict[str, Json] = dataclasses.field(default_factory=dict)


class Refused(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Playground:
    """The state of one server: what there is to choose from, workers, and what visitors have brought."""

    def __init__(self, setting: Setting, token: str, origin: str, workers: int | None = None) -> None:
        self.setting, self.token, self.origin = setting, token, origin
        self.choices: Json = {"attacks": [], "defences": [], "samples": [], "patches": []}
        self.models: dict[str, Json] = {
            name: {
                "name": name, "title": name, "ready": False, "failed": None, "kind": "other", "shape": [0, 0, 0],
                "access": "gradient", "classes": [], "defended": "|" in name,
            }
            for name in setting.models
        }  # fmt: skip
        self.notes: list[str] = []
        self.images: Store[Brought] = Store()
        self.patches: Store[str] = Store()
        self.results: Store[Result] = Store()
        self.running: dict[str, list[Ticket]] = {}
        self._samples: dict[str, Json] = {}
        self.bodies = asyncio.Semaphore(_BODIES)
        # images are looked at by a worker of their own, so that uploads wait for no attack
        self.lookers = Pool(1, setting, self._learn, samples=True)
        self.attackers = Pool(workers or worker_count(), setting, self._hear)
        self._begun = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Have workers while the block lasts; afterwards none is left."""
        await self.lookers.start()
        late = asyncio.create_task(self._start_attackers())
        try:
            yield
        finally:
            late.cancel()
            await asyncio.gather(self.lookers.close(), self.attackers.close())

    async def _start_attackers(self) -> None:
        # the first model is at hand sooner when the others do not load beside it
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while not (self.choices["attacks"] and self._begun):
                    await asyncio.sleep(0.02)
        await self.attackers.start()

    def _hear(self, event: Json) -> None:
        if event["event"] == "note":
            self.notes.append(event["text"])

    def _learn(self, event: Json) -> None:
        match event["event"]:
            case "menu":
                self.choices |= {"attacks": event["attacks"], "defences": event["defences"]}
            case "model":
                self.models[event["model"]["name"]] = event["model"]
                self._begun = True
            case "samples":
                for one in event["samples"]:
                    self._know(one)
            case "patch":
                self._patch("", event["patch"], listed=True)
            case _:
                self._hear(event)

    def _know(self, one: Json) -> None:
        shown = base64.b64decode(one["png"].partition(",")[2])
        key = hashlib.blake2b(shown, digest_size=16).hexdigest()
        if key not in self._samples:
            self._samples[key] = {"content": one.get("content"), "label": one["label"], "kind": one["model_kind"]}
            self.choices["samples"].append({name: value for name, value in one.items() if name != "content"})

    def _patch(self, visitor: str, told: Json, *, listed: bool = False) -> Json:
        content = told["png"].partition(",")[2]
        if listed:
            # a patch of the command line is never dropped
            name = f"patch-{len(self.choices['patches'])}"
            self.choices["patches"].append({"id": name, "title": told["title"], "png": told["png"]})
            return {"id": name, "png": told["png"]}
        return {"id": self.patches.put(visitor, content, len(content)), "png": told["png"]}

    def setup(self) -> Json:
        """Return what the page is made of."""
        from assay.playground.budgets import budgets

        return {
            "models": list(self.models.values()), **self.choices, "budgets": budgets("picture"), "notes": self.notes,
            "limits": {"seconds": int(SECONDS), "passes": PASSES, "upload": UPLOAD},
        }  # fmt: skip

    @contextlib.asynccontextmanager
    async def door(self, request: Request) -> AsyncIterator[None]:
        """Let an upload in: a small one at once, of others so many at a time as their memory allows."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) <= _SMALL:
            yield
            return
        async with self.bodies:
            yield

    async def body(self, request: Request, most: int = UPLOAD) -> bytes:
        """Return the body of a request, at most so many bytes; raises `Refused`."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise Refused(413, _too_large(int(declared), most))
        try:
            async with asyncio.timeout(_SLOW):
                parts = bytearray()
                async for part in request.stream():
                    parts += part
                    if len(parts) > most:
                        raise Refused(413, _too_large(len(parts), most))
                return bytes(parts)
        except TimeoutError:
            raise Refused(408, f"The upload took more than {_SLOW:g} seconds. Send it again.") from None

    async def ask(self, pool: Pool, visitor: str, request: Json) -> Json:
        """Have a short job done, and return its one answer; raises `Refused`."""
        ticket = pool.submit(visitor, request, _LOOK)
        if ticket is None:
            raise Refused(429, "Too much is waiting already. Try again in a moment.")
        found: Json | None = None
        try:
            while (event := await ticket.events.get()) is not None:
                found = event
        finally:
            pool.stop(ticket)
        if found is None or found["event"] in ("failed", "stopped"):
            raise Refused(400, (found or {}).get("error") or "It took too long. Try a smaller file.")
        return found

    def known_model(self, name: Any) -> str:
        """Return the name of a model of the command line; raises `Refused` for any other."""
        if not isinstance(name, str) or name not in self.models:
            raise Refused(400, f"There is no model {str(name)[:80]!r} here.")
        failed = self.models[name]["failed"]
        if failed:
            raise Refused(400, f"The model {name} could not be loaded: {failed.rstrip('.')}.")
        return name

    async def take_image(self, visitor: str, model: str, content: bytes) -> Json:
        """Keep an image as a model sees it; return its name and what the model says. Raises `Refused`."""
        sample = self._samples.get(hashlib.blake2b(content, digest_size=16).hexdigest())
        if sample is not None and sample["content"]:
            content = base64.b64decode(sample["content"])
        request = {"do": "look", "model": model, "content": base64.b64encode(content).decode()}
        seen = await self.ask(self.lookers, visitor, request)
        fits = sample is not None and sample["kind"] == self.models[model].get("kind")
        label = sample["label"] if sample is not None and fits else None
        brought = Brought(content, model, seen["values"], seen["shape"], label)
        name = self.images.put(visitor, brought, len(content) + len(brought.values))
        return {"image": name, "png": seen["png"], "note": seen["note"], "top": seen["top"]}

    def requests(self, said: Any) -> list[tuple[str, Json]]:
        """Return what each of the models that a run names has to do; raises `Refused` for what cannot be."""
        if not isinstance(said, dict):
            raise Refused(400, "A run is a JSON object.")
        try:
            return _requests(self, said)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            what = f"{type(error).__name__}: {error}"
            raise Refused(
                400, f"The run cannot be read ({what}); the page and the server are of one version."
            ) from None

    async def stream(self, visitor: str, requests: list[tuple[str, Json]]) -> AsyncIterator[bytes]:
        """Yield the events of a run, a line each; who closes it stops the run."""
        run = secrets.token_hex(6)
        result = Result()
        merged: asyncio.Queue[tuple[str, Json | None]] = asyncio.Queue()
        tickets = [(name, self.attackers.submit(visitor, request)) for name, request in requests]
        under_way = [ticket for _, ticket in tickets if ticket is not None]
        self.running[run] = under_way
        pumps = [asyncio.create_task(_pump(name, ticket, merged)) for name, ticket in tickets if ticket is not None]
        try:
            yield _line({"event": "started", "run": run})
            if len(under_way) < len(tickets):
                yield _line({"event": "failed", "error": "Too much is waiting already. Try again in a moment."})
                return
            left = len(pumps)
            while left:
                name, event = await merged.get()
                left -= event is None
                if event is not None and event["event"] == "kept":
                    result.kept[name] = event
                elif event is not None:
                    yield _line(self._finished(visitor, run, name, event, result))
        finally:
            for ticket in under_way:
                self.attackers.stop(ticket)
            for pump in pumps:
                pump.cancel()
            self.running.pop(run, None)

    def _finished(self, visitor: str, run: str, name: str, event: Json, result: Result) -> Json:
        if event["event"] != "done":
            return event if event["event"] in ("failed", "stopped") else {**event, "model": name}
        size = sum(len(one["png"]) + len(one["npz"]) for one in result.kept.values())
        self.results.put(visitor, result, size, run)
        address = f"{self.origin}/api/download?" + f"run={run}&what=data&model={quote(name, safe='')}"
        fetched = shlex.join(["curl", "-s", "-H", f"X-Assay-Token: {self.token}", address, "-o", "image.npz"])
        shell = event["shell"].replace(ADDRESS, fetched).replace(RUN, run)
        return {**event, "model": name, "shell": shell}

    def stop(self, run: str) -> None:
        """Stop a run."""
        for ticket in self.running.get(run, ()):
            self.attackers.stop(ticket)


def _requests(place: Playground, said: Json) -> list[tuple[str, Json]]:
    brought = place.images.get(str(said.get("image")))
    if brought is None:
        raise Refused(400, "The image is no longer here: images are kept for an hour. Choose or draw it again.")
    names = [place.known_model(said.get("model"))]
    if said.get("second") is not None and said["second"] != names[0]:
        names.append(place.known_model(said["second"]))
    goal = said.get("goal", "untargeted")
    target = None if goal in (None, "untargeted") else _whole("The goal's class", goal["class"])
    options = said.get("options") or {}
    if not isinstance(options, dict) or len(options) > 40 or len(json.dumps(options)) > 4000:
        raise Refused(400, "The options are no object of a few values.")
    seed = _whole("The seed", said.get("seed") or 0)
    if not -(2**63) <= seed < 2**63:
        raise Refused(400, f"The seed is {seed}, expected a whole number of 64 bits.")
    ask = {
        "attack": str(said["attack"])[:60], "norm": str(said["norm"])[:20], "eps": str(said["eps"]).strip()[:40],
        "goal": target, "options": options, "seed": seed, "smallest": said.get("smallest") is True,
        "label": brought.label, "passes": PASSES,
    }  # fmt: skip
    defence = said.get("defence") or None
    patch = _placed(place, said["patch"]) if said.get("patch") else None
    found = []
    for name in names:
        same = {"values": brought.values, "shape": brought.shape} if name == brought.model else {}
        defended = None if defence is None else str(defence)[:80]
        request = {"do": "run", "model": name, "defence": defended, "ask": ask, "patch": patch}
        found.append((name, {**request, **(same or {"content": base64.b64encode(brought.content).decode()})}))
    return found


def _whole(what: str, value: Any) -> int:
    # 2.7 is no class, and no seed either
    if type(value) is not int:
        raise Refused(400, f"{what} is {str(value)[:40]!r}, expected a whole number.")
    return value


def _placed(place: Playground, said: Json) -> Json:
    wanted = str(said["id"])
    listed = {one["id"]: one["png"].partition(",")[2] for one in place.choices["patches"]}
    picture = listed.get(wanted) or place.patches.get(wanted)
    if picture is None:
        raise Refused(400, "The patch is no longer here. Upload it again.")
    numbers = {name: float(said.get(name, 0)) for name in ("x", "y", "size", "turn")}
    if not all(map(math.isfinite, numbers.values())):
        raise Refused(400, "The patch's place is no number.")
    return {"picture": picture, **numbers}


async def _pump(name: str, ticket: Ticket, merged: asyncio.Queue[tuple[str, Json | None]]) -> None:
    while True:
        event = await ticket.events.get()
        merged.put_nowait((name, event))
        if event is None:
            return


def _too_large(found: int, most: int) -> str:
    return f"The file has {found:,} bytes, expected {most:,} at most. Make it smaller."


def _line(event: Json) -> bytes:
    return json.dumps(event).encode() + b"\n"


Answer = Callable[["Request"], Awaitable["Response"]]


def application(place: Playground) -> Starlette:
    """Return the routes of a playground, whose workers live as long as the application."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import HTMLResponse, StreamingResponse
    from starlette.routing import Route

    async def front(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data: blob:; "
            "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(page.render(place.token, nonce), headers={"Content-Security-Policy": policy})

    async def setup(request: Request) -> Response:
        return _json(place.setup())

    async def image(request: Request) -> Response:
        model = place.known_model(request.query_params.get("model"))
        async with place.door(request):
            return _json(await place.take_image(request.scope["visitor"], model, await place.body(request)))

    async def patch(request: Request) -> Response:
        visitor = request.scope["visitor"]
        async with place.door(request):
            written = base64.b64encode(await place.body(request)).decode()
            found = await place.ask(place.lookers, visitor, {"do": "patch", "content": written})
        return _json(place._patch(visitor, found["patch"]))

    async def run(request: Request) -> Response:
        requests = place.requests(_parsed(await place.body(request, 64_000)))
        return StreamingResponse(place.stream(request.scope["visitor"], requests), media_type="application/x-ndjson")

    async def stop(request: Request) -> Response:
        said = _parsed(await place.body(request, 64_000))
        place.stop(str(said.get("run")) if isinstance(said, dict) else "")
        return _json({})

    async def download(request: Request) -> Response:
        return _download(place, request)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with place.open():
            yield

    routes = [
        Route("/", front, methods=["GET"]),
        Route("/api/setup", setup, methods=["GET"]),
        Route("/api/image", image, methods=["POST"]),
        Route("/api/patch", patch, methods=["POST"]),
        Route("/api/run", run, methods=["POST"]),
        Route("/api/stop", stop, methods=["POST"]),
        Route("/api/download", download, methods=["GET"]),
    ]
    handlers: dict[Any, Any] = {Refused: _refused, BadInput: _refused, HTTPException: _nothing, ClientDisconnect: _left}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


def _json(content: Json, status: int = 200) -> Response:
    from starlette.responses import Response

    # names of files and classes may hold what no UTF-8 can say: it is escaped
    return Response(json.dumps(content).encode(), status, media_type="application/json")


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is no JSON: {type(error).__name__}.") from error


def _download(place: Playground, request: Request) -> Response:
    from starlette.responses import Response

    name = request.query_params.get("model", "")
    result = place.results.get(request.query_params.get("run", ""))
    kept = None if result is None else result.kept.get(name)
    if kept is None:
        raise Refused(404, "There is no such result, or no longer. Run the attack again.")
    what, kind, file = ("png", "image/png", "adversarial.png")
    if request.query_params.get("what") == "data":
        what, kind, file = ("npz", "application/octet-stream", "image.npz")
    headers = {"X-Assay-Checked": kept["checked"], "Content-Disposition": f'attachment; filename="{file}"'}
    return Response(base64.b64decode(kept[what]), media_type=kind, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, error.status if isinstance(error, Refused) else 400)


async def _nothing(request: Request, error: Exception) -> Response:

    status = getattr(error, "status_code", 404)
    return _json({"error": "There is nothing here, or not by this method."}, status)


async def _left(request: Request, error: Exception) -> Response:
    # nobody reads it
    from starlette.responses import Response

    return Response(status_code=400)
