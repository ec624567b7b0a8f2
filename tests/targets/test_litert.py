"""TFLite files: their own answers whatever is quantised, threads, twins, and files and options that do not fit."""

from __future__ import annotations

import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import assay
from assay.attacks import build
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.models.litert import Intake, Port, ScoreRule, opened
from tests.support.packaged import packaged
from tests.support.small_net import FOLDER, digits, small_net

pytestmark = pytest.mark.targets


def spec(name: str) -> str:
    return f"litert:{FOLDER / name}.tflite"


def asked(name: str, x: Tensor) -> Tensor:
    model = assay.load_model(name)
    with model.held(), torch.no_grad():
        return torch.as_tensor(model.module(x))


def invoked(name: str, rows: np.ndarray[Any, Any], output: int = 0) -> np.ndarray[Any, Any]:
    """What the interpreter itself answers to rows in the file's own form, one by one."""
    interpreter = opened((FOLDER / f"{name}.tflite").read_bytes())
    interpreter.allocate_tensors()
    answers = []
    for row in rows:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[output]["index"])[0])
    return np.stack(answers)


def test_a_float_file_answers_as_the_weights_it_was_made_of() -> None:
    x, _ = digits()
    model = assay.load_model(spec("float"))
    assert (model.outputs, model.access, model.input_shape) == ("probabilities", Access.SCORES, (1, 28, 28))
    torch.testing.assert_close(asked(spec("float"), x), small_net()(x).log_softmax(1), rtol=0, atol=1e-4)


def test_half_precision_weights_move_scores_by_a_little() -> None:
    x, _ = digits()
    apart = float((asked(spec("float16"), x) - small_net()(x)).abs().max())
    assert 0 < apart < 0.02


@pytest.mark.parametrize(("name", "kind"), [("int8", np.int8), ("uint8", np.uint8)])
def test_whole_numbers_go_in_and_out_as_the_files_scales_say(name: str, kind: type[Any]) -> None:
    x, y = digits()
    shift = -128 if kind is np.int8 else 0
    # the scale of both inputs is 1/255: whole numbers are the bytes of the picture
    rows = ((x * 255).round().permute(0, 2, 3, 1).numpy() + shift).astype(kind)
    raw = invoked(name, rows).astype(np.float64)
    found = asked(spec(name), x)
    if name == "int8":
        p = np.maximum((raw + 128) / 256, 1 / 512)
        np.testing.assert_allclose(found, np.log(p), atol=1e-5)
    else:
        steps = (found[:, :1] - found).double() / torch.from_numpy(raw[:, :1] - raw).nan_to_num(1)
        assert float(steps[:, 1:][torch.from_numpy(raw[:, :1] != raw)[:, 1:]].std()) < 1e-4
    assert torch.equal(found.argmax(1), torch.from_numpy(raw).argmax(1))
    assert int((found.argmax(1) == y).sum()) >= 47


def test_numbers_between_two_bytes_are_rounded_as_the_interpreter_does() -> None:
    port = Port(0, "x", (1, 4), np.int8, 0.5, -1)
    halves = np.array([[-1.25, -0.75, -0.25, 0.25, 0.75, 1.25]], np.float32)
    # ties to the even number, before the zero point is added
    assert port.quantised(halves).tolist() == [[-3, -3, -1, -1, 1, 1]]
    # a file that takes floats and computes in int8 inside rounds by itself: every other byte, halved, is a tie
    rows = (digits()[0] / 2).permute(0, 2, 3, 1).numpy()
    scale = opened((FOLDER / "int8.tflite").read_bytes()).get_input_details()[0]["quantization"][0]
    outside = invoked("int8", Port(0, "x", (1,), np.int8, scale, -128).quantised(rows))
    np.testing.assert_array_equal(invoked("inside", rows), (outside.astype(np.float32) + 128) / 256)


