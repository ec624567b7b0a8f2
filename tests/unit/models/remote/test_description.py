"""An endpoint described in a file: every slip is named with its place, and what is said is what is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import assay
from assay.core.oracle import Access
from assay.models.classifier import Classifier
from assay.models.remote.paths import parts_of, value_at
from tests.support.serving import Server, linear, of_module, served

SHAPE = (3, 8, 8)
NET = linear(SHAPE, 5)
GRID = (torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
with torch.no_grad():
    WANT = NET(GRID)

Made = Callable[[str], Classifier]

PNG = "url: URL/png\nimage: png\nrequest: {inputs: $image}\nanswer: {scores: result.scores}\nsize: 8\n"
LABELLED = PNG.replace("/png", "/labelled").replace(
    "{scores: result.scores}", "{scores: '[*].score', labels: '[*].label'}"
)
CLASSES = "classes: [c0, c1, c2, c3, c4]\n"


@pytest.fixture
def server() -> Iterator[Server]:
    with served(of_module(NET), SHAPE, 5) as server:
        yield server


@pytest.fixture
def made(server: Server, tmp_path: Path) -> Made:
    def make(text: str, options: str = "") -> Classifier:
        file = tmp_path / "endpoint.yaml"
        file.write_text(text.replace("URL", server.url), encoding="utf-8")
        return assay.load_model(f"remote:{file}{options}")

    return make


def test_a_picture_at_a_time(made: Made, server: Server) -> None:
    model = made(PNG)
    assert torch.allclose(model.module(GRID), WANT, atol=1e-4)
    assert server.batches == [1] * 4
    assert (model.input_shape, model.access, model.outputs) == (SHAPE, Access.SCORES, "logits")
    assert any("PNG" in note and "grid=255" in note for note in model.notes)


def test_pictures_are_rounded_as_part_of_the_model(made: Made) -> None:
    model = made(PNG)
    assert torch.allclose(model.module(GRID + 0.4 / 255), WANT, atol=1e-4)
    client = model.module.client
    row = GRID[0].numpy()
    assert (
        client.content(row)
        == client.content(row + np.float32(0.4 / 255))
        != client.content(row + np.float32(0.6 / 255))
    )


def test_several_pictures_in_a_request(made: Made, server: Server) -> None:
    model = made(PNG.replace("$image", "$images") + "limits: {batch: 3}\n")
    assert torch.allclose(model.module(GRID), WANT, atol=1e-4)
    assert sorted(server.batches) == [1, 3]


def test_a_picture_as_the_whole_request(made: Made, server: Server) -> None:
    model = made(PNG.replace("/png", "/raw").replace("{inputs: $image}", "$image"))
    assert torch.allclose(model.module(GRID), WANT, atol=1e-4)
    assert server.seen[-1]["content-type"] == "image/png"


def test_a_picture_inside_a_longer_text(made: Made, server: Server) -> None:
    sent: list[bytes] = []
    usual = server.plain
    server.plain = lambda kind, body: (sent.append(body), usual(kind, body.replace(b"data:image/png;base64,", b"")))[1]  # type: ignore[method-assign]  # for this test
    model = made(PNG.replace("{inputs: $image}", '{inputs: "data:image/png;base64,$image", n: 3}'))
    assert torch.allclose(model.module(GRID), WANT, atol=1e-4)
    assert json.loads(sent[0])["inputs"].startswith("data:image/png;base64,iVBOR")
    assert json.loads(sent[0])["n"] == 3


def test_jpeg_is_what_it_makes_of_an_image(made: Made, server: Server) -> None:
    seen: list[np.ndarray] = []
    server.predict = lambda images: (seen.append(images), of_module(NET)(images))[1]
    made(PNG.replace("image: png", "image: jpeg:60")).module(GRID[:1])
    assert 0.01 < np.abs(seen[0] - GRID[:1].numpy()).mean() < 0.3


@pytest.mark.parametrize("word", ["$image", "$images"])
def test_floats_arrive_to_the_last_bit(made: Made, server: Server, word: str) -> None:
    seen: list[np.ndarray] = []
    server.predict = lambda images: (seen.append(images), of_module(NET)(images))[1]
    floats = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    made(PNG.replace("/png", "/floats").replace("png", "floats\nlayout: nchw").replace("$image", word)).module(floats)
    assert np.array_equal(np.concatenate(seen), floats.numpy())


def test_floats_are_normalised_where_it_is_said(made: Made, server: Server) -> None:
    seen: list[np.ndarray] = []
    server.predict = lambda images: (seen.append(images), of_module(NET)(images))[1]
    floats = (
        PNG.replace("/png", "/floats").replace("png", "floats\nlayout: nchw")
        + "mean: [.5, .4, .3]\nstd: [.2, .2, .1]\n"
    )
    model = made(floats)
    model.module(GRID)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.2, 0.1]).view(3, 1, 1)
    assert np.allclose(np.concatenate(seen), ((GRID - mean) / std).numpy(), atol=1e-6)
    assert model.mean == (0.5, 0.4, 0.3)


def test_probabilities_become_their_logarithms(made: Made, server: Server) -> None:
    server.predict = lambda images: torch.softmax(torch.from_numpy(of_module(NET)(images)), 1).numpy()
    model = made(PNG.replace("result.scores", "result.scores, outputs: probabilities"))
    assert model.outputs == "probabilities"
    assert torch.allclose(model.module(GRID), WANT.log_softmax(1).clamp_min(-87.4), atol=1e-2)
    assert model.digest != made(PNG).digest
    by_name = assay.load_model(made(PNG).spec, outputs="probabilities")
    assert torch.equal(by_name.module(GRID), model.module(GRID))


def test_scores_are_put_into_the_order_of_the_classes(made: Made, server: Server) -> None:
    assert torch.allclose(made(LABELLED + CLASSES).module(GRID), WANT, atol=1e-4)
    turned = made(LABELLED + "classes: [c4, c3, c2, c1, c0]\n")
    assert torch.allclose(turned.module(GRID), WANT.flip(1), atol=1e-4)
    assert turned.digest != made(LABELLED + CLASSES).digest


def test_names_come_from_a_file_beside_the_description(made: Made, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("c0\nc1\nc2\nc3\nc4\n")
    model = made(LABELLED + "classes: labels.txt\n")
    assert torch.allclose(model.module(GRID), WANT, atol=1e-4)
    assert model.classes == ("c0", "c1", "c2", "c3", "c4")


def test_labels_that_are_left_out_are_an_error_and_labels_alone_are_not(made: Made) -> None:
    cut = LABELLED.replace("$image}", "$image, top: 3}") + CLASSES
    with pytest.raises(assay.ModelError, match="3 of 5 classes: it leaves the lowest out"):
        made(cut).module(GRID)
    model = made(cut.replace("labels: '[*].label'", "labels: '[*].label', outputs: labels"))
    assert model.access is Access.LABELS
    assert torch.equal(model.module(GRID).argmax(1), WANT.argmax(1))
    assert model.module(GRID).unique().tolist() == [-1, 1]


def test_scores_under_the_name_of_each_class(made: Made) -> None:
    by_name = PNG.replace("/png", "/by-name").replace("scores: result.scores", "scores: $")
    assert torch.allclose(made(by_name + CLASSES).module(GRID), WANT, atol=1e-4)
    turned = made(by_name + "classes: [c4, c3, c2, c1, c0]\n")
    assert torch.allclose(turned.module(GRID), WANT.flip(1), atol=1e-4)
    with pytest.raises(assay.ModelError, match=r"under the names c\d, .*Name the classes: classes: labels.txt"):
        made(by_name).module(GRID)
    with pytest.raises(assay.ModelError, match="5 of 6 classes: it leaves the lowest out"):
        made(by_name + "classes: [c0, c1, c2, c3, c4, c5]\n").module(GRID)


def test_a_class_number_may_be_written_with_a_point_and_is_never_below_zero(made: Made) -> None:
    number = PNG.replace("/png", "/number").replace("{scores: result.scores}", "{labels: label, outputs: labels}")
    assert torch.equal(made(number + "classes: 5\n").module(GRID).argmax(1), WANT.argmax(1))
    for off in ("0.5", "-5"):
        with pytest.raises(assay.ModelError, match="expected a class number below 5"):
            made(number.replace("$image}", f"$image, off: {off}}}") + "classes: 5\n").module(GRID)


def test_one_label_is_enough(made: Made) -> None:
    named = PNG.replace("/png", "/named").replace("{scores: result.scores}", "{labels: label, outputs: labels}")
    assert torch.equal(made(named + CLASSES).module(GRID).argmax(1), WANT.argmax(1))
    with pytest.raises(assay.BadInput, match=r"endpoint\.yaml  The answer holds labels"):
        made(named)
    with pytest.raises(assay.ModelError, match=r"'c\d', which is none of its 5 classes"):
        made(named + "classes: [d0, d1, d2, d3, d4]\n").module(GRID)
    with pytest.raises(assay.ModelError, match="expected a class number below 5"):
        made(named + "classes: 5\n").module(GRID)


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_servers_of_the_other_protocols_are_described_too(made: Made, server: Server, protocol: str) -> None:
    text = f"protocol: {protocol}\nurl: URL/net\nlayout: nchw\nsize: 8\noutputs: probabilities\n"
    text += "limits: {batch: 2, queries: 9}\n"
    server.predict = lambda images: torch.softmax(torch.from_numpy(of_module(NET)(images)), 1).numpy()
    model = made(text)
    assert torch.allclose(model.module(GRID), WANT.log_softmax(1).clamp_min(-87.4), atol=1e-2)
    assert (model.module.module.client.limits.batch, model.module.module.client.limits.queries) == (2, 9)


def test_the_name_may_say_other_limits_than_the_file(made: Made) -> None:
    model = made(
        PNG + "limits: {queries: 9, timeout: 3, price: .5, currency: EUR}\nretry: {tries: 2}\n", "?queries=7&tries=4"
    )
    limits = model.module.client.limits
    assert (limits.queries, limits.timeout, limits.price, limits.currency, limits.tries) == (7, 3, 0.5, "EUR", 4)
    assert model.digest == made(PNG).digest


def test_everything_that_answers_depend_on_is_in_the_digest(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_TEST_TOKEN", "hunter2hunter2")
    base = made(PNG)
    others = [
        PNG.replace("/png", "/png2"),
        PNG.replace("image: png", "image: jpeg:95"),
        PNG.replace("$image}", "$image, mode: b}"),
        PNG.replace("result.scores", "result.others"),
        PNG + "version: 2026-11\n",
        PNG + "params: {mode: b}\n",
        PNG + "headers: {x-variant: b}\n",
    ]
    digests = {made(text).digest for text in others}
    assert len(digests | {base.digest}) == len(others) + 1
    secret = made(PNG + 'headers: {authorization: "Bearer ${ASSAY_TEST_TOKEN}"}\n')
    assert secret.digest == base.digest
    assert "hunter2" not in secret.identity + repr(secret) + repr(vars(secret.module.client))


def test_whatever_yaml_holds_can_be_sent(made: Made, server: Server) -> None:
    sent: list[bytes] = []
    usual = server.plain
    server.plain = lambda kind, body: (sent.append(body), usual(kind, body))[1]  # type: ignore[method-assign]  # for this test
    model = made(PNG.replace("$image}", "$image, day: 2026-11-30, 1: 2, none: null, yes: true, x: 1.5}"))
    model.module(GRID[:1])
    told = json.loads(sent[0])
    del told["inputs"]
    assert told == {"day": "2026-11-30", "1": 2, "none": None, "yes": True, "x": 1.5}
    assert "2026-11-30" in model.identity


SLIPS = [
    ("url: URL\nprotokol: json\n", r"endpoint\.yaml:2:11  protokol: Unknown key\. Did you mean 'protocol'\?"),
    (PNG.replace("url: URL/png\n", ""), r"url: is missing\. Write its address"),
    (PNG.replace("image: png\n", ""), "needs image.*'image: png'"),
    (PNG.replace("request: {inputs: $image}\n", ""), "needs request"),
    (PNG.replace("answer: {scores: result.scores}\n", ""), "needs answer"),
    (PNG.replace("scores: result.scores", ""), "scores: result.scores, or take outputs: labels"),
    (PNG.replace("scores: result.scores", "outputs: labels"), "labels: result.label"),
    (PNG.replace("$image", "image"), r"neither \$image nor \$images"),
    (PNG.replace("{inputs: $image}", "{$image: 1}"), "neither"),
    (PNG.replace("$image}", "$image, b: !!binary aGk=}"), "cannot be written as JSON"),
    (PNG.replace("$image}", "$image, b: $images}"), r"both \$image and \$images"),
    (PNG.replace("{inputs: $image}", '"x$images"'), r"\$images is a list of images, and has to stand alone"),
    (PNG.replace("$image}", "'${TOKEN}', b: $image}"), "Give secrets as headers"),
    (PNG.replace("image: png", "image: gif"), "image is 'gif', expected png, jpeg:QUALITY"),
    (PNG.replace("image: png", "image: jpeg"), "expected png, jpeg:QUALITY"),
    (PNG.replace("image: png", "image: jpeg:101"), "expected png, jpeg:QUALITY"),
    (PNG.replace("image: png", "image: floats"), "needs the order of an image's sides"),
    (PNG.replace("image: png", "image: floats\nlayout: chwn"), "layout is 'chwn'"),
    (PNG.replace("image: png", "image: floats\nlayout: nchw").replace("$image", "a$image"), "has to stand alone"),
    (PNG + "mean: .5\nstd: .5\n", "grey levels 0 to 255, and normalised images are none"),
    (PNG + "layout: nchw\n", "layout is for image: floats"),
    (PNG + "input: x\n", "json has no input"),
    (PNG + "outputs: probabilities\n", "stands in answer: {outputs: …}"),
    ("protocol: v2\nimage: png\nurl: URL/net\n", "v2 has no image"),
    (PNG.replace("result.scores", "'a..b'"), r"'a\.\.b' is no path"),
    (PNG + "limits: {batch: 0, quereis: 3}\n", r"endpoint\.yaml:6:17  limits\.batch: 0: .*\n.*Did you mean 'queries'"),
    (PNG + "retry: {on: [429, always]}\n", r"endpoint\.yaml:6:19  retry\.on\[1\]: 'always'"),
    (PNG + "classes: 1\n", "classes is 1, expected 2 or more"),
    (PNG + "classes: [a, b, a]\n", "a twice"),
    (PNG + "classes: none.txt\n", "classes names none.txt, which could not be read"),
    (PNG + "size: 0\n", r"endpoint\.yaml:6:1  This is not YAML|given twice|twice|duplicate"),
    (PNG.replace("size: 8", "size: zero"), "size is 'zero'"),
    (PNG + "headers: {authorization: Bearer hunter2}\n", "environment"),
    (PNG + 'headers: {authorization: "Bearer ${ASSAY_TEST_NONE}"}\n', "ASSAY_TEST_NONE, which is not set"),
    (PNG + "params: {key: hunter2}\n", "looks like a secret"),
    (PNG.replace("URL", "https://example.com"), r"limits: \{queries: 10000\}"),
    (PNG.replace("URL", "http://example.com"), "plain_http"),
    (PNG.replace("URL", "https://a:hunter2@example.com"), "user name or a password"),
    ("url: [URL\n", "This is not YAML"),
    ("", "describes no endpoint"),
    ("- a\n", "describes no endpoint"),
]


@pytest.mark.parametrize(("text", "told"), SLIPS)
def test_every_slip_is_named(made: Made, server: Server, text: str, told: str) -> None:
    with pytest.raises(assay.BadInput, match=told) as caught:
        made(text)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).startswith("endpoint.yaml")
    assert not server.asked


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "endpoint.yaml").write_text(PNG)
    with pytest.raises(assay.BadInput, match=r"There is no file .*endpoints\.yaml\. Did you mean 'endpoint\.yaml'"):
        assay.load_model(f"remote:{tmp_path / 'endpoints.yaml'}")


def test_aliases_that_multiply_are_refused(made: Made) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 9)]
    with pytest.raises(assay.BadInput, match="too often"):
        made("\n".join(lines))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b", 1),
        ("$.a.b", 1),
        ("a", {"b": 1}),
        ("list[1].c", 3),
        ("list[*].c", [2, 3]),
        ("list[*]", [{"c": 2}, {"c": 3}]),
        ('["with space"]', 4),
        ("deep[*][*].d", [[5, 6], [7]]),
    ],
)
def test_paths(path: str, value: object) -> None:
    answer = {"a": {"b": 1}, "list": [{"c": 2}, {"c": 3}], "with space": 4, "deep": [[{"d": 5}, {"d": 6}], [{"d": 7}]]}
    assert value_at(answer, parts_of(path), "host", path) == value
    assert value_at(answer, parts_of("."), "host", ".") is answer
    for missing in ("a.c", "list[2]", "a[0]", "a[*]", "list.c"):
        with pytest.raises(assay.ModelError, match="answered nothing at"):
            value_at(answer, parts_of(missing), "host", missing)
    for wrong in ("", "a..b", "a[", "a[x]", "[", "a b"):
        with pytest.raises(assay.BadInput, match="is no path"):
            parts_of(wrong)
