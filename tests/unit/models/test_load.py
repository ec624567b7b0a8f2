from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.models import Classifier, Normalized, load_model
from assay.models.load import SCHEMES


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("resnet50", "Unknown model 'resnet50'. Did you mean 'torchvision:resnet50'"),
        ("mnist-cnn", "Did you mean 'zoo:mnist-cnn'"),
        ("efficientnet-lit0", "Did you mean 'efficientnet-lite0'"),
        ("torchvision:resnet1O1", r"Unknown model 'torchvision:resnet1O1'. Did you mean 'torchvision:resnet101'\?"),
        ("torchvison:resnet50", "Unknown kind of model 'torchvison'.*Did you mean 'torchvision'"),
        ("zoo:mnist", r"Did you mean 'zoo:mnist-(cnn|pgd)'"),
        ("zoo:mnist-cnn?size=28", "it takes dropout"),
        ("", "Unknown model ''"),
    ],
)
def test_unknown_names_suggest_near_ones(spec: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_model(spec)


def test_unknown_outputs_are_refused() -> None:
    with pytest.raises(BadInput, match="Did you mean 'probabilities'"):
        load_model(nn.Flatten(), outputs="probabilties")


def test_lazy_layers_without_weights_are_refused_by_name() -> None:
    module = nn.Sequential(nn.Flatten(), nn.LazyLinear(4), nn.LazyBatchNorm1d())
    with pytest.raises(
        BadInput, match=r"lazy layers .* 1\.weight, 1\.bias, 2\.weight, …\. Call the network once.*C, H, W"
    ):
        load_model(module)
    with pytest.raises(BadInput, match=r"net\(torch.zeros\(1, 1, 2, 2\)\)"):
        load_model(Classifier(module, input_shape=(1, 2, 2)))
    module(torch.zeros(2, 1, 2, 2))
    assert load_model(module).digest


def test_a_lazy_network_of_a_users_file_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("from torch import nn\ndef net():\n    return nn.LazyLinear(3)\n")
    with pytest.raises(BadInput, match="lazy layers"):
        load_model(f"{tmp_path}/my.py:net")


def test_a_module_from_python_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).train()
    classifier = load_model(module)
    assert classifier.module is module
    assert module.training
    assert classifier.spec == "python:torch.nn.modules.container.Sequential"
    assert classifier.mean is classifier.input_shape is classifier.preprocess is None
    assert classifier.outputs == "logits"


def test_a_module_with_options_is_normalised_and_its_pictures_resized() -> None:
    classifier = load_model(nn.Flatten(), mean=(0.5,), std=(0.25,), size=2, channels=1)
    assert classifier.input_shape == (1, 2, 2)
    assert classifier.mean == (0.5,)
    assert classifier.module(torch.full((1, 1, 2, 2), 0.75)).tolist() == [[1.0] * 4]


def test_a_normalisation_inside_a_module_is_known() -> None:
    assert load_model(Normalized(nn.Flatten(), (0.5,), (0.25,))).std == (0.25,)


def test_loading_again_changes_nothing() -> None:
    once = load_model("zoo:mnist-cnn", outputs="probabilities")
    assert load_model(once) == once
    assert load_model(once, outputs="probabilities") == once
    assert load_model("zoo:mnist-cnn").digest == load_model("zoo:mnist-cnn").digest != once.digest


def test_probabilities_become_their_logarithms() -> None:
    classifier = load_model(nn.Softmax(1), outputs="probabilities")
    assert classifier.outputs == "probabilities"
    x = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(classifier.module(x), x.log_softmax(1))


def test_options_given_by_name_become_part_of_the_name(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save(load_model("zoo:mnist-cnn").module.state_dict(), file)
    given = load_model(f"file:{file}", arch="mnist-cnn", mean=(0.5,), std=(0.25,))
    assert given.spec == f"file:{file}?arch=mnist-cnn&mean=0.5&std=0.25"
    assert load_model(given.spec).digest == given.digest


def test_a_module_of_the_user_is_never_moved() -> None:
    class Watched(nn.Flatten):
        def to(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("moved")

    assert load_model(Watched()).runs_on is None
    assert load_model(Watched(), device="cpu").runs_on is None


def test_a_device_that_is_not_there_is_said() -> None:
    with pytest.raises(BadInput, match="The device 'nonsense' cannot be used here"):
        load_model(nn.Linear(2, 2), device="nonsense")


def test_named_models_are_in_eval_mode() -> None:
    assert not any(part.training for part in load_model("torchvision:squeezenet1_1@random").module.modules())


def test_a_described_model_takes_no_options() -> None:
    with pytest.raises(BadInput, match="describes itself"):
        load_model(Classifier(nn.Flatten()), size=3)


def test_every_scheme_is_in_the_table() -> None:
    assert set(SCHEMES) == {
        *("zoo", "torchvision", "timm", "file", "onnx", "hf", "pt2", "torchscript", "keras", "litert"),
        *("v2", "v1", "remote"),
    }


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("net.onnx", "onnx:net.onnx"),
        ("../exports/net.tflite?layout=nchw", r"litert:\.\./exports/net.tflite\?layout=nchw"),
        ("net.keras", "keras:net.keras"),
        ("weights.pth", "file:weights.pth"),
        ("http://127.0.0.1:8000/digits", "v2:http://127.0.0.1:8000/digits"),
    ],
)
def test_a_path_without_its_kind_is_told_which_is_meant(spec: str, meant: str) -> None:
    with pytest.raises(BadInput, match=f"Did you mean {meant}"):
        load_model(spec)


def test_a_folder_of_hugging_face_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="Did you mean hf:"):
        load_model(str(tmp_path))