def test_what_is_rounded_to_nothing_is_taken_for_half_a_step() -> None:
    values = np.array([[-128, 127], [-128, -128]], np.int8)
    port = Port(0, "p", (1, 2), np.int8, 1 / 256, -128)
    p = np.array([[1 / 512, 255 / 256], [1 / 512, 1 / 512]])
    np.testing.assert_allclose(ScoreRule("softmax", step=1 / 256).scores(values, port), np.log(p), rtol=1e-5)
    # and a file that gives floats on such steps is read the same way
    told = assay.load_model(spec("inside")).notes
    assert any("whole numbers times 0.003906" in one for one in told)
    assert float(asked(spec("inside"), digits()[0]).min()) > -7


def test_bytes_of_a_camera_and_a_stated_normalisation_are_two_readings() -> None:
    x, y = digits()
    rows = (x * 255).round().permute(0, 2, 3, 1).numpy()
    known = invoked("symmetric", rows.astype(np.uint8)).astype(np.float64)
    as_bytes, stated = asked(spec("symmetric"), x), asked(f"{spec('symmetric')}?mean=0.5&std=0.5", x)
    assert torch.equal(as_bytes.argmax(1), torch.from_numpy(known).argmax(1))
    assert any("bytes, as from a camera" in one for one in assay.load_model(spec("symmetric")).notes)
    assert not torch.equal(as_bytes, stated)
    assert int((stated.argmax(1) == y).sum()) >= 47


def test_a_rescaling_that_was_merged_into_weights_is_suspected_and_stated() -> None:
    x, y = digits()
    assert any("state ?range=255" in one for one in assay.load_model(spec("bytes")).notes)
    assert int((asked(spec("bytes"), x).argmax(1) == y).sum()) < 25
    torch.testing.assert_close(asked(f"{spec('bytes')}?range=255", x), small_net()(x), rtol=0, atol=1e-4)
    assert not any("range=255" in one for one in assay.load_model(spec("float")).notes)


