"""What the executor decides by itself; tests/scale asks a real cluster."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.evaluation.execution.options import Options
from assay.evaluation.executors import node
from assay.evaluation.executors import ray as subject
from assay.evaluation.executors.ray import Ray


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"Ray is not installed\. Install it with: pip install 'assay\[ray\]'"):
        Options(executor="ray").engine()


def test_an_address_is_for_ray_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="address is 'auto', which executor='ray' alone takes"):
        Options(executor="processes", address="auto").engine()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert Options(executor="ray", address="auto", workers=3).engine() == Ray(3, "auto")


def test_each_worker_gets_a_gpu_of_its_own() -> None:
    assert [subject._on_gpu(device) for device in (None, "cpu", "cuda", "cuda:0")] == [False, False, True, True]
    with pytest.raises(BadInput, match="device is 'cuda:1', expected 'cuda'"):
        subject._on_gpu("cuda:1")


def test_what_an_endpoint_answers_is_kept_on_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = tmp_path / "shared-1"
    shared = {"folder": str(tmp_path), "nonce": str(nonce), "machine": node._machine()}
    assert node._not_shared(None) == ""
    assert "is not shared here" in node._not_shared(shared)
    nonce.write_text("of another run")
    assert "is not shared here" in node._not_shared(shared)
    nonce.write_text(nonce.name)
    assert node._not_shared(shared) == ""
    monkeypatch.setattr(node, "_machine", lambda: "another")
    assert "another machine" in node._not_shared(shared) and "--executor processes" in node._not_shared(shared)


def test_another_release_on_a_node_is_said() -> None:
    import assay

    assert node._other_release({"release": assay.__version__}) == ""
    assert "and 0.0 where the run was started" in node._other_release({"release": "0.0"})


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("The actor died.\n Worker exit type: SYSTEM_ERROR Worker exit detail: …", "SYSTEM_ERROR; out of memory?"),
        ("The actor is dead because its node has died. Node Id: 12", "its node died"),
        ("one\n  line ", "one line"),
    ],
)
def test_many_lines_of_a_death_become_one(text: str, short: str) -> None:
    assert subject._in_line(RuntimeError(text)) == short
