"""Store, guard, pasting, verdicts and menu: what needs no server."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.attacks import ATTACKS
from assay.core.errors import BadInput
from assay.playground import menu, store
from assay.playground.bounds import written
from assay.playground.guard import Guard
from assay.playground.pasting import Placed, paste
from assay.playground.serving import listen
from assay.playground.verdict import Facts, verdict
from tests.support.playing import as_bytes


def test_a_visitor_keeps_fifty_things_and_loses_the_oldest() -> None:
    kept: store.Store[int] = store.Store()
    mine = [kept.put("me", i, 10) for i in range(store.MOST_EACH + 3)]
    other = kept.put("you", 7, 10)
    assert [kept.get(name) for name in mine[:4]] == [None, None, None, 3]
    assert kept.get(other) == 7


def test_things_are_dropped_after_an_hour_and_beyond_the_memory_that_they_may_take() -> None:
    now = [0.0]
    kept: store.Store[str] = store.Store(lambda: now[0])
    old = kept.put("me", "old", 1)
    now[0] = store.LIFETIME - 1
    assert kept.get(old) == "old"
    now[0] = store.LIFETIME + 1
    assert kept.get(old) is None
    small = kept.put("you", "small", 5)
    names = [kept.put("me", "large", store.MOST_BYTES // 3) for _ in range(4)]
    # who has most loses first
    assert [kept.get(name) for name in names] == [None, None, "large", "large"]
    assert kept.get(small) == "small"


def answered(scope: dict[str, Any], others: bool = False) -> int:
    statuses: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    whole = {"type": "http", "method": "GET", "path": "/api/setup", "query_string": b"", "headers": [], **scope}
    asyncio.run(Guard(app, "secret", 8321, others)(whole, receive, send))
    return statuses[0]


def headers(host: str, token: str = "secret", **more: str) -> list[tuple[bytes, bytes]]:
    named = {"host": host, "x-assay-token": token, **{name.replace("_", "-"): value for name, value in more.items()}}
    return [(name.encode(), value.encode()) for name, value in named.items()]


@pytest.mark.parametrize(
    ("given", "others", "status"),
    [
        (headers("127.0.0.1:8321"), False, 200),
        (headers("localhost:8321"), False, 200),
        (headers("[::1]:8321"), False, 200),
        (headers("127.0.0.1:8321", origin="http://127.0.0.1:8321"), False, 200),
        (headers("127.0.0.1:8321", "wrong"), False, 403),
        (headers("127.0.0.1:8321", ""), False, 403),
        (headers("127.0.0.1"), False, 400),
        (headers("127.0.0.1:80"), False, 400),
        (headers("attacker.example:8321"), False, 400),
        (headers("localhost.attacker.example:8321"), False, 400),
        (headers("192.168.1.5:8321"), False, 400),
        (headers("192.168.1.5:8321"), True, 200),
        (headers("attacker.example:8321"), True, 400),
        (headers("127.0.0.1:8321") + headers("attacker.example:8321"), False, 400),
        (headers("127.0.0.1:8321", origin="http://attacker.example"), False, 403),
        (headers("127.0.0.1:8321", origin="null"), False, 403),
        (headers("127.0.0.1:8321", origin="http://localhost:8321"), False, 403),
        (headers("127.0.0.1:8321", sec_fetch_site="cross-site"), False, 403),
        (headers("127.0.0.1:8321", cookie="assay-visitor=\x80;;="), False, 200),
        ([], False, 400),
    ],
)
def test_who_may_ask(given: list[tuple[bytes, bytes]], others: bool, status: int) -> None:
    assert answered({"headers": given}, others) == status


@pytest.mark.parametrize(
    ("query", "status"), [(b"token=secret", 200), (b"token=", 403), (b"", 403), (b"token=%ff", 403)]
)
def test_the_page_takes_its_token_from_the_address(query: bytes, status: int) -> None:
    assert answered({"path": "/", "query_string": query, "headers": headers("localhost:8321", "")}) == status


@pytest.mark.parametrize("begun", [True, False])
def test_what_the_end_of_the_server_cuts_off_is_closed_without_a_traceback(begun: bool) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    async def ended() -> None:
        whole = {"type": "http", "method": "GET", "path": "/api/setup", "headers": headers("localhost:8321")}
        task = asyncio.create_task(Guard(app, "secret", 8321)(whole, ended, send))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    asyncio.run(ended())
    assert [one.get("status") for one in sent] == [200 if begun else 503, None]


def test_names_that_no_utf8_can_say_are_escaped() -> None:
    from assay.playground.server import _json

    assert json.loads(_json({"title": "\udcff"}).body) == {"title": "\udcff"}


def patch_file(colour: tuple[int, int, int, int] = (255, 0, 0, 255), size: tuple[int, int] = (4, 4)) -> bytes:
    return as_bytes(Image.new("RGBA", size, colour))


def test_a_patch_lies_where_it_is_put() -> None:
    image = torch.zeros(3, 20, 40)
    result, share = paste(image, Placed(patch_file(), x=0.25, y=0.5, size=0.5))
    expected = torch.zeros(3, 20, 40)
    # 10 pixels a side, its centre 10 from the left and 10 from the top
    expected[0, 5:15, 5:15] = 1
    assert torch.equal(result, expected)
    assert share == pytest.approx(100 / 800)
    assert image.sum() == 0


def test_a_patch_hangs_over_the_edge_and_covers_what_is_opaque_alone() -> None:
    result, share = paste(torch.ones(3, 10, 10), Placed(patch_file((0, 0, 0, 255)), x=0.0, y=0.0, size=1.0))
    assert float(result.sum()) == 3 * 75
    assert share == pytest.approx(0.25)
    clear, nothing = paste(torch.ones(3, 10, 10), Placed(patch_file((0, 0, 0, 0)), x=0.5, y=0.5, size=1.0))
    assert float(clear.sum()) == 300
    assert nothing == 0


def test_a_patch_is_turned_clockwise() -> None:
    stripe = np.zeros((8, 8, 4), np.uint8)
    stripe[0, :, :] = 255
    file = as_bytes(Image.fromarray(stripe))
    upright, _ = paste(torch.zeros(1, 8, 8), Placed(file, 0.5, 0.5, 1.0))
    turned, _ = paste(torch.zeros(1, 8, 8), Placed(file, 0.5, 0.5, 1.0, turn=90))
    assert upright[0].argmax(0).tolist() == [0] * 8
    # what was on top is on the right
    assert turned[0].argmax(1).tolist() == [7] * 8


def test_grey_images_take_colours_as_grey() -> None:
    result, _ = paste(torch.zeros(1, 4, 4), Placed(patch_file(), 0.5, 0.5, 1.0))
    assert result.flatten().tolist() == pytest.approx([0.299] * 16)


@pytest.mark.parametrize("place", [(1.2, 0.5, 0.5, 0), (0.5, -1, 0.5, 0), (0.5, 0.5, 0, 0), (0.5, 0.5, 0.5, 200)])
def test_places_outside_are_refused(place: tuple[float, ...]) -> None:
    with pytest.raises(BadInput, match="expected"):
        Placed(patch_file(), *place)


FACTS = Facts("pgd", "gradient", True, False, 41, 40, 41, True, "0.3", "linf", False, 0.3, False)


@pytest.mark.parametrize(
    ("changed", "state", "words"),
    [
        ({}, "broken", "this image is the proof"),
        ({"saved": False}, "broken", "Rounded to 8 bits"),
        ({"targeted": True}, "broken", "the class that was asked for"),
        ({"random": True}, "broken", "another draw"),
        ({"broken": False}, "not broken", "with 41 forward and 40 backward passes: no proof"),
        ({"broken": False, "family": "score", "queries": 500}, "not broken", "within 500 queries"),
        ({"broken": False, "family": "label"}, "not broken", "labels alone"),
        ({"broken": False, "family": "baseline"}, "not broken", "does not search"),
        ({"broken": False, "crossed": True}, "not broken", "On its way"),
        ({"broken": False, "unscored": 5}, "not judged", "NaN or infinite at 5 of the points"),
        ({"unscored": 5}, "broken", "this image is the proof"),
    ],
)
def test_verdicts_say_what_they_rest_on(changed: dict[str, Any], state: str, words: str) -> None:
    import dataclasses

    told = verdict(dataclasses.replace(FACTS, **changed), None)
    assert told["state"] == state
    assert words in told["text"]


def test_only_a_proof_of_the_whole_budget_proves() -> None:
    import dataclasses

    stood = dataclasses.replace(FACTS, broken=False)
    assert verdict(stood, {"radius": 0.3, "how": "bounds"})["state"] == "proved"
    assert verdict(stood, {"radius": 0.29, "how": "bounds"})["state"] == "not broken"
    assert verdict(stood, {"radius": None, "how": "why"})["state"] == "not broken"
    assert "no change of L∞ 0.3 alters the answer" in verdict(stood, {"radius": 0.3, "how": "bounds"})["text"]
    # what broke is broken, whatever else is said
    assert verdict(FACTS, {"radius": 1.0, "how": "bounds"})["state"] == "broken"


@pytest.mark.parametrize(
    ("size", "norm", "text"),
    [
        (0.1, "linf", "25.5/255"),
        (0.11015629768, "linf", "28.09/255"),
        (1.1939693, "l2", "1.194"),
        (3.0, "l0", "3"),
        (1234.5604, "l1", "1234.561"),
    ],
)
def test_a_size_is_written_as_a_budget_that_holds_it(size: float, norm: str, text: str) -> None:
    assert written(size, norm) == text


def test_the_menu_has_the_attacks_of_the_table_in_its_norms_and_every_option_can_be_read() -> None:
    listed = {one["name"]: one for one in menu.attacks()}
    assert set(listed) == {name for name, entry in ATTACKS.items() if set(entry.norms) & set(menu.NORMS)}
    for name, one in listed.items():
        for option in one["options"]:
            if option["default"] is not None:
                # the default is not passed on
                assert menu.read_options(name, {option["name"]: option["default"]})[0] == {}
            assert option["type"] != "choice" or option["default"] in option["choices"]


def test_no_defence_of_the_menu_has_to_be_fitted() -> None:
    names = {one["name"] for one in menu.defences()}
    assert {"jpeg", "median", "bit-depth"} <= names
    assert not names & {"magnet", "mahalanobis", "autoencoder"}


def test_a_port_that_is_taken_is_said_and_without_one_another_is_found() -> None:
    first = listen("127.0.0.1", None)
    try:
        with pytest.raises(BadInput, match=r"Give another --port"):
            listen("127.0.0.1", first.port)
        second = listen("127.0.0.1", None)
        second.listening.close()
        assert second.port != first.port
        assert first.origin == f"http://127.0.0.1:{first.port}"
        assert first.loopback
    finally:
        first.listening.close()


@pytest.mark.parametrize("host", ["example.org", "300.1.1.1", "203.0.113.7"])
def test_what_is_no_address_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(BadInput):
        listen(host, None)


def test_png_bytes_hold_eight_bit_values_exactly() -> None:
    from assay.playground.attacking import read_back
    from assay.playground.shown import png

    image = torch.arange(256).view(1, 16, 16).float() / 255
    assert torch.equal(read_back(png(image), image), image)
    with Image.open(io.BytesIO(png(image))) as opened:
        assert opened.mode == "L"
