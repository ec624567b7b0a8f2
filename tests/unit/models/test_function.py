"""Callables, models of other frameworks and exported programs: what is asked of them, and what tells them apart."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import assay
from assay.core.errors import BadInput, ModelError
from assay.models import load_model
from assay.models.function import Function, Predictions, networks_in
from assay.models.static_batch import StaticBatch, static_rows

SHAPE = (1, 4, 4)
X = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(3))


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


NET = network()
with torch.no_grad():
    Y = NET(X).argmax(1)


def scaled(net: nn.Module, x: Tensor, by: float) -> Tensor:
    return net(x * by)


class Table:
    """A classifier of another framework: NumPy in, NumPy out."""

    def __init__(self, seed: int) -> None:
        self.weights = np.random.default_rng(seed).normal(size=(16, 3))

    def scores(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1) @ self.weights

    def labels(self, x: np.ndarray) -> np.ndarray:
        return self.scores(x).argmax(1)


def truth(table: Table) -> Tensor:
    return torch.from_numpy(table.labels(X.numpy()))


# ---- identity


def test_what_a_callable_refers_to_is_in_its_digest() -> None:
    def digest(model) -> str:
        return load_model(model).digest

    assert digest(functools.partial(scaled, NET, by=2.0)) == digest(functools.partial(scaled, NET, by=2.0))
    assert digest(functools.partial(scaled, NET, by=2.0)) != digest(functools.partial(scaled, NET, by=3.0))
    assert digest(functools.partial(scaled, NET, by=2.0)) != digest(functools.partial(scaled, network(1), by=2.0))
    one, other = Table(1), Table(2)
    assert digest(Predictions(one.scores)) == digest(Predictions(Table(1).scores))
    assert digest(Predictions(one.scores)) != digest(Predictions(other.scores))
    assert digest(Predictions(lambda x: one.scores(x))) != digest(Predictions(lambda x: other.scores(x)))
    assert digest(Predictions(one.scores)) != load_model(Predictions(one.scores), identity="v2").digest


@pytest.mark.filterwarnings("ignore")  # torch announces that its int8 layers will go
def test_int8_weights_that_differ_where_they_are_not_printed_differ() -> None:
    def quantised(at: float) -> str:
        torch.manual_seed(0)
        layer = nn.Linear(600, 60)
        layer.weight.data[30, 300] = at
        net = nn.Sequential(nn.Flatten(), layer)
        return load_model(torch.ao.quantization.quantize_dynamic(net, {nn.Linear})).digest

    assert quantised(0.0) == quantised(0.0)
    assert quantised(0.0) != quantised(0.03)


def test_sparse_weights_are_in_the_digest() -> None:
    def sparse(value: float) -> str:
        net = network()
        net.register_buffer("mask", torch.tensor([[0.0, value]]).to_sparse())
        return load_model(net).digest

    assert sparse(1.0) == sparse(1.0)
    assert sparse(1.0) != sparse(2.0)


def test_networks_are_found_where_a_callable_keeps_them() -> None:
    other = network(1)
    assert networks_in(lambda x: NET(x) + other(x)) == [other, NET]
    assert networks_in(functools.partial(scaled, other, by=1.0)) == [other]
    assert networks_in(Table(0).scores) == []
    held = Function(functools.partial(scaled, network().train(), by=1.0))
    with load_model(held).held():
        assert not held.networks[0].training
    assert held.networks[0].training


@pytest.mark.parametrize("wrong", [3, nn.Linear, "no"])
def test_what_is_no_model_is_refused(wrong) -> None:
    with pytest.raises(BadInput):
        load_model(wrong)


# ---- scores and labels alone


@pytest.mark.parametrize(("access", "fits"), [("scores", "square"), ("labels", "uniform-noise")])
def test_a_model_without_gradients_is_measured_and_audited(access: str, fits: str) -> None:
    table = Table(4)
    module = Predictions(table.scores) if access == "scores" else Predictions(table.labels, 3)
    model = load_model(module, access=access)
    with pytest.raises(BadInput, match=f"gives {access} alone. Attacks that fit: .*{fits}"):
        assay.attack(assay.PGD(), model, X, truth(table), assay.Linf(0.1))
    with pytest.raises(BadInput, match=f"pgd needs gradient.*{fits}"):
        assay.evaluate(model, (X, truth(table)), attacks=["pgd"], threat=assay.Linf(0.1), audit="off", doctor=False)
    short = {"queries": 200} if fits == "square" else {}
    attacked = assay.attack(assay.attacks.build(fits, **short), model, X, truth(table), assay.Linf(0.3))
    assert torch.equal(attacked.success, torch.from_numpy(table.labels(attacked.x_adv.numpy())) != truth(table))
    given = [{"attack": fits, **short}]
    run = assay.evaluate(model, (X, truth(table)), attacks=given, threat=assay.Linf(0.02), audit="off", doctor=False)
    assert run.results()[0].clean_accuracy == 1.0
    (verdict,) = run.audit("quick")
    told = {finding.check: finding.meaning for finding in verdict.findings}
    assert told["true gradients"] == "Not asked: the model gives no gradients."
    if access == "labels":
        assert told["probabilities"] == "The model returns labels alone."


def test_class_numbers_that_are_none_are_refused() -> None:
    model = load_model(Predictions(lambda x: np.full(len(x), 7), 3), access="labels")
    with pytest.raises(ModelError, match="class numbers"):
        assay.attack(assay.attacks.build("uniform-noise"), model, X, Y, assay.Linf(0.1))


# ---- on the command line

CODE = """
import numpy as np
import torch
from torch import nn
import assay
from assay.models import Predictions

torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()

def predict(x):
    return net(x)

def made():
    return lambda x: net(x)

def scores():
    return assay.load_model(Predictions(lambda a: a.reshape(len(a), -1)[:, :10]), access="scores")

class Model:
    def __call__(self, x):
        return net(x)

standing = Model()
"""


@pytest.mark.parametrize("name", ["predict", "made", "Model", "standing"])
def test_a_callable_named_in_a_file_is_a_model(tmp_path: Path, name: str) -> None:
    (tmp_path / "my.py").write_text(CODE)
    model = load_model(f"{tmp_path / 'my.py'}:{name}")
    x = torch.rand(3, 1, 28, 28)
    torch.manual_seed(0)
    own = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with model.held():
        torch.testing.assert_close(model.oracle().answers(x), own(x).detach())


def test_the_command_line_runs_a_callable_and_names_what_fits(tmp_path: Path, capsys) -> None:
    from assay.cli import main

    (tmp_path / "my.py").write_text(CODE)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 28, 28), dtype=np.uint8), np.arange(12) % 10
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    start = ["run", "--data", f"npz:{tmp_path / 'set.npz'}", "--norm", "linf", "--eps", "0.1"]
    for name, attack, code in (("predict", "fgsm", 0), ("scores", "pgd", 2), ("scores", "uniform-noise", 0)):
        model = ["--model", f"{tmp_path / 'my.py'}:{name}", "--attack", attack, "--out", str(tmp_path / name / attack)]
        with pytest.raises(SystemExit) as left:
            main([*start, *model])
        assert left.value.code == code
        if code:
            assert "Attacks that fit" in " ".join(capsys.readouterr().err.split())


# ---- exported programs


@pytest.mark.parametrize("rows", [1, 4])
def test_an_exported_program_of_one_batch_size_takes_any(rows: int) -> None:
    program = torch.export.export(NET, (torch.rand(rows, *SHAPE),))
    assert static_rows(program.module()) == rows
    model = load_model(program)
    assert isinstance(model.module, StaticBatch)
    assert f"batches of {rows} alone" in model.notes[0]
    one, other = (assay.attack(assay.FGSM(), net, X, Y, assay.Linf(0.1)) for net in (program.module(), NET))
    torch.testing.assert_close(one.x_adv, other.x_adv)
    torch.testing.assert_close(one.logits, other.logits)
    assert one.forwards.tolist() == other.forwards.tolist()


def test_an_exported_program_of_any_batch_size_is_taken_as_it_is() -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(NET, (X,), dynamic_shapes=({0: batch},)).module()
    assert static_rows(program) is None
    assert static_rows(torch.fx.symbolic_trace(NET)) is None
    one, other = (assay.attack(assay.FGSM(), net, X, Y, assay.Linf(0.1)) for net in (program, NET))
    torch.testing.assert_close(one.x_adv, other.x_adv)


# ---- what no digest can tell apart


class Session:
    """What a user keeps of a file that another library reads."""

    def __init__(self, file: Path) -> None:
        self.session = onnxruntime.InferenceSession(file)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"x": x})[0]


def onnx_file(folder: Path, weights: np.ndarray) -> Path:
    """Write a linear classifier of images 1 x 4 x 4."""
    given = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", *SHAPE])]
    made = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])]
    steps = [onnx.helper.make_node("Flatten", ["x"], ["flat"]), onnx.helper.make_node("MatMul", ["flat", "w"], ["y"])]
    graph = onnx.helper.make_graph(steps, "linear", given, made, [onnx.numpy_helper.from_array(weights, "w")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    file = folder / "linear.onnx"
    onnx.save(model, file)
    return file


class Served(nn.Module):
    def __init__(self, session: object) -> None:
        super().__init__()
        self.session = session

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.session(x.detach().numpy()))


@pytest.mark.parametrize("wrapped", [Served, Predictions, lambda one: Predictions(lambda x: one(x))])
def test_a_model_that_no_digest_tells_apart_asks_for_an_identity(wrapped, tmp_path: Path) -> None:
    session = Session(onnx_file(tmp_path, np.eye(16, 3, dtype=np.float32)))
    settings = {"attacks": ["uniform-noise"], "threat": assay.Linf(0.1), "audit": "off", "doctor": False}
    model = load_model(wrapped(session), access="scores")
    with pytest.raises(BadInput, match=r"answers from an object of onnxruntime.*identity="):
        assay.evaluate(model, (X, Y), **settings)
    # tensors are attacked and nothing is kept: there is nothing to mix up
    assay.attack(assay.attacks.build("uniform-noise"), model, X, Y, assay.Linf(0.1))
    named = load_model(wrapped(session), access="scores", identity="scores 1")
    assert assay.evaluate(named, (X, Y), **settings).results()


def test_what_a_module_without_weights_keeps_is_in_its_digest() -> None:
    class Kept(nn.Module):
        def __init__(self, weights: np.ndarray) -> None:
            super().__init__()
            self.weights = weights

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ torch.from_numpy(self.weights)

    one, other = np.eye(16, 3, dtype=np.float32), 2 * np.eye(16, 3, dtype=np.float32)
    assert load_model(Kept(one)).digest == load_model(Kept(one.copy())).digest
    assert load_model(Kept(one)).digest != load_model(Kept(other)).digest
