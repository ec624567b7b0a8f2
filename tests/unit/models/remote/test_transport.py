"""Requests that arrive: what is tried again, what is not, what is counted, and what is never said."""

from __future__ import annotations

import os
import pickle
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import assay
from assay.models.remote.address import Address
from assay.models.remote.client import EndpointError
from assay.models.remote.pace import Pace
from assay.models.remote.secrets import Headers
from assay.models.remote.transport import Transport
from assay.spending import Limits
from tests.support.misbehaving import Misbehaving, misbehaving
from tests.support.serving import Server, linear, of_module, with_tls

SHAPE = (3, 8, 8)
PREDICT = of_module(linear(SHAPE, 5))


class Naps(list[float]):
    """Sleeps of no time, kept."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def sending(server: Server, *, naps: Naps | None = None, **facts: object) -> Transport:
    headers = facts.pop("headers", None)
    own = {name: facts.pop(name) for name in ("ca", "again", "broken") if name in facts}
    limits = Limits(**{"timeout": 5.0, **facts})  # type: ignore[arg-type]  # by name
    url = str(facts.pop("url", server.url))
    return Transport(Address.of(url), limits, headers, sleep=Naps() if naps is None else naps, **own)  # type: ignore[arg-type]  # as given


def post(transport: Transport, path: str = "/floats") -> object:
    image = np.zeros(SHAPE).tolist()
    import orjson

    return transport.send("POST", transport.address.under(path), orjson.dumps({"inputs": image}))


@pytest.mark.parametrize(
    ("word", "doubtful"),
    [("429", 0), ("503", 0), ("502", 1), ("504", 1), ("reset", 1), ("half", 1)],
)
def test_what_may_pass_is_sent_again(word: str, doubtful: int) -> None:
    with misbehaving(PREDICT, word, word) as server:
        naps = Naps()
        transport = sending(server, naps=naps)
        answered = post(transport)
        assert (answered.retries, answered.doubtful, answered.status) == (2, 2 * doubtful, 200)
        assert (transport.requests, transport.retries) == (3, 2)
        assert 0.25 <= naps[0] <= 0.5 <= naps[1] <= 1.0
        transport.close()


@pytest.mark.parametrize("word", ["400", "401", "403", "404", "413", "422", "500", "501", "elsewhere", "here"])
def test_what_will_not_pass_is_sent_once(word: str) -> None:
    with misbehaving(PREDICT, word) as server:
        naps = Naps()
        transport = sending(server, naps=naps)
        with pytest.raises(EndpointError, match=rf"answered {word if word.isdigit() else 307}") as caught:
            post(transport)
        assert (caught.value.tries, caught.value.doubtful, len(naps), len(server.at)) == (1, 0, 0, 1)
        assert server.url.removeprefix("http://") in str(caught.value)
        transport.close()


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (None, 'Give a key in an endpoint.yaml: headers: {authorization: "Bearer ${TOKEN}"}.'),
        ({"authorization": "Bearer ${ASSAY_A_KEY}"}, "environment (authorization: Bearer ${ASSAY_A_KEY})?"),
        ({"x-client": "assay"}, 'Give a key in an endpoint.yaml: headers: {authorization: "Bearer ${TOKEN}"}.'),
    ],
)
def test_a_missing_key_is_told_from_a_wrong_one(
    headers: dict[str, str] | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_A_KEY", "a-wrong-key")
    with misbehaving(PREDICT, "401") as server:
        transport = sending(server, headers=Headers(headers))
        with pytest.raises(EndpointError) as caught:
            post(transport)
        assert said in str(caught.value) and "a-wrong-key" not in str(caught.value)
        transport.close()


def test_redirects_are_told_without_their_query() -> None:
    with misbehaving(PREDICT, "elsewhere", "here") as server:
        transport = sending(server)
        with pytest.raises(
            EndpointError, match=r"https://elsewhere\.example\), and redirects are not followed"
        ) as caught:
            post(transport)
        assert "key" not in str(caught.value).partition("keys along")[0]
        with pytest.raises(EndpointError, match=r"\(to /moved/\), and redirects"):
            post(transport)
        transport.close()


def test_tries_end() -> None:
    with misbehaving(PREDICT, *["503"] * 9) as server:
        transport = sending(server, tries=3)
        with pytest.raises(
            EndpointError, match="no answer in 3 tries; the last time: it answered 503: that was 503"
        ) as caught:
            post(transport)
        assert (caught.value.tries, caught.value.status, len(server.at)) == (3, 503, 3)
        transport.close()


@pytest.mark.parametrize(("word", "least", "most"), [("429:7", 7, 7), ("429@9", 7.5, 9)])
def test_the_endpoint_says_how_long_to_wait(word: str, least: float, most: float) -> None:
    with misbehaving(PREDICT, word) as server:
        naps = Naps()
        transport = sending(server, naps=naps)
        assert post(transport).retries == 1
        assert least <= naps[0] <= most
        transport.close()


def test_what_one_thread_is_told_to_wait_holds_for_all() -> None:
    with misbehaving(PREDICT, "429:1") as server:
        transport = Transport(Address.of(server.url), Limits(parallel=2))
        first = threading.Thread(target=post, args=(transport,))
        first.start()
        while not server.at:
            time.sleep(0.01)
        time.sleep(0.1)
        post(transport)
        first.join()
        assert server.at[1] - server.at[0] > 0.95
        transport.close()


def test_too_long_a_wait_ends_the_run_and_says_so() -> None:
    with misbehaving(PREDICT, "429:3600") as server:
        naps = Naps()
        transport = sending(server, naps=naps)
        with pytest.raises(EndpointError, match="asks to wait 3600 s"):
            post(transport)
        assert not naps
        transport.close()


@pytest.mark.parametrize("word", ["slow:1.5", "drip:.02"])
def test_nothing_takes_longer_than_it_may(word: str) -> None:
    with misbehaving(PREDICT, word, word) as server:
        transport = sending(server, timeout=0.2, tries=2)
        began = time.monotonic()
        with pytest.raises(EndpointError, match=r"0\.2 s") as caught:
            post(transport)
        assert time.monotonic() - began < 1.2
        assert (caught.value.tries, caught.value.doubtful) == (2, 2)
        transport.close()


def test_the_user_says_after_what_to_try_again() -> None:
    with misbehaving(PREDICT, "500", "503", "reset") as server:
        transport = sending(server, again=frozenset({500}), broken=frozenset())
        for told, tries in (("503", 2), ("broke off", 1)):
            with pytest.raises(EndpointError, match=told) as caught:
                post(transport)
            assert caught.value.tries == tries
        transport.close()


def test_a_server_that_was_never_up_is_not_waited_for_and_one_that_went_down_is() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
    naps = Naps()
    down = Transport(Address.of(url), Limits(), sleep=naps)
    with pytest.raises(EndpointError, match=r"onnection refused.*Is it up") as caught:
        down.send("GET", down.address)
    assert (caught.value.tries, caught.value.doubtful, len(naps)) == (1, 0, 0)
    server = Server(PREDICT, SHAPE, 5).start()
    transport = sending(server, naps=naps, tries=3)
    post(transport)
    server.close()
    transport.close()
    with pytest.raises(EndpointError, match="no answer in 3 tries") as caught:
        post(transport)
    assert (caught.value.doubtful, len(naps)) == (0, 2)


def test_connections_are_kept_and_a_fork_and_a_copy_have_their_own() -> None:
    with misbehaving(PREDICT) as server:
        opened: list[object] = []
        accept = server.http.get_request
        server.http.get_request = lambda: opened.append(1) or accept()  # type: ignore[func-returns-value]  # in a row
        transport = sending(server)
        for _ in range(5):
            post(transport)
        assert len(opened) == 1
        again = pickle.loads(pickle.dumps(transport))
        assert post(again).status == 200
        assert len(opened) == 2
        with warnings.catch_warnings(action="ignore"):  # the server's threads do not matter to the child
            child = os.fork()
        if not child:
            os._exit(0 if post(transport).status == 200 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert len(opened) == 3
        assert post(transport).status == 200
        assert len(opened) == 3
        again.close()
        transport.close()


def test_the_rate_is_kept_by_all_threads_together() -> None:
    with misbehaving(PREDICT) as server:
        transport = Transport(Address.of(server.url), Limits(per_second=40, parallel=4))
        threads = [threading.Thread(target=lambda: [post(transport) for _ in range(3)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gaps = np.diff(sorted(server.at))
        assert len(server.at) == 12
        # 11 gaps of 25 ms; a request may come late, and the next one in time
        assert server.at[-1] - server.at[0] > 0.26
        assert np.sort(gaps)[5] > 0.015
        transport.close()


def test_retries_keep_the_rate_too() -> None:
    naps = Naps()
    pace = Pace(2, naps)
    for _ in range(4):
        pace.wait()
    assert np.allclose(naps, [0.5, 1.0, 1.5], atol=0.1)


def test_processes_keep_the_rate_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    naps = [Naps(), Naps()]
    one, other = (Pace(10, own, name="host") for own in naps)
    for pace in (one, other, one, other):
        pace.wait()
    # the second, third and fourth of one row
    assert np.allclose([*naps[0], *naps[1]], [0.2, 0.1, 0.3], atol=0.05)
    (file,) = tmp_path.rglob("*.pace")
    assert file.parent.stat().st_mode & 0o777 == 0o700
    for nonsense in ("", "soon", "1e12"):
        file.write_text(nonsense)
        first = Naps()
        Pace(10, first, name="host").wait()
        assert not first
    # a folder that is somebody else's to write to is left alone
    file.unlink()
    file.parent.chmod(0o777)
    Pace(10, Naps(), name="host").wait()
    assert not list(tmp_path.rglob("*.pace"))


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Misbehaving, Path]]:
    server = Misbehaving(PREDICT, SHAPE, 5)
    certificate = with_tls(server, tmp_path)
    server.start()
    yield server, certificate
    server.close()


def test_a_certificate_of_its_own_has_to_be_named(secure: tuple[Misbehaving, Path], tmp_path: Path) -> None:
    server, certificate = secure
    url = server.url.replace("http:", "https:")
    transport = Transport(Address.of(url), Limits(), sleep=Naps())
    with pytest.raises(
        EndpointError, match=r"certificate is not trusted \(self.signed certificate\).*ca=FILE"
    ) as caught:
        post(transport)
    assert caught.value.tries == 1
    transport.close()
    trusted = Transport(Address.of(url), Limits(), ca=str(certificate))
    assert post(trusted).status == 200
    trusted.close()
    with pytest.raises(assay.BadInput, match="no such file"):
        Transport(Address.of(url), Limits(), ca=str(tmp_path / "none.pem"))
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(assay.BadInput, match="no certificates in PEM form"):
        post(Transport(Address.of(url), Limits(), ca=str(tmp_path / "text.pem")))


def test_tls_to_a_server_without_it_is_told() -> None:
    with misbehaving(PREDICT) as server:
        transport = Transport(Address.of(server.url.replace("http:", "https:")), Limits(), sleep=Naps())
        with pytest.raises(EndpointError, match="does not speak TLS"):
            post(transport)
        transport.close()


def test_a_secret_that_the_server_repeats_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_TEST_TOKEN", "hunter2hunter2")
    headers = Headers({"authorization": "Bearer ${ASSAY_TEST_TOKEN}"})
    with misbehaving(PREDICT, "echo") as server:
        transport = sending(server, headers=headers)
        with pytest.raises(EndpointError, match=r"not allowed: \*\*\*") as caught:
            post(transport)
        assert server.seen[0]["authorization"] == "Bearer hunter2hunter2"
        assert "hunter2" not in f"{caught.value!r}{transport!r}{transport.headers!r}"
        transport.close()


def test_proxies_of_the_environment_are_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with misbehaving(PREDICT) as server:
        transport = sending(server)
        assert post(transport).status == 200
        transport.close()


def test_a_proxy_that_is_down_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:9")
    transport = Transport(Address.of("https://models.example.com/net"), Limits(), sleep=Naps())
    with pytest.raises(EndpointError, match=r"onnection refused.*proxy of the environment") as caught:
        transport.send("GET", transport.address)
    assert "hunter2" not in str(caught.value)
    transport.close()


def test_cookies_are_not_kept() -> None:
    with misbehaving(PREDICT) as server:
        respond = server.respond
        server.respond = lambda *given: (lambda s, h, b: (s, {**h, "set-cookie": "a=1"}, b))(*respond(*given))  # type: ignore[method-assign]  # for this test
        transport = sending(server)
        post(transport)
        post(transport)
        assert all("cookie" not in seen for seen in server.seen)
        transport.close()
