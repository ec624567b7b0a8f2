from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from assay.core.errors import BadInput
from assay.models import Normalized, load_model
from assay.models.architectures import mnist_cnn
from assay.models.classifier import Preprocess
from assay.models.weights_file import save_weights


def weights() -> nn.Module:
    torch.manual_seed(1)
    return mnist_cnn().eval()


X = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_a_state_dict_with_a_named_architecture(tmp_path: Path) -> None:
    torch.save(weights().state_dict(), tmp_path / "w.pt")
    classifier = load_model(f"file:{tmp_path}/w.pt?arch=mnist-cnn")
    assert torch.equal(classifier.module(X), weights()(X))
    assert classifier.mean is None  # nobody said whether it wants normalised images
    assert not classifier.module.training


def test_normalisation_from_the_options_stands_in_front(tmp_path: Path) -> None:
    torch.save(weights().state_dict(), tmp_path / "w.pt")
    spec = f"file:{tmp_path}/w.pt?arch=mnist-cnn&mean=0.1307&std=0.3081&size=28&channels=1"
    classifier = load_model(spec)
    torch.testing.assert_close(classifier.module(X), weights()((X - 0.1307) / 0.3081))
    assert (classifier.mean, classifier.std) == ((0.1307,), (0.3081,))
    assert classifier.input_shape == (1, 28, 28)
    assert classifier.preprocess == Preprocess((28,), (28, 28))


def test_safetensors_may_name_everything_themselves(tmp_path: Path) -> None:
    facts = {"arch": "mnist-cnn", "mean": "0.1307", "std": "0.3081", "size": "28", "channels": "1", "author": "me"}
    save_weights(weights(), tmp_path / "w.safetensors", facts)
    classifier = load_model(f"file:{tmp_path}/w.safetensors")
    torch.testing.assert_close(classifier.module(X), weights()((X - 0.1307) / 0.3081))
    assert classifier.input_shape == (1, 28, 28)


def test_images_taken_as_they_are_need_no_layer(tmp_path: Path) -> None:
    torch.save(weights().state_dict(), tmp_path / "w.pt")
    classifier = load_model(f"file:{tmp_path}/w.pt?arch=mnist-cnn&mean=0&std=1")
    assert (classifier.mean, classifier.std) == ((0.0,), (1.0,))
    assert not isinstance(classifier.module, Normalized)


def test_the_users_word_stands_above_the_files(tmp_path: Path) -> None:
    save_weights(weights(), tmp_path / "w.safetensors", {"arch": "nonsense", "mean": "0.5", "std": "0.5"})
    classifier = load_model(f"file:{tmp_path}/w.safetensors?arch=mnist-cnn&mean=0.1&std=0.2")
    assert (classifier.mean, classifier.std) == ((0.1,), (0.2,))


def test_architectures_of_torchvision_and_timm_with_other_class_counts(tmp_path: Path) -> None:
    torch.save(models.squeezenet1_1(num_classes=7).state_dict(), tmp_path / "w.pt")
    classifier = load_model(f"file:{tmp_path}/w.pt?arch=torchvision:squeezenet1_1&num_classes=7")
    assert classifier.module(torch.rand(1, 3, 64, 64)).shape == (1, 7)
    import timm

    torch.save(timm.create_model("resnet10t", num_classes=7).state_dict(), tmp_path / "w.pt")
    classifier = load_model(f"file:{tmp_path}/w.pt?arch=timm:resnet10t&num_classes=7")
    assert classifier.module(torch.rand(1, 3, 64, 64)).shape == (1, 7)


