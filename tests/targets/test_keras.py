"""Keras files: the answers and gradients of networks known from their weights, whatever their form, and bad files."""

from __future__ import annotations

import copy
import os
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import assay
from assay.audit.gradients import in_double
from assay.core.errors import BadInput
from assay.core.held import frozen
from assay.models.keras_ending import TwoLogs
from assay.models.keras_network import KerasNetwork
from assay.models.loaders import keras_file
from tests.support.packaged import packaged
from tests.support.small_net import FOLDER, digits, small_net

pytestmark = [
    pytest.mark.targets,
    # Keras warns when it saves, which tests do and Assay does not
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

SMALL = f"keras:{FOLDER / 'small.keras'}"


@pytest.fixture(scope="module")
def keras() -> Any:
    return keras_file.imported()


def saved(model: Any, path: Path) -> str:
    model.save(path)
    return f"keras:{path}"


def colours(n: int = 4, side: int = 6) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def classifier(keras: Any, *, end: Any = "linear", classes: int = 4, before: tuple[Any, ...] = ()) -> Any:
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6, 6, 3)), *before, keras.layers.Conv2D(5, 3, activation="relu"), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(classes, activation=end)])


def raw(model: Any, x: Tensor) -> Tensor:
    """What Keras itself answers to images `[N, C, H, W]`."""
    with torch.no_grad():
        return torch.as_tensor(model(x.permute(0, 2, 3, 1), training=False))


def asked(spec: str, x: Tensor, **options: Any) -> Tensor:
    model = assay.load_model(spec, **options)
    with model.held(), torch.no_grad():
        return torch.as_tensor(model.module(x))


def test_answers_and_gradients_are_those_of_the_same_weights_in_torch() -> None:
    x, y = digits()
    model, net = assay.load_model(SMALL), small_net()
    assert (model.outputs, model.input_shape) == ("probabilities", (1, 28, 28))

    def both(module: torch.nn.Module, logs: bool) -> tuple[Tensor, Tensor]:
        at = x.clone().requires_grad_()
        answers = module(at) if logs else module(at).log_softmax(1)
        (gradient,) = torch.autograd.grad(torch.nn.functional.nll_loss(answers, y, reduction="sum"), at)
        return answers.detach(), gradient

    with model.held():
        answers, gradient = both(model.module, True)
    expected, known = both(net, False)
    torch.testing.assert_close(answers, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(gradient, known, rtol=1e-4, atol=1e-5)


def test_attacks_find_what_they_find_on_the_network_in_torch() -> None:
    x, y = digits()
    threat = assay.Linf(0.1)
    for attack in (assay.FGSM(), assay.PGD(steps=5)):
        of_file = assay.attack(attack, assay.load_model(SMALL), x, y, threat)
        of_net = assay.attack(attack, small_net(), x, y, threat)
        assert torch.equal(of_file.success, of_net.success)
        assert 0.2 < float(of_file.success.float().mean()) < 1


@pytest.mark.parametrize("form", ["keras", "h5"])
def test_both_formats_are_read_whatever_the_file_is_called(keras: Any, tmp_path: Path, form: str) -> None:
    model = classifier(keras)
    saved(model, tmp_path / f"net.{form}")
    shutil.copy(tmp_path / f"net.{form}", tmp_path / "net.model")
    x = colours()
    for name in (f"net.{form}", "net.model"):
        torch.testing.assert_close(asked(f"keras:{tmp_path / name}", x), raw(model, x))


def test_what_was_compiled_is_not_read(keras: Any, tmp_path: Path) -> None:
    def unknown(y: Any, p: Any) -> Any:
        return keras.ops.mean(y - p)

    model = classifier(keras)
    model.compile(optimizer="adam", loss=unknown)
    assert asked(saved(model, tmp_path / "net.keras"), colours()).shape == (4, 4)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("layer", "softmax"), ("activation", "softmax"), ("operation", "softmax"), ("nested", "softmax")],
)
def test_a_softmax_at_the_end_is_taken_apart_wherever_it_stands(
    keras: Any, tmp_path: Path, kind: str, expected: str
) -> None:
    inner = classifier(keras)
    image = keras.Input((6, 6, 3))
    if kind == "layer":
        model = keras.Model(image, keras.layers.Softmax()(inner(image)))
    elif kind == "operation":
        model = keras.Model(image, keras.ops.softmax(inner(image)))
    elif kind == "activation":
        model = keras.Model(image, keras.layers.Activation("softmax")(inner(image)))
    else:
        model = keras.Model(image, keras.layers.Flatten()(classifier(keras, end="softmax")(image)))
    found = assay.load_model(saved(model, tmp_path / "net.keras"))
    assert found.outputs == "probabilities"
    assert any(f"{expected} that the model ends with is computed as its logarithm" in one for one in found.notes)
    # far outside of what softmax can tell apart in float32, its logarithm goes on
    x = 100 * colours()
    with found.held(), torch.no_grad():
        answers = found.module(x)
    torch.testing.assert_close(answers, raw(inner, x).log_softmax(1), rtol=1e-4, atol=1e-3)
    assert float(raw(model, x).min()) < 1e-30


