"""The Open Inference Protocol: what is sent, what is read, and what is refused."""

from __future__ import annotations

import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import assay
from assay.core.oracle import Access
from assay.models.remote.client import EndpointError, Reply
from assay.models.remote.v2 import V2
from tests.support.misbehaving import misbehaving
from tests.support.serving import linear, of_module, served

SMALL, LARGE = (3, 8, 8), (3, 24, 24)
NET = {shape: linear(shape, 5) for shape in (SMALL, LARGE)}
DRAWN = np.random.default_rng(0)


def images(n: int, shape: tuple[int, int, int] = SMALL) -> np.ndarray:
    return np.rint(DRAWN.random((n, *shape)) * 255).astype(np.float32) / np.float32(255)


def want(rows: np.ndarray) -> np.ndarray:
    return of_module(NET[rows.shape[1:]])(rows)


def client_of(url: str, options: str = "", model: str = "net") -> V2:
    client = assay.load_model(f"v2:{url}/{model}{options}").module.client
    assert isinstance(client, V2)
    return client


def close(one: np.ndarray, other: np.ndarray) -> bool:
    # the server multiplies batches of other sizes in another order
    return bool(np.allclose(one, other, atol=1e-4, rtol=1e-6))


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("facts", [{}, {"flat": True}, {"layout": "nhwc"}, {"datatype": "FP64"}, {"datatype": "UINT8"}])
def test_scores_are_the_servers_own(shape: tuple[int, int, int], facts: dict[str, Any]) -> None:
    with served(of_module(NET[shape]), shape, 5, **facts) as server:
        model = assay.load_model(f"v2:{server.url}/net")
        assert (model.input_shape, model.access) == (shape, Access.SCORES)
        rows = images(5, shape)
        assert close(model.module(torch.from_numpy(rows)).numpy(), want(rows))
        client = model.module.client
        assert (client.classes, client.loopback, client.labels) == (5, True, False)
        client.transport.close()


@pytest.mark.parametrize("form", ["on", "off"])
def test_scores_of_one_batch_are_equal_to_the_last_bit_in_both_forms(form: str) -> None:
    with served(of_module(NET[LARGE]), LARGE, 5) as server:
        client = client_of(server.url, f"?binary={form}")
        rows = np.random.default_rng(1).random((4, *LARGE), np.float32)
        reply = client.ask(rows)
        assert np.array_equal(reply.scores, want(rows))
        assert (reply.scores.dtype, reply.retries, reply.doubtful, reply.extra) == (np.float32, 0, 0, 0)
        assert ("inference-header-content-length" in server.seen[-1]) is (form == "on")
        client.transport.close()


@pytest.mark.parametrize(("knows", "taken"), [("yes", True), ("no", False), ("wrong", False)])
def test_the_binary_form_is_taken_where_it_is_seen_to_work(knows: str, taken: bool) -> None:
    with served(of_module(NET[LARGE]), LARGE, 5, binary=knows) as server:
        client = client_of(server.url)
        rows = images(4, LARGE)
        first, second = client.ask(rows), client.ask(rows[:3])
        assert close(first.scores, want(rows))
        assert close(second.scores, want(rows[:3]))
        # one row in each form, then the rows that were asked for
        assert (first.extra, second.extra) == (2, 0)
        assert server.batches == [1, *([] if knows == "no" else [1]), 4, 3]
        assert ("inference-header-content-length" in server.seen[-1]) is taken
        client.transport.close()


def test_one_row_is_looked_at_and_answered_at_once() -> None:
    with served(of_module(NET[LARGE]), LARGE, 5) as server:
        client = client_of(server.url)
        assert client.ask(images(1, LARGE)).extra == 1
        assert server.batches == [1, 1]
        client.transport.close()


def test_small_images_are_not_worth_a_look() -> None:
    with served(of_module(NET[SMALL]), SMALL, 5) as server:
        client = client_of(server.url)
        assert client.ask(images(2)).extra == 0
        assert server.batches == [2]
        client.transport.close()