def test_a_row_has_one_answer_alone_and_in_any_batch_and_thread() -> None:
    x, _ = digits()
    model = assay.load_model(spec("int8"))
    whole = model.module(x)
    assert torch.equal(torch.cat([model.module(one[None]) for one in x]), whole)
    found: dict[int, Tensor] = {}
    threads = [threading.Thread(target=lambda at=at: found.update({at: model.module(x)})) for at in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(found) == 4 and all(torch.equal(one, whole) for one in found.values())


def test_a_file_made_for_four_rows_takes_any_number() -> None:
    x = torch.rand(6, 1, 4, 4)
    whole = asked(spec("four-rows"), x)
    assert whole.shape == (6, 3)
    torch.testing.assert_close(asked(spec("four-rows"), x[5:]), whole[5:])


def test_channels_may_stand_first() -> None:
    x = torch.rand(2, 3, 6, 5)
    assert assay.load_model(spec("channels-first")).input_shape == (3, 6, 5)
    np.testing.assert_allclose(asked(spec("channels-first"), x), invoked("channels-first", x.numpy()), rtol=1e-5)


def test_open_sides_are_those_of_the_images() -> None:
    model = assay.load_model(spec("any-size"))
    assert (model.input_shape, model.channels) == (None, 3)
    assert asked(spec("any-size"), torch.rand(2, 3, 9, 12)).shape == (2, 3)
    assert assay.load_model(f"{spec('any-size')}?size=20").input_shape == (3, 20, 20)


def test_sigmoids() -> None:
    x = torch.rand(5, 1, 4, 4)
    rows = x.permute(0, 2, 3, 1).numpy()
    p = torch.from_numpy(invoked("sigmoid", rows))
    torch.testing.assert_close(asked(spec("sigmoid"), x), torch.cat([1 - p, p], 1).log(), rtol=1e-4, atol=1e-5)
    at = float(p.median())
    assert torch.equal(asked(f"{spec('sigmoid')}?threshold={at}", x).argmax(1), (p[:, 0] > at).long())
    several = torch.from_numpy(invoked("sigmoids", rows))
    assert assay.load_model(spec("sigmoids")).outputs == "logits"
    torch.testing.assert_close(asked(spec("sigmoids"), x), several.logit(), rtol=1e-3, atol=1e-4)


def test_a_relu_at_the_end_is_told() -> None:
    assert any("after a relu" in one for one in assay.load_model(spec("relu")).notes)


def test_one_of_several_outputs_is_named() -> None:
    x = torch.rand(3, 1, 4, 4)
    with pytest.raises(BadInput, match=r"has 2 outputs, expected one.*\?output=0.*1: StatefulPartitionedCall"):
        assay.load_model(spec("two-outputs"))
    with pytest.raises(BadInput, match="has no output 'logits'"):
        assay.load_model(f"{spec('two-outputs')}?output=logits")
    rows = x.permute(0, 2, 3, 1).numpy()
    for at in (0, 1):
        known = invoked("two-outputs", rows, at)
        np.testing.assert_allclose(asked(f"{spec('two-outputs')}?output={at}", x), known, rtol=1e-5)
    assert (
        assay.load_model(f"{spec('two-outputs')}?output=0").digest
        != assay.load_model(f"{spec('two-outputs')}?output=1").digest
    )


def test_the_digest_holds_every_byte_of_the_file(tmp_path: Path) -> None:
    content = bytearray((FOLDER / "float.tflite").read_bytes())
    (tmp_path / "same.tflite").write_bytes(content)
    content[-5000] ^= 1  # a bit of a weight
    (tmp_path / "other.tflite").write_bytes(content)
    digests = [assay.load_model(f"litert:{path}").digest for path in (FOLDER / "float.tflite", *tmp_path.iterdir())]
    assert len(set(digests)) == 2
    assert (
        len({assay.load_model(f"{spec('float')}{more}").digest for more in ("", "?range=255", "?mean=0&std=0.5")}) == 3
    )


def test_a_file_that_changes_on_the_disk_is_not_read_again(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "int8.tflite", tmp_path / "net.tflite")
    x, _ = digits()
    model = assay.load_model(f"litert:{tmp_path / 'net.tflite'}")
    before = model.module(x)
    shutil.copy(FOLDER / "uint8.tflite", tmp_path / "net.tflite")
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.append(model.module(x)))
    thread.start()
    thread.join()
    assert torch.equal(found[0], before)


def test_labels_packed_behind_the_file_are_the_classes(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "float.tflite", tmp_path / "net.tflite")
    with zipfile.ZipFile(tmp_path / "net.tflite", "a") as archive:
        archive.writestr("other.txt", "a\nb\n")
        archive.writestr("labels.txt", "".join(f"digit {at}\n" for at in range(10)))
    assert assay.load_model(f"litert:{tmp_path / 'net.tflite'}").classes == tuple(f"digit {at}" for at in range(10))
    assert assay.load_model(spec("float")).classes is None


def test_gradients_are_those_of_the_twin_and_answers_the_files() -> None:
    x, y = digits()
    name = f"{spec('int8')}?twin=keras:{FOLDER / 'small.keras'}"
    both, alone = assay.load_model(name), assay.load_model(spec("int8"))
    assert both.access is Access.GRADIENT
    assert both.digest != alone.digest
    found = assay.attack(assay.PGD(steps=10), both, x, y, assay.Linf(0.1))
    # what is called broken is broken on the file, looked at by itself
    with alone.held(), torch.no_grad():
        wrong = alone.module(found.x_adv).argmax(1) != y
    assert torch.equal(found.success, wrong)
    assert 0.3 < float(wrong.float().mean()) < 1
    square = assay.attack(build("square", queries=100), alone, x, y, assay.Linf(0.1))
    assert int(found.success.sum()) > int(square.success.sum())


