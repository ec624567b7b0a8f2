"""One network in this process and behind an endpoint of every kind: equal records, and no secret anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import assay
from assay.models import Predictions
from tests.support import tiny
from tests.support.misbehaving import Misbehaving
from tests.support.serving import Server
from tests.support.workplace import Workplace, make_workplace

SHAPE, CLASSES, N = (3, 8, 8), 4, 6
PATTERNS = np.random.default_rng(0).standard_normal((CLASSES, 3 * 8 * 8))


def predict(images: np.ndarray) -> np.ndarray:
    """Return scores that do not depend on the rows beside: each is added up on its own, in float64."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    return np.array([(PATTERNS * row).sum(1) for row in flat], np.float32).reshape(len(images), CLASSES)


def labelled() -> Any:
    """Return pictures of 8 bits with the network's own labels."""
    pixels = (tiny.images(N)[0] * 255).round() / 255
    return assay.load_data((pixels, torch.from_numpy(predict(pixels.numpy()).argmax(1))))


SCORES: dict[str, Any] = {"attack": "square", "queries": 25}
LABELS: dict[str, Any] = {"attack": "boundary", "queries": 40}
JSON = "url: URL/{kind}\nimage: {image}\nrequest: {{inputs: {word}}}\nanswer: {{{answer}}}\nsize: 8\nclasses: {names}\n"
NAMES = "[c0, c1, c2, c3]"


def described(folder: Path, server: Server, **facts: str) -> str:
    file = folder / "endpoint.yaml"
    usual = {"kind": "png", "image": "png", "word": "$images", "answer": "scores: result.scores", "names": NAMES}
    file.write_text(JSON.format(**{**usual, **facts}).replace("URL", server.url) + "limits: {batch: 5, parallel: 3}\n")
    return f"remote:{file}"


FORMS: dict[str, Callable[[Path, Server], str]] = {
    "v2 json": lambda _, server: f"v2:{server.url}/net?binary=off&batch=5",
    "v2 binary": lambda _, server: f"v2:{server.url}/net?binary=on&batch=3&parallel=4",
    "v1": lambda _, server: f"v1:{server.url}/net?layout=nchw&size=8",
    "floats": lambda folder, server: described(folder, server, kind="floats", image="floats\nlayout: nchw"),
    "png": described,
    "labelled": lambda folder, server: described(
        folder, server, kind="labelled", word="$image", answer="scores: '[*].score', labels: '[*].label'"
    ),
}


def records(model: Any, attack: dict[str, Any], out: Path, **settings: Any) -> list[dict[str, Any]]:
    threat = {"norm": "linf" if attack is SCORES else "l2", "eps": ["8/255", "32/255"], "grid": 255}
    if attack is LABELS:
        threat = {"norm": "l2", "eps": [0.2, 1.0], "grid": 255}
    run = tiny.evaluate(model, labelled(), [attack], threat, out, **settings)
    # its cell and name are those of another model
    return [{key: value for key, value in row.items() if key not in ("cell", "model")} for row in tiny.rows(run)]


@pytest.fixture(scope="module")
def served() -> Iterator[Misbehaving]:
    server = Misbehaving(predict, SHAPE, CLASSES, script=[])
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    model = assay.load_model(Predictions(predict), access="scores")
    return records(model, SCORES, tmp_path_factory.mktemp("here"))


@pytest.mark.parametrize("form", FORMS)
def test_records_are_those_of_the_network_itself(
    form: str, served: Misbehaving, here: list[dict[str, Any]], tmp_path: Path
) -> None:
    # some broke and some did not, so that the records say something
    assert len({row["status"] for row in here}) > 1
    # what goes wrong on the way changes none
    served.script[:] = ["503", "half", "ok", "reset", "429:0"]
    assert records(FORMS[form](tmp_path, served), SCORES, tmp_path / "run") == here
    assert not served.script


def test_records_of_labels_alone_are_those_of_the_networks_labels(served: Misbehaving, tmp_path: Path) -> None:
    labels = Predictions(lambda images: predict(images).argmax(1), classes=CLASSES)
    here = records(assay.load_model(labels, access="labels"), LABELS, tmp_path / "here")
    answer = "labels: label, outputs: labels"
    for name in (
        described(tmp_path, served, kind="named", word="$image", answer=answer),
        f"v2:{served.url}/net?top=1",
    ):
        assert records(name, LABELS, tmp_path / name[:2]) == here
    assert len({row["status"] for row in here}) > 1


def test_a_secret_is_in_no_file_and_in_nothing_that_is_said(
    served: Misbehaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_TEST_TOKEN", "hunter2hunter2")
    make_workplace(tmp_path)
    place = Workplace(tmp_path, capsys)
    text = JSON.format(kind="png", image="png", word="$images", answer="scores: result.scores", names=NAMES)
    text = text.replace("URL", served.url) + 'headers: {authorization: "Bearer ${ASSAY_TEST_TOKEN}"}\n'
    Path("endpoint.yaml").write_text(text)
    line = "run --model remote:endpoint.yaml --data folder:pictures --eps 4/255 --attack square:queries=20 --audit off"
    said = [place.assay(f"{line} --out fine")]
    assert said[0].code == 0, said[0].err
    assert served.seen[-1]["authorization"] == "Bearer hunter2hunter2"
    served.script[:] = ["echo"] * 50
    said += [place.assay(f"{line} --out refused"), place.assay(f"{line} --out refused --debug")]
    said += [place.assay("doctor --model remote:endpoint.yaml --data folder:pictures")]
    served.script.clear()
    assert "not allowed: ***" in said[1].err
    assert all(one.code for one in said[1:3])
    said += [place.assay("show fine --json"), place.assay("report fine")]
    assert not [one for one in said if "hunter2" in one.out + one.err]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
    monkeypatch.delenv("ASSAY_TEST_TOKEN")
    without = place.assay(f"{line} --out none")
    assert without.code == 2
    assert "ASSAY_TEST_TOKEN, which is not set" in without.err
    assert not Path("none").exists()


def test_an_endpoint_elsewhere_is_not_asked_without_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_workplace(tmp_path)
    line = "run --model v2:https://models.example.com/net --data folder:pictures --eps 4/255 --attack square"
    said = Workplace(tmp_path, capsys).assay(line)
    assert said.code == 2
    assert "?queries=10000" in said.err