def test_threads_look_once_together() -> None:
    with served(of_module(NET[LARGE]), LARGE, 5) as server:
        client, rows, replies = client_of(server.url), images(2, LARGE), list[Reply]()
        threads = [threading.Thread(target=lambda: replies.append(client.ask(rows))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(one.extra for one in replies) == [0, 0, 0, 2]
        assert sorted(server.batches) == [1, 1, 2, 2, 2, 2]
        assert all(close(one.scores, want(rows)) for one in replies)
        client.transport.close()


def test_every_request_has_an_id_of_its_own() -> None:
    with served(of_module(NET[SMALL]), SMALL, 5) as server:
        client = client_of(server.url)
        for _ in range(3):
            client.ask(images(1))
        assert len(set(server.ids)) == 3
        client.transport.close()


def test_a_static_batch_is_filled_up_and_what_it_costs_is_told() -> None:
    with served(of_module(NET[SMALL]), SMALL, 5, batch=4) as server:
        client, rows = client_of(server.url), images(3)
        assert client.limits.batch == 4
        reply = client.ask(rows)
        assert close(reply.scores, want(rows))
        assert (reply.extra, server.batches) == (1, [4])
        client.transport.close()


def test_labels_alone_are_label_access() -> None:
    def labels(rows: np.ndarray) -> np.ndarray:
        return want(rows).argmax(1)

    with served(labels, SMALL, 5, labels=True) as server:
        with pytest.raises(assay.BadInput, match="classes=10"):
            client_of(server.url)
        model = assay.load_model(f"v2:{server.url}/net?classes=5")
        rows = images(6)
        assert model.access is Access.LABELS
        assert np.array_equal(model.module.client.ask(rows).scores[:, 0], labels(rows))
        signs = model.module(torch.from_numpy(rows)).numpy()
        assert np.array_equal(signs.argmax(1), labels(rows))
        assert sorted(np.unique(signs)) == [-1, 1]
        model.module.client.transport.close()


def test_the_first_label_is_asked_for_by_the_classification_parameter() -> None:
    with served(of_module(NET[SMALL]), SMALL, 5) as server:
        client, rows = client_of(server.url, "?top=1"), images(6)
        assert client.labels
        assert np.array_equal(client.ask(rows).scores[:, 0], want(rows).argmax(1))
        client.transport.close()


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("text", "no rows of numbers"),
        ("page", r"text/html, which is not JSON.*We will be back soon"),
        ("cut", "not JSON, or cut short"),
        ("classes", "4 scores per image, expected 5"),
        ("rows", r"\[1, 5\] for 2 images"),
    ],
)
def test_what_is_no_answer_is_an_error_in_words(word: str, told: str) -> None:
    with misbehaving(of_module(NET[SMALL]), word) as server:
        client = client_of(server.url)
        with pytest.raises(assay.ModelError, match=told):
            client.ask(images(2))
        assert len(server.at) == 1
        assert close(client.ask(images(2)).scores.shape, (2, 5))
        client.transport.close()


@pytest.mark.parametrize("word", ["nan", "infinity", "null"])
def test_scores_that_are_no_numbers_are_passed_on(word: str) -> None:
    # bare NaN as Triton writes it, null as others do: the search knows what to do about them
    with misbehaving(of_module(NET[SMALL]), word) as server:
        client = client_of(server.url)
        scores = client.ask(images(2)).scores
        assert scores.shape == (2, 5) and not np.isfinite(scores).all()
        client.transport.close()


def test_nan_in_binary_form_is_passed_on_too() -> None:
    with served(lambda rows: want(rows) * np.float32("nan"), LARGE, 5) as server:
        client = client_of(server.url, "?binary=on")
        assert np.isnan(client.ask(images(1, LARGE)).scores).all()
        client.transport.close()


