"""Version 1 of the protocol: instances and predictions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import assay
from tests.support.misbehaving import misbehaving
from tests.support.serving import Server, linear, of_module, served

SHAPE = (3, 8, 8)
NET = linear(SHAPE, 5)
ROWS = np.random.default_rng(0).random((3, *SHAPE), np.float32)
X = torch.from_numpy(ROWS)
WANT = of_module(NET)(ROWS)


def answering(server: Server, predictions: Any, metadata: Any = None) -> None:
    """Let a server answer as told."""
    usual = server.v1

    def respond(parts: list[str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if parts[-1] == "metadata" and metadata is not None:
            return 200, {}, json.dumps(metadata).encode()
        if parts[-1].endswith(":predict") and predictions is not None:
            return 200, {}, json.dumps(predictions).encode()
        return usual(parts, body)

    server.v1 = respond  # type: ignore[method-assign]  # for this test


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_scores_are_the_servers_own(layout: str) -> None:
    with served(of_module(NET), SHAPE, 5, layout=layout) as server:
        model = assay.load_model(f"v1:{server.url}/net?layout={layout}&size=8&batch=2")
        assert np.allclose(model.module(X).numpy(), WANT, atol=1e-4)
        assert sorted(server.batches) == [1, 2]
        named = assay.load_model(f"v1:{server.url}/v1/models/net:predict?layout={layout}&size=8&input=image")
        assert np.array_equal(named.module(X).numpy(), WANT)
        assert (named.input_shape, named.module.client.classes) == (SHAPE, 5)
        assert '"version": "1"' in named.identity


def test_the_order_of_sides_has_to_be_known() -> None:
    with served(of_module(NET), SHAPE, 5) as server:
        with pytest.raises(assay.BadInput, match="layout=nhwc"):
            assay.load_model(f"v1:{server.url}/net?size=8")
        with pytest.raises(assay.BadInput, match=r"no model at .*404"):
            assay.load_model(f"v1:{server.url}/other?size=8&layout=nchw")
        assert server.rows == 0


def signature(datatype: str = "DT_FLOAT", sides: tuple[int, ...] = (-1, 8, 8, 3)) -> dict[str, Any]:
    dims = [{"size": str(side), "name": ""} for side in sides]
    image = {"dtype": datatype, "tensor_shape": {"dim": dims}, "name": "serving_default_image:0"}
    scores = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "5"}]}}
    inside = {"serving_default": {"inputs": {"image": image}, "outputs": {"scores": scores}}}
    return {"model_spec": {"name": "net"}, "metadata": {"signature_def": {"signature_def": inside}}}


def test_the_signature_of_tensorflow_serving_is_read() -> None:
    with served(of_module(NET), SHAPE, 5, layout="nhwc") as server:
        answering(server, None, signature())
        model = assay.load_model(f"v1:{server.url}/net")
        assert (model.input_shape, model.module.client.classes) == (SHAPE, 5)
        assert np.array_equal(model.module(X).numpy(), WANT)
        answering(server, None, signature("DT_STRING"))
        with pytest.raises(assay.BadInput, match="takes DT_STRING"):
            assay.load_model(f"v1:{server.url}/net")
        answering(server, None, signature(sides=(-1, 192)))
        with pytest.raises(assay.BadInput, match=r"\[-1, 192\], expected that of images"):
            assay.load_model(f"v1:{server.url}/net")


def test_integers_are_sent_as_levels() -> None:
    with served(of_module(NET), SHAPE, 5, layout="nhwc", datatype="UINT8") as server:
        answering(server, None, signature("DT_UINT8"))
        model = assay.load_model(f"v1:{server.url}/net")
        grid = (X * 255).round() / 255
        with torch.no_grad():
            assert torch.allclose(model.module(grid), NET(grid), atol=1e-4)
            assert torch.allclose(model.module(X), NET(grid), atol=1e-4)


@pytest.mark.parametrize("form", ["predictions", "outputs"])
@pytest.mark.parametrize("output", ["", "&output=scores"])
def test_named_outputs_in_rows_and_in_columns(form: str, output: str) -> None:
    rows = WANT.astype(float).tolist()
    told = (
        [{"scores": row, **({"aux": 1} if output else {})} for row in rows]
        if form == "predictions"
        else {"scores": rows}
    )
    with served(of_module(NET), SHAPE, 5) as server:
        answering(server, {form: told})
        model = assay.load_model(f"v1:{server.url}/net?layout=nchw{output}")
        assert np.array_equal(model.module(X).numpy(), WANT)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"error": "shape"}, "answered no predictions"),
        ([1, 2, 3], "answered no predictions"),
        ({"predictions": [[1.5, 2.5]] * 2}, "2 predictions for 3 images"),
        ({"predictions": [{"a": [1], "b": [2]}] * 3}, "output=a"),
        ({"predictions": [1, 0, 4]}, "class numbers, where scores were expected"),
        ({"predictions": [[1], [0], [4]]}, "class numbers, where scores were expected"),
        ({"predictions": [[1.5, 2.5], [1.5], [2.5, 1.5]]}, "no rows of numbers"),
        ({"predictions": [[[1.5, 2.5], [1.5, 2.5]]] * 3}, r"\[3, 2, 2\] for 3 images"),
    ],
)
def test_what_is_no_answer_is_an_error_in_words(answer: Any, told: str) -> None:
    with served(of_module(NET), SHAPE, 5) as server:
        answering(server, answer)
        model = assay.load_model(f"v1:{server.url}/net?layout=nchw")
        with pytest.raises(assay.ModelError, match=told):
            model.module(X)


def test_one_score_per_image_is_one_score() -> None:
    with served(lambda rows: WANT[: len(rows), 0], SHAPE, 1) as server:
        model = assay.load_model(f"v1:{server.url}/net?layout=nchw")
        assert np.array_equal(model.module(X).numpy(), WANT[:, :1])


def test_a_failing_server_is_not_taken_for_one_without_a_signature() -> None:
    with misbehaving(of_module(NET)) as server:
        usual = server.v1
        server.v1 = lambda parts, body: (500, {}, b"") if parts[-1] == "metadata" else usual(parts, body)  # type: ignore[method-assign]  # for this test
        with pytest.raises(assay.AssayError, match="answered 500"):
            assay.load_model(f"v1:{server.url}/net?layout=nchw")