def test_a_shared_activation_is_left_where_it_is(keras: Any, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    shared = keras.layers.Activation("softmax")
    first = shared(keras.layers.Dense(4)(keras.layers.Flatten()(image)))
    model = keras.Model(image, shared(keras.layers.Dense(4)(first)))
    found = assay.load_model(saved(model, tmp_path / "net.keras"))
    assert any("could not be taken off" in one for one in found.notes)
    x = colours()
    with found.held(), torch.no_grad():
        torch.testing.assert_close(found.module(x), raw(model, x).log())


def test_one_sigmoid_is_two_classes(keras: Any, tmp_path: Path) -> None:
    model = classifier(keras, end="sigmoid", classes=1)
    spec, x = saved(model, tmp_path / "net.keras"), colours()
    p = raw(model, x)
    found = assay.load_model(spec)
    assert found.outputs == "probabilities"
    torch.testing.assert_close(asked(spec, x), torch.cat([1 - p, p], 1).log(), rtol=1e-4, atol=1e-5)
    # who says what the file returns is right too
    torch.testing.assert_close(asked(spec, x, outputs="probabilities"), asked(spec, x))
    at = float(p.sort(0).values[1:3].mean())
    above = asked(f"{spec}?threshold={at}", x)
    assert torch.equal(above.argmax(1), (p[:, 0] > at).long())
    torch.testing.assert_close(above.logsumexp(1), torch.zeros(4), rtol=0, atol=1e-5)


def test_sigmoids_of_several_classes_give_log_odds(keras: Any, tmp_path: Path) -> None:
    model = classifier(keras, end="sigmoid")
    spec, x = saved(model, tmp_path / "net.keras"), colours()
    p = raw(model, x)
    found = assay.load_model(spec)
    assert found.outputs == "logits"
    assert any("MultiLabel" in one for one in found.notes)
    torch.testing.assert_close(asked(spec, x), p.log() - (1 - p).log(), rtol=1e-3, atol=1e-4)


def test_a_relu_at_the_end_is_told() -> None:
    found = assay.load_model(f"keras:{packaged('relu-head')}")
    assert (found.outputs, found.input_shape) == ("logits", (3, 32, 32))
    assert any("ends with relu" in one and "neither logits nor probabilities" in one for one in found.notes)


@pytest.mark.parametrize("way", ["Rescaling", "by what they vary", "divided", "augmented", "Normalization"])
def test_a_model_that_rescales_bytes_inside_is_given_bytes(keras: Any, tmp_path: Path, way: str) -> None:
    inner = classifier(keras)
    image = keras.Input((6, 6, 3))
    if way == "Rescaling":
        model = keras.Model(image, inner(keras.layers.Rescaling(1 / 127.5, offset=-1)(image)))
    elif way == "by what they vary":
        # ImageNet's, in bytes: 0.225 of 255
        model = keras.Model(image, inner(keras.layers.Rescaling(1 / 57.375, offset=-2.0)(image)))
    elif way == "divided":
        model = keras.Model(image, inner(image / 255.0))
    elif way == "augmented":
        flips = keras.Sequential([keras.layers.RandomFlip(), keras.layers.Rescaling(1 / 255)])
        model = keras.Model(image, inner(flips(image)))
    else:
        normal = keras.layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3600.0, 3600.0, 3600.0])
        model = keras.Model(image, inner(normal(image)))
    spec, x = saved(model, tmp_path / "net.keras"), colours()
    torch.testing.assert_close(asked(spec, x), raw(model, x * 255), rtol=1e-4, atol=1e-5)
    assert any("from 0 to 255" in one for one in assay.load_model(spec).notes)
    torch.testing.assert_close(asked(f"{spec}?range=1", x), raw(model, x), rtol=1e-4, atol=1e-5)
    with pytest.raises(BadInput, match="normalised twice"):
        assay.load_model(f"{spec}?mean=0.5&std=0.5")


