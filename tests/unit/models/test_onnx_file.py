"""`onnx:FILE`: every build of file answers as onnxruntime does, with the gradient of the network that it is."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import assay
from assay.core.errors import AssayError, BadInput, ModelError
from assay.core.oracle import Access
from assay.models import Classifier
from assay.models.normalized import Normalized
from tests.support.onnx_files import Build

X = torch.rand((7, 3, 8, 8), generator=torch.Generator().manual_seed(3))
Y = torch.arange(7) % 4
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
STATED = "mean=0.4,0.5,0.6&std=0.2,0.3,0.4"


def load(build: Build, folder: Path, options: str = "", **given: Any) -> Classifier:
    return assay.load_model(f"onnx:{build.save(folder / 'net.onnx')}{options}", **given)


def own_answer(path: Path, given: np.ndarray[Any, Any], output: str | None = None) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None if output is None else [output], {session.get_inputs()[0].name: given})[0]


def gradient(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = module(x)
    return logits.detach(), torch.autograd.grad(nn.functional.cross_entropy(logits, Y[: len(x)]), x)[0]


def agree(model: Classifier, network: nn.Module, x: Tensor = X, loose: float = 1.0) -> None:
    """The logits and the gradients of both are the same, but for rounding."""
    with model.held():
        logits, grad = gradient(model.module, x)
        plain = model.oracle().answers(x)
    wanted, slopes = gradient(network, x)
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-5 * loose)
    torch.testing.assert_close(plain, wanted, rtol=0, atol=1e-5 * loose)
    assert float((grad - slopes).norm() / slopes.norm()) < 1e-4 * loose


@pytest.mark.parametrize(
    "build",
    [
        Build(),
        Build(rows=1),
        Build(rows=4),
        Build(rows=7),
        Build(layout="nhwc"),
        Build(layout="nhwc", rows=1, tail=("Softmax",)),
        Build(name="a strange: name/0"),
        Build(behind_identity=True),
        Build(constants=True),
        Build(side="side"),
        Build(opset=13),
        Build(opset=21),
        Build(tail=("Softmax",)),
        Build(tail=("Softmax", "Identity")),
        Build(tail=("Sigmoid",)),
        Build(tail=("ArgMax",)),
    ],
    ids=repr,
)
def test_scores_and_gradients_are_those_of_the_network(build: Build, tmp_path: Path) -> None:
    model = load(build, tmp_path)
    assert model.access is Access.GRADIENT
    agree(model, build.network())


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_normalisation_stands_in_front(layout: str, tmp_path: Path) -> None:
    build = Build(layout=layout)
    model = load(build, tmp_path, f"?{STATED}")
    assert model.mean == MEAN
    agree(model, Normalized(build.network(), MEAN, STD))


def test_channels_in_the_other_order(tmp_path: Path) -> None:
    build = Build()
    model = load(build, tmp_path, f"?{STATED}&order=bgr")
    network = build.network()

    class Turned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return network(x.flip(1))

    # mean and std are said of the image's channels, red first
    agree(model, Normalized(Turned(), MEAN, STD))
    assert model.digest != load(build, tmp_path, f"?{STATED}").digest
    with pytest.raises(BadInput, match="order is 'gbr', expected rgb or bgr"):
        load(build, tmp_path, "?order=gbr")


def test_double_precision_stays(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(3, 192))
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 192])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n", 3])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "d.onnx")
    model = assay.load_model(f"onnx:{tmp_path / 'd.onnx'}")
    assert model.input_shape == (3, 8, 8)
    assert any("channel by channel" in note for note in model.notes)
    wanted = X.double().flatten(1) @ torch.from_numpy(weights).T
    with model.held():
        torch.testing.assert_close(model.oracle().answers(X).double(), wanted, rtol=0, atol=1e-5)
    wide = assay.load_model(f"onnx:{tmp_path / 'd.onnx'}?size=4x16")
    assert wide.input_shape == (3, 4, 16)
    with pytest.raises(BadInput, match="takes 192 values, which are no images of 5 x 5"):
        assay.load_model(f"onnx:{tmp_path / 'd.onnx'}?size=5x5")
    with pytest.raises(BadInput, match="has no layout to be said"):
        assay.load_model(f"onnx:{tmp_path / 'd.onnx'}?layout=nhwc")


def test_half_precision(tmp_path: Path) -> None:
    build = Build(dtype="float16")
    agree(load(build, tmp_path), build.network(), loose=1000)


@pytest.mark.parametrize("dtype", ["uint8", "int64"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_whole_numbers_are_grey_levels(dtype: str, layout: str, tmp_path: Path) -> None:
    build = Build(dtype=dtype, layout=layout)
    model = load(build, tmp_path)
    levels = (255 * X).round() / 255
    agree(model, build.network(), levels)
    assert any("rounded before it sees them" in note for note in model.notes)
    with model.held():
        # what lies between two levels is the nearer one, and nothing leaves the range
        torch.testing.assert_close(model.oracle().answers(levels + 0.4 / 255), model.oracle().answers(levels))
        given = (255 * levels).round().numpy()
        given = given.transpose(0, 2, 3, 1) if layout == "nhwc" else given
        own = own_answer(tmp_path / "net.onnx", np.ascontiguousarray(given, dtype=dtype))
        torch.testing.assert_close(model.oracle().answers(levels), torch.from_numpy(own), rtol=0, atol=1e-6)
        assert bool(model.oracle().answers(torch.full((1, 3, 8, 8), 1.4)).isfinite().all())
    with pytest.raises(BadInput, match=r"takes whole numbers .* Leave mean and std out"):
        load(build, tmp_path, f"?{STATED}")


def test_the_class_named_is_always_that_of_the_file(tmp_path: Path) -> None:
    build = Build(tail=("Softmax",))
    model = load(build, tmp_path)
    own = own_answer(tmp_path / "net.onnx", X.numpy())
    with model.held():
        logits = model.oracle().answers(X)
    assert torch.equal(logits.argmax(1), torch.from_numpy(own.argmax(1)))
    torch.testing.assert_close(logits.softmax(1), torch.from_numpy(own))
    assert any("softmax" in note for note in model.notes)
    probabilities = load(build, tmp_path, outputs="probabilities")
    with probabilities.held():
        torch.testing.assert_close(probabilities.oracle().answers(X).exp(), torch.from_numpy(own))


def test_log_probabilities_are_scores_as_they_are(tmp_path: Path) -> None:
    build = Build(tail=("LogSoftmax",))
    agree(load(build, tmp_path), nn.Sequential(build.network(), nn.LogSoftmax(1)))


def test_one_score_and_its_threshold(tmp_path: Path) -> None:
    build = Build(classes=1, tail=("Sigmoid",))
    own = own_answer(build.save(tmp_path / "net.onnx"), X.numpy())[:, 0]
    between = float(np.sort(own)[2:4].mean())
    one = load(build, tmp_path, f"?threshold={between}")
    with one.held():
        assert one.oracle().answers(X).argmax(1).tolist() == (own > between).astype(int).tolist()
    with pytest.raises(BadInput, match="threshold is 7, and the file ends in a sigmoid"):
        load(build, tmp_path, "?threshold=7")


def test_a_softmax_over_anything_but_the_classes_is_no_end_to_cut(tmp_path: Path) -> None:
    proto = Build(rows=4).model()
    proto.graph.node.append(helper.make_node("Softmax", ["logits"], ["p"], axis=0))
    proto.graph.output[0].name = "p"
    onnx.save(proto, tmp_path / "axis.onnx")
    model = assay.load_model(f"onnx:{tmp_path / 'axis.onnx'}")
    assert not any("softmax" in note for note in model.notes)
    assert any("depends on the images asked with it" in note for note in model.notes)


def with_outputs(names: tuple[str, ...]) -> Any:
    proto = Build().model()
    kinds = {"logits": ["batch", 4], "probs": ["batch", 4], "features": ["batch", 8, 4, 4]}
    proto.graph.node.append(helper.make_node("Softmax", ["logits"], ["probs"], axis=1))
    proto.graph.node.append(helper.make_node("Identity", ["d"], ["features"]))
    del proto.graph.output[:]
    for name in names:
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, kinds[name]))
    return proto


def test_the_output_of_class_scores_is_found_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    onnx.save(with_outputs(("features", "logits")), path)
    agree(assay.load_model(f"onnx:{path}"), Build().network())
    onnx.save(with_outputs(("features", "probs", "logits")), path)
    with pytest.raises(BadInput, match=r"2 of which may be class scores: .*logits \[\?, 4\] float32.*\?output=probs"):
        assay.load_model(f"onnx:{path}")
    one, other = (assay.load_model(f"onnx:{path}?output={name}") for name in ("logits", "probs"))
    agree(one, Build().network())
    agree(other, Build().network())
    with pytest.raises(BadInput, match=r"no output 'logit'. Did you mean 'logits'"):
        assay.load_model(f"onnx:{path}?output=logit")
    with pytest.raises(BadInput, match=r"answered \[1, 8, 4, 4\] of float32 for 1 images, expected scores"):
        assay.load_model(f"onnx:{path}?output=features")


def test_a_batch_that_is_fixed_inside(tmp_path: Path) -> None:
    proto = Build().model()
    for node in proto.graph.node:
        if node.op_type == "Flatten":
            node.op_type = "Reshape"
            node.input.append("to")
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 8]), "to"))
    onnx.save(proto, tmp_path / "inside.onnx")
    model = assay.load_model(f"onnx:{tmp_path / 'inside.onnx'}")
    assert any("fails on several images" in note for note in model.notes)
    agree(model, Build().network())


def test_weights_listed_among_the_inputs(tmp_path: Path) -> None:
    proto = Build().model()
    for one in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)))
    onnx.save(proto, tmp_path / "old.onnx")
    agree(assay.load_model(f"onnx:{tmp_path / 'old.onnx'}"), Build().network())


def test_names_of_classes_in_the_file(tmp_path: Path) -> None:
    proto = Build().model()
    helper.set_model_props(proto, {"names": "{0: 'cat', 1: 'dog', 2: 'eel', 3: 'fox'}"})
    onnx.save(proto, tmp_path / "named.onnx")
    assert assay.load_model(f"onnx:{tmp_path / 'named.onnx'}").classes == ("cat", "dog", "eel", "fox")
    for said in ("['cat', 'dog']", "cat", "[1, 2, 3, 4]", "__import__('os')", ""):
        helper.set_model_props(proto, {"names": said})
        onnx.save(proto, tmp_path / "named.onnx")
        assert assay.load_model(f"onnx:{tmp_path / 'named.onnx'}").classes is None


# the digest


def test_a_file_is_named_by_all_of_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Build().save(tmp_path / "net.onnx")
    digest = assay.load_model(f"onnx:{path}").digest
    (tmp_path / "moved").mkdir()
    monkeypatch.chdir(tmp_path / "moved")
    (tmp_path / "moved" / "other.onnx").write_bytes(path.read_bytes())
    assert assay.load_model("onnx:other.onnx").digest == assay.load_model("onnx:../net.onnx").digest == digest
    proto = onnx.load(path)
    weights = onnx.numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weights.flat[5] = np.nextafter(weights.flat[5], np.float32(9))
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, proto.graph.initializer[0].name))
    onnx.save(proto, path)
    assert assay.load_model(f"onnx:{path}").digest != digest
    assert assay.load_model(f"onnx:{path}?converter=none").digest != digest
    assert assay.load_model("onnx:other.onnx", identity="mine").digest != digest


def test_weights_in_a_second_file(tmp_path: Path) -> None:
    path, beside = tmp_path / "net.onnx", tmp_path / "net.onnx.data"
    onnx.save(Build().model(), path, save_as_external_data=True, location=beside.name, size_threshold=0)
    model = assay.load_model(f"onnx:{path}")
    agree(model, Build().network())
    # cut from the graph, which then comes from memory, the weights still lie beside the file
    onnx.save(
        Build(tail=("Softmax",)).model(), tmp_path / "soft.onnx", save_as_external_data=True, location="soft.data",
        size_threshold=0,
    )  # fmt: skip
    agree(assay.load_model(f"onnx:{tmp_path / 'soft.onnx'}"), Build().network())

    # as caches of downloads keep files: by names that are links to contents elsewhere
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "net.onnx").symlink_to(path)
    (tmp_path / "links" / beside.name).write_bytes(beside.read_bytes())
    linked = assay.load_model(f"onnx:{tmp_path / 'links' / 'net.onnx'}")
    assert linked.digest == model.digest
    agree(linked, Build().network())

    (tmp_path / "links" / beside.name).unlink()
    (tmp_path / "links" / beside.name).symlink_to(beside)
    with pytest.raises(BadInput, match="weights are a link to another folder, as in a cache: copy both files"):
        assay.load_model(f"onnx:{tmp_path / 'links' / 'net.onnx'}")

    content = bytearray(beside.read_bytes())
    content[40] ^= 1
    beside.write_bytes(content)
    assert assay.load_model(f"onnx:{path}").digest != model.digest
    beside.write_bytes(content[:100])
    with pytest.raises(BadInput, match=r"net.onnx.data has 100 bytes, and net.onnx has weights in it up to byte \d+"):
        assay.load_model(f"onnx:{path}")
    beside.rename(tmp_path / "nets.onnx.data")
    with pytest.raises(BadInput, match=r"second file, net.onnx.data, which is not beside it. Did you mean 'nets.onnx"):
        assay.load_model(f"onnx:{path}")


@pytest.mark.parametrize("place", ["/etc/hostname", "../net.onnx.data", ""])
def test_weights_lie_beside_the_file_alone(place: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(Build().model(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    for one in proto.graph.initializer:
        for fact in one.external_data:
            if fact.key == "location":
                fact.value = place
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(BadInput, match="expected a file beside it"):
        assay.load_model(f"onnx:{path}")


# scores alone


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    import onnxruntime.quantization as tools

    folder = tmp_path_factory.mktemp("quantised")
    source = Build(seed=1).save(folder / "float.onnx")
    draws = np.random.default_rng(0)

    class Reader(tools.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [{"pixels": draws.random((1, 3, 8, 8), dtype=np.float32)} for _ in range(16)]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    found = {name: folder / f"{name}.onnx" for name in ("dynamic", "pairs", "operators")}
    logging.disable(logging.WARNING)
    try:
        tools.quantize_dynamic(str(source), str(found["dynamic"]))
        tools.quantize_static(str(source), str(found["pairs"]), Reader())
        kind = tools.QuantFormat.QOperator
        tools.quantize_static(str(source), str(found["operators"]), Reader(), quant_format=kind)
    finally:
        logging.disable(logging.NOTSET)
    yield {**found, "float": source}


@pytest.mark.parametrize("kind", ["dynamic", "pairs", "operators"])
def test_quantised_files_give_scores_alone(quantised: dict[str, Path], kind: str) -> None:
    model = assay.load_model(f"onnx:{quantised[kind]}")
    assert model.access is Access.SCORES
    assert any("it is quantised (" in note and "?twin=onnx:float.onnx" in note for note in model.notes)
    with model.held():
        together, alone = model.oracle().answers(X), torch.cat([model.oracle().answers(one[None]) for one in X])
    assert torch.equal(together, alone)
    assert any("depends on the images asked with it" in note for note in model.notes) is (kind == "dynamic")
    with pytest.raises(BadInput, match=r"pgd needs gradient, and .* gives scores alone. Attacks that fit: .*surrogate"):
        data = torch.utils.data.TensorDataset(X, Y)
        assay.evaluate(model, data, ["pgd"], assay.Linf(0.1), audit="off", doctor=False)


def test_a_float_twin_gives_directions_and_the_quantised_file_the_verdict(quantised: dict[str, Path]) -> None:
    plain = assay.load_model(f"onnx:{quantised['pairs']}")
    model = assay.load_model(f"onnx:{quantised['pairs']}?twin=onnx:{quantised['float']}")
    assert model.access is Access.GRADIENT
    assert model.digest != plain.digest
    with model.held(), plain.held():
        logits, slopes = gradient(model.module, X)
        assert torch.equal(logits, plain.oracle().answers(X))
    # the objective is that of the file's own scores, its slope in the image that of the twin
    network, x = Build(seed=1).network(), X.clone().requires_grad_()
    y = logits.clone().requires_grad_()
    (upper,) = torch.autograd.grad(nn.functional.cross_entropy(y, Y), y)
    (wanted,) = torch.autograd.grad(network(x), x, upper)
    torch.testing.assert_close(slopes, wanted, rtol=1e-4, atol=1e-7)
    done = assay.attack(assay.PGD(steps=10), model, X, Y, assay.Linf(0.3))
    with plain.held():
        assert torch.equal(plain.oracle().answers(done.x_adv), done.logits)


def test_operators_outside_of_onnx(tmp_path: Path) -> None:
    proto = Build().model()
    for node in proto.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = "Gelu", "com.microsoft"
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(proto, tmp_path / "own.onnx")
    model = assay.load_model(f"onnx:{tmp_path / 'own.onnx'}")
    assert model.access is Access.SCORES
    assert any("operators outside of ONNX (com.microsoft)" in note for note in model.notes)
    for node in proto.graph.node:
        if node.domain:
            node.op_type, node.domain = "Mine", "my.own"
    proto.opset_import.append(helper.make_opsetid("my.own", 1))
    onnx.save(proto, tmp_path / "own.onnx")
    with pytest.raises(BadInput, match=r"onnxruntime .* cannot load .*my.own:Mine.*lacks an operator of it"):
        assay.load_model(f"onnx:{tmp_path / 'own.onnx'}")


def test_answers_that_are_no_numbers(tmp_path: Path) -> None:
    proto = Build().model()
    first = proto.graph.initializer[0]
    first.CopyFrom(onnx.numpy_helper.from_array(np.full((6, 3, 3, 3), np.nan, np.float32), first.name))
    onnx.save(proto, tmp_path / "nan.onnx")
    model = assay.load_model(f"onnx:{tmp_path / 'nan.onnx'}")
    assert any("not finite" in note for note in model.notes)


# what cannot be


@pytest.mark.parametrize(
    "content, said",
    [
        (None, r"There is no file .*Did you mean 'nets.onnx'"),
        (b"", r"is empty \(0 bytes\)"),
        (b"good morning, this is a text", "is no ONNX file but text, beginning with 'good morning"),
        (b"<!doctype html><html>", "is no ONNX file but an HTML page"),
        (b"\x80\x02}q\x00.", "is no ONNX file but a pickled Python object"),
        (b"\x00\x00\x00\x00ORTM" + bytes(40), r"onnxruntime's own format \(.ort\)"),
        ("half", "or a damaged one"),
        ("noise", "or a damaged one"),
    ],
)
def test_what_is_no_onnx_file_is_told(content: bytes | str | None, said: str, tmp_path: Path) -> None:
    whole = Build().save(tmp_path / "nets.onnx").read_bytes()
    path = tmp_path / "net.onnx"
    if content == "half":
        content = whole[: len(whole) // 2]
    elif content == "noise":
        content = whole[:20] + np.random.default_rng(0).bytes(len(whole) - 20)
    if content is not None:
        assert isinstance(content, bytes)
        path.write_bytes(content)
    with pytest.raises(BadInput, match=said):
        assay.load_model(f"onnx:{path}")


def test_a_folder_says_what_it_holds(tmp_path: Path) -> None:
    Build().save(tmp_path / "net.onnx")
    with pytest.raises(BadInput, match=r"is a folder, expected an ONNX file. It holds net.onnx"):
        assay.load_model(f"onnx:{tmp_path}")


@pytest.mark.parametrize(
    "build, options, said",
    [
        (Build(), "size=9", "takes images of 8 x 8, and 9 x 9 is said"),
        (Build(), "channels=1", "takes images of 3 channels, and channels=1 is said"),
        (Build(), "layout=nhcw", "layout is 'nhcw', expected nchw or nhwc. Did you mean"),
        (
            Build(channels=8, layout="nhwc"),
            "",
            "does not tell where the channels are. Say it: .*layout=nchw",
        ),
        (Build(), "mean=0.5,0.5&std=1,1", "mean and std have 2 numbers"),
        (Build(), "converter=onnxtorch", "Unknown converter 'onnxtorch'. Did you mean 'onnx2torch'"),
        (Build(), "arch=resnet18", "Unknown option 'arch'"),
    ],
)
def test_options_that_contradict_the_file(build: Build, options: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        load(build, tmp_path, f"?{options}")


def test_an_ambiguous_layout_can_be_said(tmp_path: Path) -> None:
    build = Build(channels=8, layout="nhwc")
    model = load(build, tmp_path, "?layout=nhwc")
    assert model.input_shape == (8, 8, 8)
    agree(model, build.network(), torch.rand(5, 8, 8, 8))


def test_more_inputs_than_the_image(tmp_path: Path) -> None:
    proto = Build().model()
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", 1]))
    onnx.save(proto, tmp_path / "two.onnx")
    with pytest.raises(BadInput, match=r"has 2 inputs \(pixels \[\?, 3, 8, 8\] float32; mask"):
        assay.load_model(f"onnx:{tmp_path / 'two.onnx'}")


def test_images_of_another_size_are_told_in_words(tmp_path: Path) -> None:
    model = load(Build(), tmp_path)
    with model.held(), pytest.raises(ModelError, match=r"net.onnx failed on an input \[2, 3, 9, 9\]"):
        model.module(torch.rand(2, 3, 9, 9))


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_extra_says_the_command(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Build().save(tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadInput, match=rf"needs {name}, which .*pip install 'assay\[onnx\]'"):
        assay.load_model(f"onnx:{path}")


def test_missing_converters_leave_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.models.onnx.conversion._missing", lambda name: name)
    model = load(Build(seed=40), tmp_path)
    assert model.access is Access.SCORES
    assert any("is not installed (pip install 'assay[onnx]')" in note for note in model.notes)


# as any other model


def test_copies_pickles_and_other_processes_answer_the_same(tmp_path: Path) -> None:
    model = load(Build(), tmp_path)
    with model.held():
        wanted = model.oracle().answers(X)
        for other in (copy.deepcopy(model.module), pickle.loads(pickle.dumps(model.module.answer))):
            given = other(X) if isinstance(other, nn.Module) else torch.from_numpy(other(X.numpy()))
            assert torch.equal(given.detach(), wanted)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(model.module.answer, (X.numpy(),)), wanted.numpy())


def test_another_process_finds_the_same_digest(tmp_path: Path) -> None:
    path = Build().save(tmp_path / "net.onnx")
    specs = [f"onnx:{path}?converter={name}" for name in ("onnx2pytorch", "onnx2torch")]
    told = subprocess.run(
        [sys.executable, "-c", f"import assay; print(*(assay.load_model(one).digest for one in {specs!r}))"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert told.split() == [assay.load_model(one).digest for one in specs]


def test_a_file_changed_meanwhile_is_noticed(tmp_path: Path) -> None:
    model = load(Build(), tmp_path)
    packed = pickle.dumps(model.module.answer)
    Build(seed=9).save(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="no longer the file that was loaded"):
        pickle.loads(packed)(X.numpy())


def test_the_same_attack_as_on_the_network(tmp_path: Path) -> None:
    build = Build(side=8, classes=4, tail=("Softmax",))
    model, network = load(build, tmp_path), build.network()
    y = network(X).argmax(1)
    for attack in (assay.FGSM(), assay.PGD(steps=5), assay.attacks.build("square", queries=40)):
        one, other = (assay.attack(attack, subject, X, y, assay.Linf(0.1), seed=1) for subject in (model, network))
        torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-3)
        assert one.success.tolist() == other.success.tolist()


def test_a_gradient_look_costs_two_forwards_and_any_other_one(tmp_path: Path) -> None:
    model = load(Build(), tmp_path)
    y = Build().network()(X).argmax(1)
    threat = assay.Linf(1e-6)
    climbed = assay.attack(assay.PGD(steps=4), model, X, y, threat)
    asked = assay.attack(assay.attacks.build("square", queries=4), model, X, y, threat)
    assert set(climbed.forwards.tolist()) == {2 * 4 + 1}
    assert set(climbed.backwards.tolist()) == {4}
    assert set(asked.forwards.tolist()) == {4}


def test_defences_stand_around_it(tmp_path: Path) -> None:
    path = Build().save(tmp_path / "net.onnx")
    model = assay.load_model(f"onnx:{path}|bit-depth")
    done = assay.attack(assay.PGD(steps=3), model, X, Y, assay.Linf(0.2))
    assert int(done.forwards.max()) >= 3


def test_file_scheme_points_here(tmp_path: Path) -> None:
    path = Build().save(tmp_path / "net.onnx")
    with pytest.raises(AssayError, match="Name it as one, onnx:FILE"):
        assay.load_model(f"file:{path}")