@pytest.mark.parametrize("attack", [assay.FGSM(), build("mi-fgsm", steps=10)])
def test_rounded_probabilities_do_not_blunt_the_twins_gradient(attack: Any) -> None:
    # the likeliest other class is one of many that were rounded to 0: without the twin's word the gradient of the
    # cross-entropy points to none of them, and a single step left 45 % of 500 digits instead of 28 %
    x, y = digits()
    threat = assay.Linf(0.1)
    alone, net = assay.load_model(spec("int8")), assay.load_model(f"keras:{FOLDER / 'small.keras'}")
    both = assay.load_model(f"{spec('int8')}?twin=keras:{FOLDER / 'small.keras'}")
    found = [assay.attack(attack, one, x, y, threat).x_adv for one in (both, net)]
    with alone.held(), torch.no_grad():
        left = [int((alone.module(one).argmax(1) == y).sum()) for one in found]
    assert left[0] <= left[1] + 2


def test_attacks_by_gradient_say_that_there_are_none() -> None:
    x, y = digits()
    with pytest.raises(assay.AssayError, match="needs gradient and the model gives scores alone"):
        assay.attack(assay.PGD(steps=1), assay.load_model(spec("int8")), x, y, assay.Linf(0.1))


def test_a_real_pair_agrees_and_the_quantised_one_is_not_the_same() -> None:
    x = torch.rand(24, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    # smooth pictures: noise alone is one class
    x = torch.nn.functional.interpolate(x[:, :, :6, :6], size=64, mode="bicubic").clamp(0, 1)
    lite = asked(f"litert:{packaged('expressions-lite')}?mean=0.5&std=0.5", x)
    whole = asked(f"keras:{packaged('expressions')}?mean=0.5&std=0.5", x)
    assert lite.shape == whole.shape == (24, 7)
    assert float((lite.argmax(1) == whole.argmax(1)).float().mean()) > 0.7
    assert float((lite.exp() - whole.exp()).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("two-inputs", "takes 2 inputs"),
        ("flex", "uses operations of TensorFlow itself"),
        ("custom", "uses the custom operation Betainc"),
        ("flot", "There is no file .* Did you mean 'float.tflite'"),
    ],
)
def test_files_that_cannot_be_asked_say_why(name: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        assay.load_model(spec(name))


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("size=32", "states a size of 32x32, but the file takes 28x28"),
        ("channels=4", "channels is 4 .* takes 1"),
        ("range=2", "expected 1 or 255"),
        ("layout=hwc", "expected nhwc or nchw"),
        ("threshold=0.5", "gives 10 scores per image, expected one"),
        ("twin=zoo:mnist-cnnn", "Unknown model"),
        ("twin=litert:FILE", "gives scores and no gradients"),
    ],
)
def test_options_that_contradict_the_file_are_refused(option: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        assay.load_model(f"{spec('float')}?{option.replace('FILE', str(FOLDER / 'float.tflite'))}")


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "cut.tflite").write_bytes((FOLDER / "float.tflite").read_bytes()[:5000])
    with pytest.raises(BadInput, match=r"could not be read by LiteRT.*convert it again"):
        assay.load_model(f"litert:{tmp_path / 'cut.tflite'}")
    with pytest.raises(BadInput, match="is no TFLite file"):
        assay.load_model(f"litert:{FOLDER / 'small.keras'}")


def test_an_input_whose_range_says_nothing_wants_a_normalisation() -> None:
    from assay.models.loaders.litert_file import _of_whole_numbers
    from assay.models.spec import Request

    with pytest.raises(BadInput, match=r"stands for -2.1 to 2.64.*\?mean=0.485"):
        _of_whole_numbers(Port(0, "x", (1, 4, 4, 3), np.uint8, 0.01857, 113), "last", Request("litert:x", "x"))
    assert _of_whole_numbers(Port(0, "x", (1, 4, 4, 3), np.uint8), "last", Request("", ""))[0] == Intake(
        "last", as_bytes=True
    )