def test_an_image_that_an_endpoint_has_no_scores_for_is_an_error_and_the_run_goes_on(tmp_path: Path) -> None:
    def broken(rows: np.ndarray) -> np.ndarray:
        scores = want(rows)
        scores[rows.mean((1, 2, 3)) < rows_mean] = np.nan
        return scores

    x = images(6)
    rows_mean = float(np.sort(x.mean((1, 2, 3)))[2])
    with served(broken, SMALL, 5) as server:
        data = (torch.from_numpy(x), torch.from_numpy(want(x).argmax(1)))
        run = assay.evaluate(
            f"v2:{server.url}/net", data, attacks=["uniform-noise"], threat=assay.Linf(0.01), out=tmp_path / "run",
            audit="off", doctor=False,
        )  # fmt: skip
        told = run.records().column("status").to_pylist()
    assert told.count("error") == 2 and len(told) == 6


def test_another_version_under_way_ends_the_run() -> None:
    with misbehaving(of_module(NET[SMALL]), "ok", "version") as server:
        client = client_of(server.url)
        client.ask(images(1))
        with pytest.raises(EndpointError, match="version 2 now, and did with version 1"):
            client.ask(images(1))
        client.transport.close()


def test_values_between_two_levels_are_rounded_and_not_cut() -> None:
    seen: list[np.ndarray] = []
    net = of_module(NET[SMALL])
    with served(lambda rows: (seen.append(rows), net(rows))[1], SMALL, 5, datatype="UINT8") as server:
        model = assay.load_model(f"v2:{server.url}/net")
        assert any("rounded" in note and "grid=255" in note for note in model.notes)
        model.module(torch.full((1, *SMALL), 100.6 / 255))
        assert np.array_equal(np.rint(seen[0] * 255), np.full((1, *SMALL), 101))
        client, row = model.module.client, np.full(SMALL, 100.6 / 255, np.float32)
        assert client.content(row) == client.content(np.full(SMALL, 101 / 255, np.float32))
        with pytest.raises(assay.BadInput, match="grey levels 0 to 255, and normalised images are none"):
            assay.load_model(f"v2:{server.url}/net?mean=.5,.5,.5&std=.2,.2,.2")
        client.transport.close()


INPUT = {"name": "image", "datatype": "FP32", "shape": [-1, 3, 8, 8]}
OUTPUT = {"name": "scores", "datatype": "FP32", "shape": [-1, 5]}