def test_a_stated_range_or_normalisation_stands_in_front(keras: Any, tmp_path: Path) -> None:
    model = classifier(keras)
    spec, x = saved(model, tmp_path / "net.keras"), colours()
    torch.testing.assert_close(asked(f"{spec}?range=255", x), raw(model, x * 255), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(asked(f"{spec}?mean=0.5&std=0.5", x), raw(model, 2 * x - 1), rtol=1e-4, atol=1e-5)
    assert assay.load_model(f"{spec}?mean=0.5&std=0.5").mean == (0.5,)


def test_images_reach_the_model_in_its_layout(keras: Any, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    first = keras.Sequential([keras.Input((3, 6, 5)), keras.layers.Flatten(), dense(4)])
    none = keras.Sequential([keras.Input((6, 5)), keras.layers.Flatten(), dense(4)])
    x = torch.rand(2, 3, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(asked(saved(first, tmp_path / "a.keras"), x), first(x, training=False))
        torch.testing.assert_close(asked(saved(none, tmp_path / "b.keras"), x[:, :1]), none(x[:, 0], training=False))
    assert assay.load_model(f"keras:{tmp_path / 'b.keras'}").input_shape == (1, 6, 5)


def test_an_open_size_is_that_of_the_images_unless_stated(keras: Any, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    spec = saved(keras.Model(image, keras.layers.Dense(3)(pooled)), tmp_path / "net.keras")
    found = assay.load_model(spec)
    assert (found.input_shape, found.channels) == (None, 3)
    assert asked(spec, torch.rand(2, 3, 20, 30)).shape == (2, 3)
    assert assay.load_model(f"{spec}?size=32").input_shape == (3, 32, 32)


def test_one_of_several_outputs_is_named(keras: Any, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3))
    flat = keras.layers.Flatten()(image)
    outputs = [keras.layers.Dense(4, name="kind")(flat), keras.layers.Dense(2, name="colour")(flat)]
    model = keras.Model(image, outputs)
    spec, x = saved(model, tmp_path / "net.keras"), colours()
    with pytest.raises(BadInput, match=r"has 2 outputs.*\?output=kind.*colour \[None, 2\]"):
        assay.load_model(spec)
    with pytest.raises(BadInput, match="Did you mean 'colour'"):
        assay.load_model(f"{spec}?output=color")
    with torch.no_grad():
        known = model(x.permute(0, 2, 3, 1), training=False)
    for at, name in enumerate(("kind", "colour")):
        torch.testing.assert_close(asked(f"{spec}?output={name}", x), known[at])
        torch.testing.assert_close(asked(f"{spec}?output={at}", x), known[at])
    digests = {assay.load_model(f"{spec}?output={name}").digest for name in ("kind", "colour")}
    assert len(digests) == 2


def test_half_precision_is_measured_in_float32(keras: Any, tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = classifier(keras, before=(keras.layers.BatchNormalization(),))
        spec = saved(model, tmp_path / "net.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    found = assay.load_model(spec)
    assert any("float16" in one for one in found.notes)
    answers = asked(spec, colours())
    assert answers.dtype is torch.float32
    weights = [one.numpy() for one in model.weights]
    plain = classifier(keras, before=(keras.layers.BatchNormalization(),))
    plain.set_weights(weights)
    torch.testing.assert_close(answers, raw(plain, colours()), rtol=1e-5, atol=1e-6)


def test_a_copy_has_weights_of_its_own_and_none_is_finer_than_float32() -> None:
    x, _ = digits()
    model = assay.load_model(SMALL)
    with model.held(), torch.no_grad():
        before = model.module(x)
        other = copy.deepcopy(model.module)
        assert torch.equal(other(x), before)
        next(other.parameters()).mul_(2)
        assert not torch.allclose(other(x), before)
        assert torch.equal(model.module(x), before)
    # Keras computes in float32 on its way: an audit that looks again in double precision must not believe such a copy
    with pytest.raises(NotImplementedError):
        copy.deepcopy(model.module).double()
    assert in_double(model.module) is None


def test_weights_are_the_modules_own_and_take_no_gradients() -> None:
    x, _ = digits()
    module = assay.load_model(SMALL).module
    assert len(list(module.parameters())) == 6
    assert not any(one.requires_grad for one in module.parameters())
    with frozen(module), torch.no_grad():
        before = module(x)
        module[0].weights._parameters[next(iter(module[0].weights._parameters))].mul_(2)
        assert not torch.allclose(module(x), before)


def test_threads_and_the_environment_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    assay.load_model(SMALL)
    assert torch.get_num_threads() == threads
    assert "KERAS_BACKEND" not in os.environ
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with keras_file._environment("KERAS_BACKEND", "torch"):
        assert os.environ["KERAS_BACKEND"] == "torch"
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_another_backend_and_an_old_keras_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(__version__="3.15.1", config=SimpleNamespace(backend=lambda: "tensorflow"))
    monkeypatch.setitem(__import__("sys").modules, "keras", other)
    with pytest.raises(BadInput, match=r"tensorflow backend before Assay, expected torch.*KERAS_BACKEND=torch"):
        assay.load_model(SMALL)
    monkeypatch.setitem(__import__("sys").modules, "keras", SimpleNamespace(__version__="2.15.0"))
    with pytest.raises(BadInput, match=r"Keras 2\.15\.0 is installed, expected Keras 3"):
        assay.load_model(SMALL)


def test_the_digest_names_the_file_and_its_weights(keras: Any, tmp_path: Path) -> None:
    model = classifier(keras)
    spec = saved(model, tmp_path / "a.keras")
    again = f"keras:{shutil.copy(tmp_path / 'a.keras', tmp_path / 'b.keras')}"
    assert assay.load_model(spec).digest == assay.load_model(again).digest
    weights = model.get_weights()
    weights[0].flat[0] += 1e-3
    model.set_weights(weights)
    assert assay.load_model(saved(model, tmp_path / "c.keras")).digest != assay.load_model(spec).digest
    assert assay.load_model(f"{spec}?range=255").digest != assay.load_model(spec).digest


def test_code_in_a_file_runs_only_with_consent(keras: Any, tmp_path: Path) -> None:
    image = keras.Input((6, 6, 3))
    doubled = keras.layers.Lambda(lambda x: 2 * x, output_shape=(6, 6, 3))(image)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(doubled)))
    for name in ("net.keras", "net.h5"):
        spec = saved(model, tmp_path / name)
        with pytest.raises(BadInput, match=r"Lambda layer, which is code.*--allow-pickle"):
            assay.load_model(spec)
        torch.testing.assert_close(asked(spec, colours(), allow_pickle=True), raw(model, colours()))


def test_a_layer_of_the_authors_is_named(keras: Any, tmp_path: Path) -> None:
    class Tripled(keras.layers.Layer):  # type: ignore[misc, name-defined]  # keras has no types
        def call(self, x: Any) -> Any:
            return 3 * x

    for name in ("net.keras", "net.h5"):
        with pytest.raises(BadInput, match="holds 'Tripled', which Keras"):
            assay.load_model(saved(classifier(keras, before=(Tripled(),)), tmp_path / name))


def test_files_that_are_no_networks_say_what_to_do(keras: Any, tmp_path: Path) -> None:
    model = classifier(keras)
    model.save_weights(tmp_path / "only.weights.h5")
    saved(model, tmp_path / "net.keras")
    (tmp_path / "cut.keras").write_bytes((tmp_path / "net.keras").read_bytes()[:3000])
    model.save(tmp_path / "net.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "net.h5").read_bytes()[:3000])
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "saved_model.pb").write_bytes(b"\n\x00")
    wrong = {
        "only.weights.h5": r"weights without a network.*model\.save\('net\.keras'\)",
        "cut.keras": "is no Keras file",
        "cut.h5": "could not be read as HDF5.*Copy or download it again",
        "other.keras": "is a zip archive of readme.txt",
        "graph": "a SavedModel, a graph of TensorFlow",
        "net.kera": "There is no file .* Did you mean 'net.keras'",
    }
    for name, says in wrong.items():
        with pytest.raises(BadInput, match=says):
            assay.load_model(f"keras:{tmp_path / name}")
    with pytest.raises(BadInput, match="is no Keras file: it begins with"):
        assay.load_model(f"keras:{FOLDER / 'int8.tflite'}")


def test_models_that_are_no_classifiers_of_images_are_refused(keras: Any, tmp_path: Path) -> None:
    vector = keras.Sequential([keras.Input((10,)), keras.layers.Dense(3)])
    with pytest.raises(BadInput, match=r"takes \[None, 10\], expected images"):
        assay.load_model(saved(vector, tmp_path / "a.keras"))
    mask = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(2, 1)])
    with pytest.raises(BadInput, match=r"answers \[2, 6, 6, 2\] for 2 images, expected class scores"):
        assay.load_model(saved(mask, tmp_path / "b.keras"))
    image, other = keras.Input((6, 6, 3)), keras.Input((2,))
    both = keras.layers.Concatenate()([keras.layers.Flatten()(image), other])
    with pytest.raises(BadInput, match="takes 2 inputs"):
        assay.load_model(saved(keras.Model([image, other], keras.layers.Dense(3)(both)), tmp_path / "c.keras"))


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("size=32", "states a size of 32x32, but the model takes 28x28"),
        ("channels=4", "channels is 4 .* takes 1"),
        ("range=2", "expected 1 or 255"),
        ("range=255&mean=0.5&std=0.5", "expected one of the two"),
        ("threshold=0.5", "gives 10 scores per image, expected one"),
        ("outputs=1", "Unknown option 'outputs'.*Did you mean 'output'"),
    ],
)
def test_options_that_contradict_the_file_are_refused(option: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        assay.load_model(f"{SMALL}?{option}")


def test_a_threshold_of_one_sigmoid_is_a_probability() -> None:
    with pytest.raises(BadInput, match="expected a probability above 0 and below 1"):
        TwoLogs(1.5)


def test_a_real_network_answers_as_keras_says(keras: Any) -> None:
    path = packaged("expressions")
    found = assay.load_model(f"keras:{path}?mean=0.5&std=0.5")
    assert (found.input_shape, found.outputs) == ((1, 64, 64), "probabilities")
    assert isinstance(found.module.module[0], KerasNetwork)
    x = torch.rand(8, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    model = keras_file._read(keras, path, SimpleNamespace(spec="it", allow_pickle=False))
    with found.held(), torch.no_grad():
        torch.testing.assert_close(found.module(x).exp(), raw(model, 2 * x - 1), rtol=1e-4, atol=1e-6)
        at = x.clone().requires_grad_()
    with found.held():
        assert float(torch.autograd.grad(found.module(at)[:, 0].sum(), at)[0].abs().max()) > 0
    assert np.isfinite(raw(model, x).numpy()).all()


def test_a_network_of_keras_applications_is_read_with_its_own_rescaling(keras: Any, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV3Small(weights=None, input_shape=(64, 64, 3), classes=10)
    found = assay.load_model(saved(model, tmp_path / "net.keras"))
    assert (found.input_shape, found.outputs) == ((3, 64, 64), "probabilities")
    assert any("rescales bytes inside (its layer rescaling" in one for one in found.notes)
    x = colours(side=64)
    with found.held(), torch.no_grad():
        torch.testing.assert_close(found.module(x), raw(model, 255 * x).log(), rtol=1e-4, atol=1e-4)