def test_an_architecture_from_the_users_code(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("from torch import nn\n\ndef small():\n    return nn.Linear(4, 2)\n")
    torch.save(nn.Linear(4, 2).state_dict(), tmp_path / "w.pt")
    assert isinstance(load_model(f"file:{tmp_path}/w.pt?arch={tmp_path}/nets.py:small").module, nn.Linear)


def test_the_digest_changes_with_the_users_code(tmp_path: Path) -> None:
    code = tmp_path / "nets.py"
    code.write_text("from torch import nn\n\ndef small():\n    return nn.Linear(4, 2)\n")
    torch.save(nn.Linear(4, 2).state_dict(), tmp_path / "w.pt")
    before, again = (load_model(f"file:{tmp_path}/w.pt?arch={code}:small") for _ in range(2))
    assert before.code
    assert before.digest == again.digest
    code.write_text(code.read_text() + "\n# another forward\n")
    assert load_model(f"file:{tmp_path}/w.pt?arch={code}:small").digest != before.digest
    torch.save(weights().state_dict(), tmp_path / "own.pt")
    assert load_model(f"file:{tmp_path}/own.pt?arch=mnist-cnn").code == ""


NORMALISING = """
from torch import nn
from assay.models import Normalized

def net():
    return nn.Sequential(Normalized(nn.Flatten(), (0.1307,), (0.3081,)), nn.Linear(784, 10))
"""


@pytest.mark.parametrize("stated", ["", "&mean=0.1307&std=0.3081", "&mean=0&std=1"])
def test_a_network_that_normalises_inside_is_not_normalised_twice(tmp_path: Path, stated: str) -> None:
    (tmp_path / "nets.py").write_text(NORMALISING)
    linear = nn.Linear(784, 10)
    torch.save({f"1.{name}": value for name, value in linear.state_dict().items()}, tmp_path / "w.pt")
    classifier = load_model(f"file:{tmp_path}/w.pt?arch={tmp_path}/nets.py:net{stated}")
    assert (classifier.mean, classifier.std) == (pytest.approx((0.1307,)), pytest.approx((0.3081,)))
    torch.testing.assert_close(classifier.module(X), linear(((X - 0.1307) / 0.3081).flatten(1)))
    with pytest.raises(BadInput, match=r"would be normalised twice.*mean=0&std=1 for nothing in front"):
        load_model(f"file:{tmp_path}/w.pt?arch={tmp_path}/nets.py:net&mean=0.5&std=0.5")


def test_older_files_state_classes_that_nobody_reads(tmp_path: Path) -> None:
    save_weights(weights(), tmp_path / "w.safetensors", {"arch": "mnist-cnn", "num_classes": "7"})
    assert load_model(f"file:{tmp_path}/w.safetensors").module(X).shape == (2, 10)
    with pytest.raises(BadInput, match="classes is 10"):
        load_model(f"file:{tmp_path}/w.safetensors?num_classes=10")


def test_a_pickled_module_is_loaded_only_when_allowed(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "w.pt")
    with pytest.raises(BadInput, match=r"could run code.*--allow-pickle"):
        load_model(f"file:{tmp_path}/w.pt")
    classifier = load_model(f"file:{tmp_path}/w.pt?mean=0.5&std=0.5", allow_pickle=True)
    assert isinstance(classifier.module, Normalized)
    assert classifier.mean == (0.5,)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("", "without an architecture. Name one"),
        ("?arch=mnist-cn", "Unknown architecture 'mnist-cn'. Did you mean 'mnist-cnn'"),
        ("?arch=torchvision:resnet1O1", "Did you mean 'torchvision:resnet101'"),
        ("?arch=torchvision:squeezenet1_1", "do not fit the architecture: lacking"),
        ("?arch=mnist-cnn&sise=28", "Did you mean 'size'"),
    ],
)
def test_bad_options_say_what_is_wrong(tmp_path: Path, options: str, says: str) -> None:
    torch.save(weights().state_dict(), tmp_path / "w.pt")
    with pytest.raises(BadInput, match=says):
        load_model(f"file:{tmp_path}/w.pt{options}")


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(BadInput, match=r"There is no file .*wieghts.pt.*Did you mean 'weights.pt'"):
        load_model(f"file:{tmp_path}/wieghts.pt?arch=mnist-cnn")
