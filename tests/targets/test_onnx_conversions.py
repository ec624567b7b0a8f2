"""Nineteen ONNX files as people have them: how many can be attacked white-box, and that none is attacked wrongly.

Seven networks by torch's default exporter and by the older one, four models out of wheels, and one of these as
onnxruntime's optimiser rewrites it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

import assay
from assay.core.oracle import Access
from assay.models.onnx.parity import probes
from tests.support.packaged import packaged
from tests.support.pages import OPTIONS, pages

pytestmark = pytest.mark.targets


def settled(network: nn.Module, side: int) -> nn.Module:
    """Return a network whose batch norms have seen images: an untrained one answers everything alike."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = None
        network.train()(torch.rand(16, 3, side, side))
    return network.eval()


def _vit() -> nn.Module:
    network = models.VisionTransformer(64, 8, 3, 4, 64, 128, num_classes=10)
    nn.init.normal_(network.heads[0].weight, std=0.3)  # type: ignore[arg-type]  # a Linear
    return network.eval()


def _convnext() -> nn.Module:
    return models.ConvNeXt([CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)], num_classes=10).eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "mnist-cnn": (lambda: assay.load_model("zoo:mnist-cnn").module, (1, 28, 28)),
    "lite0": (lambda: assay.load_model("efficientnet-lite0").module, (3, 224, 224)),
    "resnet18": (lambda: settled(models.resnet18(num_classes=10), 64), (3, 64, 64)),
    "mobilenet-v3": (lambda: settled(models.mobilenet_v3_small(num_classes=10), 64), (3, 64, 64)),
    "shufflenet": (lambda: settled(models.shufflenet_v2_x0_5(num_classes=10), 64), (3, 64, 64)),
    "convnext": (_convnext, (3, 64, 64)),
    "vit": (_vit, (3, 64, 64)),
}
PACKAGED = {
    "orientation": f"?{OPTIONS}",
    "text-line": "?size=48x192&mean=0.5,0.5,0.5&std=0.5,0.5,0.5",
    "deskew": f"?{OPTIONS}",
    "channels-last": "?mean=0&std=0.0039215686",
}


def exported(name: str, folder: Path) -> dict[str, tuple[nn.Module, Path]]:
    """Return a network and its files by both exporters."""
    make, shape = NETWORKS[name]
    torch.manual_seed(1)
    network = make()
    x, found = torch.rand(2, *shape), {}
    with warnings.catch_warnings(action="ignore"):  # exporters warn of their own ways
        path = folder / f"{name}-default.onnx"
        torch.onnx.export(network, (x,), path, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)
        found["default"] = (network, path)
        path = folder / f"{name}-older.onnx"
        torch.onnx.export(
            network, (x,), str(path), dynamo=False, opset_version=17, input_names=["input"], output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        )  # fmt: skip
        found["older"] = (network, path)
    return found


def slopes(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = network(x)
    return logits.detach(), torch.autograd.grad(nn.functional.cross_entropy(logits, logits.argmax(1)), x)[0].flatten(1)


def differs(path: Path, network: nn.Module) -> str:
    """Return how a file that gives gradients differs from the network it was exported from; "" where it does not."""
    model = assay.load_model(f"onnx:{path}")
    assert model.input_shape is not None
    x = probes(model.input_shape)
    with model.held():
        logits, grad = slopes(model.module, x)
    wanted, own = slopes(network, x)
    apart = float((logits - wanted).abs().max() / (wanted.max() - wanted.min()))
    cosine = float(torch.cosine_similarity(grad, own, 1).median())
    sizes = float((grad.norm(dim=1) / own.norm(dim=1)).median())
    right = apart < 1e-4 and cosine > 0.99 and 0.98 < sizes < 1.02
    return "" if right else f"logits {apart:.1g}, cosine {cosine:.4f}, size {sizes:.4f}"


@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")
def test_nineteen_files(tmp_path: Path) -> None:
    white, wrong, black, ways = 0, {}, {}, {}
    for name in NETWORKS:
        for kind, (network, path) in exported(name, tmp_path).items():
            model = assay.load_model(f"onnx:{path}")
            ways[f"{name} {kind}"] = model.notes[-1]
            if model.access is Access.GRADIENT:
                white += 1
                if told := differs(path, network):
                    wrong[f"{name} {kind}"] = told
            else:
                black[f"{name} {kind}"] = model.notes[-1]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(packaged("orientation")), options, providers=["CPUExecutionProvider"])
    files = {name: f"onnx:{packaged(name)}{stated}" for name, stated in PACKAGED.items()}
    files["optimised"] = f"onnx:{tmp_path / 'optimised.onnx'}?{OPTIONS}"
    for name, spec in files.items():
        model = assay.load_model(spec)
        ways[name] = model.notes[-1]
        if model.access is Access.GRADIENT:
            white += 1
        else:
            black[name] = model.notes[-1]
    print(*(f"{name}: {told}" for name, told in ways.items()), sep="\n")
    assert not wrong
    assert len(ways) == 19
    assert white >= 18, black


def test_a_real_file_falls_to_gradients_and_answers_every_page(tmp_path: Path) -> None:
    model = assay.load_model(f"onnx:{packaged('orientation')}?{OPTIONS}")
    x, y = pages(100)
    with model.held():
        oracle = model.oracle()
        right = sum(
            int((oracle.answers(part).argmax(1) == k).sum()) for part, k in zip(x.split(10), y.split(10), strict=True)
        )
    assert right == 100
    few = slice(0, 12)
    done = assay.attack(assay.PGD(steps=10), model, x[few], y[few], assay.Linf("4/255"))
    assert int(done.success.sum()) >= 10
    with model.held():
        assert torch.equal(oracle.answers(done.x_adv).argmax(1) != y[few], done.success)
