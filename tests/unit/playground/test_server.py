"""The server as a process, spoken to as the page does."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image

import assay
from assay.attacks import build
from tests.support import awkward
from tests.support.playing import (
    Json,
    Playing,
    as_bytes,
    done,
    drawn_three,
    memory,
    playground,
    processes,
    request,
)

MODELS = '''
import sys
import time

import torch
from torch import nn


class Stuck(nn.Module):
    """Answers at once; but of a bright image's neighbours, it thinks for a minute."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(64, 3)

    def forward(self, x):
        if x.requires_grad and x.mean() > 0.7:
            time.sleep(60)
        return self.last(x.flatten(1))


def stuck():
    torch.manual_seed(0)
    return Stuck()


class Reading(nn.Module):
    """Waits for words of its user, and leaves when a bright image is asked about."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(64, 3)

    def forward(self, x):
        if x.mean() > 0.7:
            sys.exit(3)
        sys.stdin.readline()
        return self.last(x.flatten(1))


def reading():
    torch.manual_seed(0)
    return Reading()


def broken():
    raise RuntimeError("no weights today")
'''
READING = "models.py:reading?channels=1&size=8"
CERTIFIED, STUCK = "zoo:mnist-certified", "models.py:stuck?channels=1&size=8"
# stands, and takes its time
LONG: Json = {"attack": "square", "eps": "0.001", "options": {"queries": 15_000}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playing]:
    folder = tmp_path_factory.mktemp("play")
    (folder / "models.py").write_text(MODELS)
    flags = [word for name in (CERTIFIED, STUCK, "models.py:broken", READING) for word in ("--model", name)]
    with playground(*flags, folder=folder) as running:
        running.ready()
        yield running


@pytest.fixture(scope="module")
def three(place: Playing) -> str:
    return str(place.image(drawn_three())["image"])


def test_the_address_is_printed_at_once_and_the_server_has_no_torch(place: Playing) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", place.url)
    assert "libtorch" not in Path(f"/proc/{place.process.pid}/maps").read_text()


def test_the_page_comes_with_a_policy_and_not_without_the_token(place: Playing) -> None:
    status, headers, body = place.ask("GET", f"/?token={place.token}", token=False)
    assert status == 200
    (nonce,) = re.findall(r"script-src 'nonce-([\w-]+)'", headers["content-security-policy"])
    text = body.decode()
    assert f'nonce="{nonce}"' in text
    assert place.token in text
    assert "default-src 'none'" in headers["content-security-policy"]
    assert place.ask("GET", "/", token=False)[0] == 403
    assert place.ask("GET", "/api/setup", token=False)[0] == 403
    assert place.ask("GET", "/api/setup", headers={"Host": "attacker.example"})[0] == 400
    assert place.ask("GET", "/api/setup", headers={"Origin": "http://attacker.example"})[0] == 403


def test_what_there_is_to_choose_from(place: Playing) -> None:
    told = place.setup()
    first, stuck, broken, _ = told["models"]
    assert (first["kind"], first["shape"], first["access"]) == ("digits", [1, 28, 28], "gradient")
    assert first["classes"] == list("0123456789")
    assert stuck["ready"]
    assert not broken["ready"]
    assert "no weights today" in broken["failed"]
    assert {"fgsm", "pgd", "square"} <= {one["name"] for one in told["attacks"]}
    assert set(told["budgets"]) == {"linf", "l2", "l1", "l0"}


def test_an_attack_gives_the_array_of_the_python_call(place: Playing) -> None:
    seen = place.image(drawn_three())
    events = place.run(seen["image"], attack="fgsm", eps="0.3")
    last = done(events)
    assert [one["event"] for one in events] == ["started", "clean", "point", "point", "done"]
    with Image.open(io.BytesIO(base64.b64decode(seen["png"].partition(",")[2]))) as picture:
        x = torch.from_numpy(np.asarray(picture).copy())[None, None].float() / 255
    y = torch.tensor([seen["top"][0]["class"]])
    found = assay.attack(build("fgsm"), assay.load_model(CERTIFIED), x, y, assay.Linf("0.3"))
    assert base64.b64decode(last["array"]) == found.x_adv[0].numpy().astype("<f4").tobytes()
    with Image.open(io.BytesIO(base64.b64decode(last["result"].partition(",")[2]))) as picture:
        assert np.array_equal(np.asarray(picture), (found.x_adv[0, 0] * 255).round().numpy().astype(np.uint8))


def test_results_are_downloaded_as_they_were_shown_and_told_whether_they_still_break(
    place: Playing, three: str
) -> None:
    events = place.run(three, eps="0.4")
    last, run = done(events), events[0]["run"]
    status, headers, body = place.ask("GET", f"/api/download?run={run}&model={CERTIFIED}")
    assert status == 200
    assert headers["content-type"] == "image/png"
    assert body == base64.b64decode(last["result"].partition(",")[2])
    assert headers["x-assay-checked"] == last["checked"]["note"]
    data = place.ask("GET", f"/api/download?run={run}&model={CERTIFIED}&what=data")[2]
    with np.load(io.BytesIO(data)) as arrays:
        assert arrays["image"].shape == (1, 1, 28, 28)
    assert f"run={run}" in last["shell"]
    assert place.ask("GET", "/api/download?run=none&model=none")[0] == 404


def test_two_models_side_by_side(place: Playing, three: str) -> None:
    events = place.run(three, attack="fgsm", second=STUCK)
    finished = {one["model"] for one in events if one["event"] == "done"}
    assert finished == {CERTIFIED, STUCK}
    assert {one["model"] for one in events if one["event"] == "clean"} == finished


def test_a_patch_is_pasted_and_the_model_asked(place: Playing, three: str) -> None:
    status, _, body = place.ask("POST", "/api/patch", as_bytes(Image.new("RGB", (30, 30), (255, 255, 255))))
    assert status == 200
    patch = {"id": json.loads(body)["id"], "x": 0.5, "y": 0.5, "size": 0.5, "turn": 0}
    last = done(place.run(three, patch=patch))
    values = np.frombuffer(base64.b64decode(last["array"]), "<f4").reshape(28, 28)
    assert (values[7:21, 7:21] == 1).all()
    assert last["size"] == pytest.approx(0.25)
    gone = place.run(three, patch={**patch, "id": "gone"})[-1]
    assert (gone["event"], gone["status"]) == ("refused", 400)


@pytest.mark.parametrize(
    "changed",
    [
        {"image": "none"}, {"model": "models.py:broken"}, {"model": "/etc/passwd"}, {"model": 3}, {"second": "other"},
        {"goal": {"class": "x"}}, {"goal": {"class": 3.7}}, {"goal": {"class": True}}, {"seed": 1.5},
        {"goal": {}}, {"goal": "targeted"}, {"seed": "a"}, {"seed": 2**70}, {"options": [1]},
        {"options": {str(i): 1 for i in range(50)}}, {"patch": {"id": []}}, {"patch": "x"}, {"patch": {"id": "none"}},
    ],
)  # fmt: skip
def test_runs_that_cannot_be_are_refused_in_sentences(place: Playing, three: str, changed: Json) -> None:
    (told,) = place.run(three, **changed)
    assert (told["event"], told["status"]) == ("refused", 400)
    assert told["error"].endswith(".")


@pytest.mark.parametrize(
    "changed",
    [
        {"attack": "nothing"}, {"norm": "l7"}, {"eps": "-1"}, {"eps": "nan"}, {"eps": "9" * 39},
        {"goal": {"class": 77}},
        {"goal": {"class": -1}}, {"options": {"steps": "many"}}, {"options": {"steps": 1e400}}, {"defence": "walls"},
        {"defence": "median:size=900000"}, {"defence": "autoencoder:file=/etc/passwd"},
    ],
)  # fmt: skip
def test_attacks_that_cannot_be_end_in_a_sentence(place: Playing, three: str, changed: Json) -> None:
    events = place.run(three, **changed)
    assert events[-1]["event"] == "failed"
    assert len(events[-1]["error"]) > 10


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"[" * 20_000, b'{"image": NaN}', b"\xff"])
def test_bodies_that_are_no_run_are_refused(place: Playing, body: bytes) -> None:
    status, _, answer = place.ask("POST", "/api/run", body)
    assert status == 400
    assert json.loads(answer)["error"]


def test_two_hundred_awkward_uploads(place: Playing) -> None:
    statuses = set()
    for kind, content in awkward.files(200, seed=22):
        status, _, body = place.ask("POST", f"/api/image?model={CERTIFIED}", content)
        told = json.loads(body)
        assert status in (200, 400), (kind, status)
        assert ("image" in told) == (status == 200)
        assert status == 200 or told["error"].endswith(".")
        statuses.add((kind, status))
    assert ("oversized", 400) in statuses
    assert ("animated", 200) in statuses
    assert memory(place.process.pid) < 300e6
    # and it goes on
    assert place.image(drawn_three())["top"]


def test_uploads_beyond_the_limit_are_refused_before_they_are_read(place: Playing) -> None:
    status, _, body = place.ask("POST", f"/api/image?model={CERTIFIED}", b"x" * (9 * 2**20))
    assert status == 413
    assert "8,388,608" in json.loads(body)["error"]
    with socket.create_connection(("127.0.0.1", place.port), timeout=20) as link:
        head = f"POST /api/image?model={CERTIFIED} HTTP/1.1\r\nHost: 127.0.0.1:{place.port}\r\n"
        head += f"X-Assay-Token: {place.token}\r\nTransfer-Encoding: chunked\r\n\r\n"
        link.sendall(head.encode())
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                link.sendall(b"%x\r\n" % 2**20 + b"x" * 2**20 + b"\r\n")
        assert link.recv(40).startswith(b"HTTP/1.1 413")
    assert memory(place.process.pid) < 300e6


def test_eighty_megabytes_of_uploads_at_once_stay_below_the_memory_that_is_promised(place: Playing) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1600, 1600, 3), dtype=np.uint8)
    large = as_bytes(Image.fromarray(noise))
    assert 7e6 < len(large) < 8 * 2**20
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: place.ask("POST", f"/api/image?model={CERTIFIED}", large)[0], range(24)))
    assert set(answers) <= {200, 429}
    assert answers.count(200) >= 8
    assert memory(place.process.pid) < 300e6


def test_who_uploads_slowly_keeps_no_drawing_out(place: Playing) -> None:
    start = (
        f"POST /api/image?model={CERTIFIED} HTTP/1.1\r\nHost: 127.0.0.1:{place.port}\r\n"
        f"X-Assay-Token: {place.token}\r\nContent-Length: 1000000\r\n\r\nab"
    )
    with contextlib.ExitStack() as links:
        for _ in range(3):
            slow = links.enter_context(socket.create_connection(("127.0.0.1", place.port)))
            slow.sendall(start.encode())
        time.sleep(0.2)
        began = time.monotonic()
        assert place.image(drawn_three())["top"]
        assert time.monotonic() - began < 10


def test_a_run_is_stopped_by_its_name(place: Playing, three: str) -> None:
    events = []
    began = 0.0
    for event in place.lines(request(three, **LONG)):
        events.append(event)
        if event["event"] == "point" and not began:
            began = time.monotonic()
            place.ask("POST", "/api/stop", json.dumps({"run": events[0]["run"]}).encode())
    assert events[-1]["event"] == "stopped"
    assert time.monotonic() - began < 1.5


def test_an_attack_ends_when_its_visitor_leaves(place: Playing, three: str) -> None:
    left = [place.lines(request(three, **LONG)) for _ in range(2)]
    for one in left:
        assert next(event for event in one if event["event"] == "point")
    for one in left:
        one.close()  # type: ignore[attr-defined]  # a generator
    began = time.monotonic()
    done(place.run(three, attack="fgsm"))
    # two workers, both busy until then
    assert time.monotonic() - began < 5


def test_a_model_that_does_not_stop_loses_its_process_and_the_next_visitor_has_another(place: Playing) -> None:
    bright = place.image(as_bytes(Image.new("L", (8, 8), 250)), STUCK)["image"]
    before = set(processes(place.process.pid))
    lines = place.lines(request(bright, model=STUCK, attack="fgsm", eps="0.1"))
    assert next(event for event in lines if event["event"] == "clean")
    time.sleep(0.3)
    lines.close()  # type: ignore[attr-defined]  # a generator
    end = time.monotonic() + 3
    while before <= set(processes(place.process.pid)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not before <= set(processes(place.process.pid))
    dark = place.image(as_bytes(Image.new("L", (8, 8), 50)), STUCK)["image"]
    done(place.run(dark, model=STUCK, attack="fgsm", eps="0.1"))


def test_a_model_that_reads_or_leaves_takes_nothing_along(place: Playing, three: str) -> None:
    before = set(processes(place.process.pid))
    dark = place.image(as_bytes(Image.new("L", (8, 8), 90)), READING)
    assert len(dark["top"]) == 3
    where = f"/api/image?model={quote(READING, safe='')}"
    status, _, body = place.ask("POST", where, as_bytes(Image.new("L", (8, 8), 250)))
    assert status == 400
    assert "sys.exit(3)" in json.loads(body)["error"]
    # one that an earlier test ended may have come back meanwhile
    assert before <= set(processes(place.process.pid))


def test_ten_visitors_of_whom_one_leaves(place: Playing, three: str) -> None:
    expected = done(place.run(three, seed=0))["array"]
    results: dict[int, Any] = {}

    def visit(number: int) -> None:
        if number == 4:
            lines = place.lines(request(three, **LONG))
            assert next(event for event in lines if event["event"] == "point")
            lines.close()  # type: ignore[attr-defined]  # a generator
            return
        image = place.image(drawn_three())["image"]
        results[number] = done(place.run(image, seed=number % 2))["array"]

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(results) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert all(results[number] == expected for number in (0, 2, 6, 8))
    assert len({results[number] for number in (1, 3, 5, 7, 9)}) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_ends(how: signal.Signals) -> None:
    with playground("--model", "zoo:mnist-certified") as running:
        end = time.monotonic() + 60
        while not (workers := processes(running.process.pid)) and time.monotonic() < end:
            time.sleep(0.05)
        assert workers
        running.process.send_signal(how)
        code = running.process.wait(20)
        assert code == (0 if how is not signal.SIGKILL else -signal.SIGKILL)
        end = time.monotonic() + 20
        while any(_alive(worker) for worker in workers) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(_alive(worker) for worker in workers)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_that_dies_is_replaced(place: Playing, three: str) -> None:
    lines = place.lines(request(three, **LONG))
    assert next(event for event in lines if event["event"] == "point")
    for worker in processes(place.process.pid):
        os.kill(worker, signal.SIGKILL)
    assert list(lines)[-1]["event"] == "failed"
    image = place.image(drawn_three())["image"]
    done(place.run(image))


def test_an_upload_that_ends_in_the_middle_troubles_nobody(place: Playing) -> None:
    with socket.create_connection(("127.0.0.1", place.port), timeout=20) as link:
        head = f"POST /api/image?model={CERTIFIED} HTTP/1.1\r\nHost: 127.0.0.1:{place.port}\r\n"
        link.sendall((head + f"X-Assay-Token: {place.token}\r\nContent-Length: 5000\r\n\r\nabc").encode())
    done(place.run(place.image(drawn_three())["image"]))