@pytest.mark.parametrize(
    ("metadata", "options", "told"),
    [
        ({"inputs": [INPUT, {**INPUT, "name": "mask"}]}, "", r"2 inputs: image, mask.*\?input=image"),
        ({"inputs": []}, "", "does not say what its model takes"),
        ({"inputs": None}, "?input=image", "layout=nchw&size=224"),
        ({"outputs": []}, "", "states no output"),
        ({"outputs": [OUTPUT, {**OUTPUT, "name": "aux"}]}, "", r"\?output=scores"),
        ({}, "?input=pixels", "has no input 'pixels'; it has image"),
        ({}, "?output=logits", "has no output 'logits'; it has scores"),
        ({"inputs": [{**INPUT, "shape": [-1, 192]}]}, "", r"shape \[-1, 192\], expected that of images"),
        ({"inputs": [{**INPUT, "shape": [-1, 3, 8, 3]}]}, "", "layout=nchw or layout=nhwc"),
        ({"inputs": [{**INPUT, "shape": [-1, -1, -1, -1]}]}, "", "layout=nchw or layout=nhwc"),
        ({"inputs": [{**INPUT, "datatype": "BYTES"}]}, "", "takes BYTES"),
        ({"outputs": [{**OUTPUT, "datatype": "BYTES"}]}, "", "is BYTES, expected scores"),
        ({}, "?classes=7", "classes is 7, and the endpoint .* answers 5"),
        ({}, "?size=9", "takes images of 8x8"),
        ({}, "?binary=maybe", "auto or on or off"),
        ({}, "?layout=hwc", "nchw"),
        ({}, "?batch=0", "batch is '0', expected a whole number of at least 1"),
        ({}, "?budget=3", "no price"),
        ({}, "?timeout=soon", "timeout is 'soon'"),
        ({}, "?top=3", "top is 3"),
        ({}, "?quereis=3", "Did you mean 'queries'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(
    metadata: dict[str, Any], options: str, told: str
) -> None:
    with served(of_module(NET[SMALL]), SMALL, 5, metadata=metadata) as server:
        with pytest.raises(assay.BadInput, match=told):
            assay.load_model(f"v2:{server.url}/net{options}")
        assert server.rows == 0


def test_a_server_that_states_nothing_is_told_what_its_tensors_are() -> None:
    with served(of_module(NET[SMALL]), SMALL, 5, metadata={"inputs": [], "outputs": []}) as server:
        model, rows = assay.load_model(f"v2:{server.url}/net?input=image&output=scores&layout=nchw&size=8"), images(2)
        assert close(model.module(torch.from_numpy(rows)).numpy(), want(rows))
        assert (model.input_shape, model.module.client.classes) == (SMALL, 5)
        model.module.client.transport.close()


def test_class_numbers_are_not_taken_for_scores() -> None:
    # its metadata announce scores
    with served(
        lambda rows: want(rows).argmax(1)[:, None], SMALL, 5, labels=True, metadata={"outputs": [OUTPUT]}
    ) as server:
        client = client_of(server.url)
        with pytest.raises(assay.ModelError, match="answered INT64, and its metadata say FP32"):
            client.ask(images(2))
        client.transport.close()


def test_images_of_another_size_are_not_sent() -> None:
    with served(of_module(NET[SMALL]), SMALL, 5) as server:
        client = client_of(server.url)
        with pytest.raises(assay.ModelError, match=r"takes images \[3, 8, 8\].*asked about \[3, 9, 8\]"):
            client.ask(images(2, (3, 9, 8)))
        assert server.rows == 0


def test_without_the_extra_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("httpx2", "orjson"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, name, None)
            with pytest.raises(assay.BadInput, match=rf"{name} is not installed.*pip install 'assay\[remote\]'"):
                assay.load_model("v2:http://127.0.0.1:1/net")


def test_a_choice_of_tensors_is_made_by_name() -> None:
    facts = {"inputs": [{**INPUT, "name": "mask"}, INPUT], "outputs": [{**OUTPUT, "name": "aux"}, OUTPUT]}
    with served(of_module(NET[SMALL]), SMALL, 5, metadata=facts) as server:
        client, rows = client_of(server.url, "?input=image&output=scores"), images(2)
        assert close(client.ask(rows).scores, want(rows))
        client.transport.close()


@pytest.mark.parametrize(
    "place", ["/net", "/v2/models/net", "/v2/models/net/infer", "/v2/models/net/versions/1", "/v2/models/net/"]
)
def test_every_form_of_the_address_is_understood(place: str) -> None:
    with served(of_module(NET[SMALL]), SMALL, 5) as server:
        client, rows = assay.load_model(f"v2:{server.url}{place}").module.client, images(2)
        assert close(client.ask(rows).scores, want(rows))
        client.transport.close()


def test_wrong_places_are_told() -> None:
    with served(of_module(NET[SMALL]), SMALL, 5) as server:
        with pytest.raises(
            assay.BadInput, match=r"no model at 127\.0\.0\.1:\d+/v2/models/other: .*404: .*no such model"
        ):
            client_of(server.url, model="other")
        url = server.url
    with pytest.raises(EndpointError, match=r"onnection refused.*Is it up"):
        client_of(url)
    for name in ("v2:http://127.0.0.1:1", "v2:net", "v2:http://", "v2:http://127.0.0.1:1/v2/models/"):
        with pytest.raises(assay.BadInput, match="such as v2:http"):
            assay.load_model(name)


def test_an_endpoint_elsewhere_needs_a_limit_before_it_is_asked() -> None:
    for name in ("v2:https://models.example.com/net", "v1:https://models.example.com/net?layout=nchw"):
        with pytest.raises(assay.BadInput, match=r"\?queries=10000"):
            assay.load_model(name)


def test_what_answers_depend_on_is_in_the_identity_and_limits_are_not() -> None:
    facts = {"inputs": [INPUT], "outputs": [OUTPUT, {**OUTPUT, "name": "aux"}]}
    with served(of_module(NET[SMALL]), SMALL, 5, metadata=facts) as server:
        base = client_of(server.url, "?output=scores").identity
        same = client_of(server.url, "?output=scores&queries=7&batch=2&parallel=3&per_second=9&timeout=4&tries=2")
        assert same.identity == base
        others = {
            client_of(server.url, f"?output=scores{more}").identity for more in ("&version=1", "&top=1", "&binary=on")
        }
        others |= {client_of(server.url, "?output=aux").identity}
        server.version = "2"
        others |= {client_of(server.url, "?output=scores").identity}
        assert len(others | {base}) == 6
    with served(of_module(NET[SMALL]), SMALL, 5) as server:
        one = assay.load_model(f"v2:{server.url}/net")
        two = assay.load_model(f"v2:{server.url}/net?queries=9")
        server.version = "2"
        assert one.digest == two.digest != assay.load_model(f"v2:{server.url}/net").digest


def test_equal_content_is_what_is_equal_on_the_wire() -> None:
    with served(of_module(NET[SMALL]), SMALL, 5, datatype="FP16") as server:
        client, row = client_of(server.url), np.full(SMALL, 0.3, np.float32)
        assert client.content(row) == client.content(row + np.float32(1e-6)) != client.content(row + np.float32(1e-2))
    with served(of_module(NET[SMALL]), SMALL, 5) as server:
        client = client_of(server.url)
        assert client.content(row) != client.content(row + np.float32(1e-6))


def test_a_client_goes_to_another_process() -> None:
    with served(of_module(NET[LARGE]), LARGE, 5) as server:
        client, rows = client_of(server.url), images(2, LARGE)
        client.ask(rows)
        again = pickle.loads(pickle.dumps(client))
        reply = again.ask(rows)
        assert close(reply.scores, want(rows))
        assert (reply.extra, again.identity) == (0, client.identity)
        again.transport.close()
        client.transport.close()


def test_a_twin_gives_gradients_and_every_answer_stays_the_endpoints(tmp_path: Path) -> None:
    (tmp_path / "twin.py").write_text(
        "from tests.support.serving import linear\n\n\ndef net():\n    return linear((3, 8, 8), 5)\n\n\n"
        "def other():\n    return linear((3, 8, 8), 5, seed=1)\n"
    )
    with served(of_module(NET[SMALL]), SMALL, 5) as server:
        model = assay.load_model(f"v2:{server.url}/net?twin={tmp_path / 'twin.py'}:other")
        assert model.access is Access.GRADIENT
        assert server.rows == 0
        x = torch.from_numpy(images(3)).requires_grad_()
        scores = model.module(x)
        assert close(scores.detach().numpy(), want(x.detach().numpy()))
        (gradient,) = torch.autograd.grad(scores[:, 2].sum(), x)
        assert torch.allclose(gradient, linear(SMALL, 5, seed=1)[1].weight[2].reshape(SMALL).expand(3, *SMALL))
        plain = assay.load_model(f"v2:{server.url}/net")
        assert model.digest != plain.digest
        with pytest.raises(assay.BadInput, match="labels alone"):
            assay.load_model(f"v2:{server.url}/net?top=1&twin={tmp_path / 'twin.py'}:net")
        model.module.answer.module.client.transport.close()


def test_many_threads_get_the_answers_to_their_own_rows() -> None:
    script = ["ok"] * 40
    for at, word in ((3, "reset"), (11, "503"), (17, "half"), (23, "429:0"), (31, "502")):
        script[at] = word

    def slowly(rows: np.ndarray) -> np.ndarray:
        time.sleep(0.02)  # so that several are under way, however busy the machine is
        return want(rows)

    with misbehaving(slowly, *script) as server:
        client = client_of(server.url, "?parallel=8")
        asked = [np.random.default_rng(at).random((1 + at % 3, *SMALL), np.float32) for at in range(40)]
        with ThreadPoolExecutor(8) as crew:
            replies = list(crew.map(client.ask, asked))
        for rows, reply in zip(asked, replies, strict=True):
            assert close(reply.scores, want(rows))
        assert sum(reply.retries for reply in replies) == 5 == client.transport.retries
        assert sum(reply.doubtful for reply in replies) == 3
        assert client.transport.requests == 1 + 40 + 5
        assert server.most_under_way > 1
        client.transport.close()
