"""`pt2:` and `torchscript:`: programs of torch as files, with the gradients, sizes and modes that they have."""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import assay
from assay.attacks.square import Square
from assay.core.errors import BadInput, ModelError
from assay.core.oracle import Access
from assay.models import Classifier, load_model
from assay.models.static_batch import StaticBatch
from tests.support.workplace import MODELS, Workplace, make_workplace

SHAPE = (3, 8, 8)
X = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(3))
Y = torch.zeros(5, dtype=torch.long)


class Net(nn.Module):
    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.dropout, self.last = nn.Dropout(dropout), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.dropout(torch.relu(self.norm(self.conv(x))).mean((2, 3))))


def network(training: bool = False) -> Net:
    torch.manual_seed(0)
    made = Net().train()
    made(torch.rand(16, *SHAPE))  # statistics that are not those of a new layer
    return made.train(training)


def save_program(net: nn.Module, path: Path, rows: Any = None, example: Tensor = X[:2], **options: Any) -> Path:
    shapes = {"x": {0: rows}} if rows is not None else None
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes=shapes, **options), path)
    return path


def save_script(net: nn.Module, path: Path, how: str = "trace") -> Path:
    with warnings.catch_warnings(action="ignore"):  # torch calls TorchScript old
        made = torch.jit.trace(net, X[:2], check_trace=False) if how == "trace" else torch.jit.script(net)
        torch.jit.save(torch.jit.freeze(made) if how == "freeze" else made, str(path))
    return path


def pt2(path: Path, options: str = "") -> Classifier:
    return load_model(f"pt2:{path}{options}", allow_pickle=True)


def script(path: Path, options: str = "") -> Classifier:
    return load_model(f"torchscript:{path}{options}", allow_pickle=True)


WAYS: dict[str, Callable[[nn.Module, Path], Classifier]] = {
    "program": lambda net, at: pt2(save_program(net, at / "n.pt2")),
    "any batch": lambda net, at: pt2(save_program(net, at / "n.pt2", Dim("b"))),
    "2 to 4 rows": lambda net, at: pt2(save_program(net, at / "n.pt2", Dim("b", min=2, max=4))),
    "even rows": lambda net, at: pt2(save_program(net, at / "n.pt2", 2 * Dim("b", max=8), torch.rand(4, *SHAPE))),
    "4 rows or more": lambda net, at: pt2(
        save_program(net, at / "n.pt2", Dim("b", min=4, max=64), torch.rand(6, *SHAPE))
    ),
    "traced": lambda net, at: script(save_script(net, at / "n.pt")),
    "scripted": lambda net, at: script(save_script(net, at / "n.pt", "script")),
    "frozen": lambda net, at: script(save_script(net, at / "n.pt", "freeze")),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_program_is_attacked_as_the_network_that_it_was_made_from(way: str, tmp_path: Path) -> None:
    net = network()
    model = WAYS[way](net, tmp_path)
    assert model.access is Access.GRADIENT
    assert not model.module.training
    for rows in (1, 2, 3, 5):
        torch.testing.assert_close(model.oracle().answers(X[:rows]), net(X[:rows]).detach(), rtol=0, atol=1e-6)
    for attack in (assay.FGSM(), assay.PGD(steps=3)):
        theirs, ours = (assay.attack(attack, one, X, Y, assay.Linf(0.1)) for one in (net, model))
        torch.testing.assert_close(ours.x_adv, theirs.x_adv)
        assert torch.equal(ours.success, theirs.success)
        assert torch.equal(ours.forwards, theirs.forwards)
        assert torch.equal(ours.backwards, theirs.backwards)


def test_the_mode_is_the_wrappers_own(tmp_path: Path) -> None:
    for model in (pt2(save_program(network(), tmp_path / "n.pt2")), script(save_script(network(), tmp_path / "n.pt"))):
        before = model.module(X)
        model.module.train()
        torch.testing.assert_close(model.module(X), before)
        assert model.module.eval() is model.module


def test_the_size_is_the_programs(tmp_path: Path) -> None:
    model = pt2(save_program(network(), tmp_path / "n.pt2"))
    assert model.input_shape == SHAPE
    assert model.channels == 3
    assert model.preprocess is not None and model.preprocess.crop == (8, 8)
    assert any("images of 8x8" in note for note in model.notes)
    assert any("batches of 2 alone" in note for note in model.notes)
    assert not any("8x8" in note for note in pt2(tmp_path / "n.pt2", "?size=8&resize=12").notes)
    with pytest.raises(BadInput, match="says images of 9x9, and the program takes 8x8 alone"):
        pt2(tmp_path / "n.pt2", "?size=9")
    with pytest.raises(BadInput, match="says 4 channels, and the program takes 3"):
        pt2(tmp_path / "n.pt2", "?channels=4")


def test_grey_images_and_normalisation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    torch.export.save(torch.export.export(net, (torch.rand(1, 1, 4, 4),)), tmp_path / "n.pt2")
    model = pt2(tmp_path / "n.pt2", "?mean=0.5&std=0.25")
    assert (model.input_shape, model.mean, model.std) == ((1, 4, 4), (0.5,), (0.25,))
    x = torch.rand(3, 1, 4, 4)
    torch.testing.assert_close(model.oracle().answers(x), net((x - 0.5) / 0.25).detach())


def test_any_number_of_rows_is_put_into_what_a_program_takes() -> None:
    asked: list[int] = []

    class Counted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            return x.flatten(1)[:, :2]

    for rows, most, least, calls in (
        *((5, 2, None, [2, 2, 2]), (4, 2, None, [2, 2]), (5, 4, 2, [4, 2]), (3, 4, 2, [3]), (1, 4, 2, [2])),
        *((6, 1 << 30, 4, [6]), (1, 1 << 30, 4, [4])),
    ):
        asked.clear()
        x = torch.rand(rows, 1, 2, 2)
        assert torch.equal(StaticBatch(Counted(), most, least)(x), x.flatten(1)[:, :2])
        assert asked == calls


# ---- digests


def test_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    first, other = network(), network()
    with torch.no_grad():
        other.last.bias[0] += 1e-6
    for save, load in ((save_program, pt2), (save_script, script)):
        for folder, net in (("a", first), ("b", other)):
            (tmp_path / folder).mkdir(exist_ok=True)
            save(net, tmp_path / folder / "n.pt2")
        shutil.copy(tmp_path / "a" / "n.pt2", tmp_path / "renamed.pt2")
        a, b, renamed = (load(tmp_path / name).digest for name in ("a/n.pt2", "b/n.pt2", "renamed.pt2"))
        assert a == renamed != b


# ---- consent, and other files


def test_nothing_is_read_without_consent(tmp_path: Path) -> None:
    save_program(network(), tmp_path / "n.pt2")
    save_script(network(), tmp_path / "n.pt")
    for name in (f"pt2:{tmp_path}/n.pt2", f"torchscript:{tmp_path}/n.pt"):
        with pytest.raises(BadInput, match=r"could run code that it brings along.*--allow-pickle"):
            load_model(name)


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    program, compiled = save_program(network(), tmp_path / "n.pt2"), save_script(network(), tmp_path / "n.pt")
    torch.save(network().state_dict(), tmp_path / "w.pt")
    (tmp_path / "n.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    (tmp_path / "broken.pt2").write_bytes(program.read_bytes()[:-4000])
    for name, told in (
        (f"pt2:{compiled}", "it is a TorchScript program.*torchscript:FILE"),
        (f"torchscript:{program}", "it is a program of torch.export.*pt2:FILE"),
        (f"file:{program}", "it is a program of torch.export.*pt2:FILE"),
        (f"file:{compiled}", "it is a TorchScript program.*torchscript:FILE"),
        (f"pt2:{tmp_path}/w.pt", r"weights of torch.save.*file:.*w\.pt\?arch="),
        (f"torchscript:{tmp_path}/n.onnx", "it is an ONNX model"),
        (f"pt2:{tmp_path}/m.pt2", "is not there. Did you mean 'n.pt2'"),
        (f"pt2:{tmp_path}", "a folder, expected a file"),
        (f"pt2:{tmp_path}/broken.pt2", "broken.pt2"),
    ):
        with pytest.raises(BadInput, match=told):
            load_model(name)


def test_a_script_that_torch_writes_and_cannot_read_is_one_sentence(tmp_path: Path) -> None:
    # torch 2.14 saves what optimize_for_inference makes without a word; torch.jit.load then fails
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.optimize_for_inference(torch.jit.script(network())), str(tmp_path / "n.pt"))
    with pytest.raises(BadInput, match="could not be read as a TorchScript program: RuntimeError"):
        script(tmp_path / "n.pt")


def test_machine_code_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "n.pt2", "w") as made:
        made.writestr("n/archive_format", "pt2")
        made.writestr("n/data/aotinductor/model/n.so", b"")
    with pytest.raises(BadInput, match="compiled machine code"):
        pt2(tmp_path / "n.pt2")


def test_damaged_programs_are_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = save_program(network(), tmp_path / "n.pt2")
    with zipfile.ZipFile(program) as whole, zipfile.ZipFile(tmp_path / "d.pt2", "w") as damaged:
        for name in whole.namelist():
            if "weight_0" not in name:
                damaged.writestr(name, whole.read(name))
    with pytest.raises(BadInput, match=r"could not be read as a program of torch\.export"):
        pt2(tmp_path / "d.pt2")
    assert capfd.readouterr().err == ""


# ---- what a program takes and answers


class Several(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = Net(), kind

    def forward(self, x: Tensor) -> Any:
        scores, other = self.net(x), x.mean((2, 3))
        answers = {"dict": {"logits": scores, "features": other}, "named": {"a": other, "b": scores}}
        return {**answers, "tuple": (other, scores), "one": (scores,)}[self.kind]


@pytest.mark.parametrize(
    ("kind", "option"),
    [("dict", ""), ("named", "?output=b"), ("tuple", "?output=1"), ("one", ""), ("dict", "?output=logits")],
)
def test_the_scores_are_picked(kind: str, option: str, tmp_path: Path) -> None:
    net = Several(kind).eval()
    model = pt2(save_program(net, tmp_path / "n.pt2"), option)
    torch.testing.assert_close(model.oracle().answers(X), net.net(X).detach(), rtol=0, atol=1e-6)


def test_answers_that_could_be_meant_are_asked_about(tmp_path: Path) -> None:
    save_program(Several("named").eval(), tmp_path / "n.pt2")
    with pytest.raises(ModelError, match=r"returns a \[2, 3\], b \[2, 3\]. Say which are the scores: \?output=a"):
        pt2(tmp_path / "n.pt2")
    with pytest.raises(ModelError, match="output is 'c', and the program returns a"):
        pt2(tmp_path / "n.pt2", "?output=c")


def test_an_argument_by_name(tmp_path: Path) -> None:
    net = network()
    torch.export.save(torch.export.export(net, (), kwargs={"x": X[:2]}), tmp_path / "n.pt2")
    torch.testing.assert_close(pt2(tmp_path / "n.pt2").oracle().answers(X), net(X).detach(), rtol=0, atol=1e-6)


def test_several_arguments_are_refused(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return (x * mask).mean((2, 3))

    torch.export.save(torch.export.export(Two(), (X, X)), tmp_path / "n.pt2")
    with pytest.raises(BadInput, match=r"takes x \[5, 3, 8, 8\], mask .*expected images"):
        pt2(tmp_path / "n.pt2")
    save_script(Two(), tmp_path / "n.pt", "script")
    with pytest.raises(BadInput, match=r"takes \(x: Tensor, mask: Tensor\); expected one tensor"):
        script(tmp_path / "n.pt")


def test_whole_numbers_are_refused(tmp_path: Path) -> None:
    class Bytes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float().mean((2, 3))

    torch.export.save(torch.export.export(Bytes(), ((X * 255).byte(),)), tmp_path / "n.pt2")
    with pytest.raises(BadInput, match="takes images as uint8, expected floating-point"):
        pt2(tmp_path / "n.pt2")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_precisions(dtype: torch.dtype, tmp_path: Path) -> None:
    net = network().to(dtype)
    torch.export.save(torch.export.export(net, (X[:2].to(dtype),)), tmp_path / "n.pt2")
    save_script(net.float(), tmp_path / "unused.pt")
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.freeze(torch.jit.script(net.to(dtype))), str(tmp_path / "f.pt"))
    want = net(X.to(dtype)).detach().double()
    for model in (pt2(tmp_path / "n.pt2"), script(tmp_path / "f.pt")):
        torch.testing.assert_close(model.oracle().answers(X).double(), want, rtol=0, atol=2e-3)
        assert model.access is Access.GRADIENT
        found = assay.attack(assay.PGD(steps=2), model, X, Y, assay.Linf(0.1))
        assert float((found.x_adv - X).abs().max()) > 0.05


# ---- train mode


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_program_exported_in_train_mode_is_refused(decomposed: bool, tmp_path: Path) -> None:
    program = torch.export.export(network(training=True), (X[:2],))
    torch.export.save(program.run_decompositions() if decomposed else program, tmp_path / "n.pt2")
    with pytest.raises(BadInput, match=r"in train mode: batch norm's statistics of the batch, dropout on.*eval\(\)"):
        pt2(tmp_path / "n.pt2")


def test_a_script_traced_in_train_mode_is_refused(tmp_path: Path) -> None:
    save_script(network(training=True), tmp_path / "n.pt")
    with pytest.raises(BadInput, match="in train mode: batch norm's statistics of the batch, dropout on"):
        script(tmp_path / "n.pt")


def test_a_script_that_can_leave_train_mode_leaves_it(tmp_path: Path) -> None:
    save_script(network(training=True), tmp_path / "n.pt", "script")
    torch.testing.assert_close(
        script(tmp_path / "n.pt").oracle().answers(X), network().eval()(X).detach(), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("decomposed", [False, True])
def test_attention_and_instance_norm(decomposed: bool, tmp_path: Path) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.InstanceNorm2d(3)
            self.attention = nn.MultiheadAttention(12, 2, dropout=0.1, batch_first=True)
            self.last = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.norm(x).reshape(x.shape[0], -1, 12)
            return self.last(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))

    net = Attention()
    for training in (False, True):
        program = torch.export.export(net.train(training), (X[:2],))
        torch.export.save(program.run_decompositions() if decomposed else program, tmp_path / f"{training}.pt2")
    got = pt2(tmp_path / "False.pt2")
    assert not got.random
    torch.testing.assert_close(got.oracle().answers(X), net.eval()(X).detach(), rtol=0, atol=1e-5)
    with pytest.raises(BadInput, match=r"in train mode: (attention's )?dropout on"):
        pt2(tmp_path / "True.pt2")


def test_random_numbers_are_told(tmp_path: Path) -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + torch.rand_like(x)).mean((2, 3))

    for model in (
        pt2(save_program(Noisy(), tmp_path / "n.pt2")),
        script(save_script(Noisy(), tmp_path / "n.pt", "script")),
    ):
        assert any("draws random numbers (rand_like)" in note for note in model.notes)
        assert model.random


# ---- gradients


class Straight(torch.autograd.Function):
    """Rounds, and lets the gradient through: what quantised networks are trained with."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # torch's stub takes any number
        return gradient


class Rounding(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = Net(), kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "lost":
            return self.net(Straight.apply(x * 255) / 255)
        if self.kind == "beside":
            return self.net(x + Straight.apply(x * 255) / 255)
        return self.net(x.detach())


def test_a_backward_that_the_export_lost_is_told(tmp_path: Path) -> None:
    lost = pt2(save_program(Rounding("lost").eval(), tmp_path / "lost.pt2"))
    assert lost.access is Access.SCORES
    assert any("steps without a slope (round)" in note for note in lost.notes)
    with pytest.raises(BadInput, match="gives scores"):
        assay.attack(assay.PGD(steps=2), lost, X, Y, assay.Linf(0.1))
    assert assay.attack(Square(queries=5), lost, X, Y, assay.Linf(0.1)).x_adv.shape == X.shape
    beside = pt2(save_program(Rounding("beside").eval(), tmp_path / "beside.pt2"))
    assert beside.access is Access.GRADIENT
    assert any("has lost it" in note for note in beside.notes)
    cut = pt2(save_program(Rounding("cut").eval(), tmp_path / "cut.pt2"))
    assert cut.access is Access.SCORES
    assert any("gives no gradient" in note for note in cut.notes)
    assert not any("slope" in note for note in pt2(save_program(network(), tmp_path / "n.pt2")).notes)


def test_a_quantised_script_gives_scores(tmp_path: Path) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return self.net(x)

    model = script(save_script(Cut().eval(), tmp_path / "n.pt", "script"), "?size=8")
    assert model.access is Access.SCORES
    assert any("gives no gradient" in note for note in model.notes)


def test_a_script_of_unknown_size_is_loaded(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 7 * 9, 3)).eval()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(net), str(tmp_path / "n.pt"))
    assert script(tmp_path / "n.pt").access is Access.GRADIENT
    assert script(tmp_path / "n.pt", "?size=7x9").input_shape == (3, 7, 9)
    with pytest.raises(BadInput, match="failed on images"):
        script(tmp_path / "n.pt", "?size=8")


# ---- everywhere


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workplace:
    monkeypatch.chdir(tmp_path)
    make_workplace(tmp_path)
    scope: dict[str, Any] = {}
    exec(MODELS, scope)
    net = scope["linear"]().eval()
    torch.export.save(torch.export.export(net, (X[:1],)), tmp_path / "n.pt2")
    save_script(net, tmp_path / "n.pt")
    return Workplace(tmp_path, capsys)


@pytest.mark.parametrize("name", ["pt2:n.pt2", "torchscript:n.pt?size=8"])
def test_commands(name: str, place: Workplace) -> None:
    about = f"--model {name} --data folder:pictures"
    attack = "--attack fgsm --eps 4/255,16/255"
    refused = place.assay(f"run {about} {attack} --display none --out runs/refused")
    assert refused.code == 2 and "--allow-pickle" in refused.err
    assert place.assay(f"run {about} {attack} --display none --audit off --out runs/a --allow-pickle").code == 0
    plain = f"run --model toy.py:linear --data folder:pictures {attack} --display none --audit off --out runs/b"
    assert place.assay(plain).code == 0
    ours, theirs = (json.loads(place.assay(f"show runs/{one} --json").out)["results"] for one in ("a", "b"))
    told = [[(row["attack"], row["eps"], row["robust_accuracy"]) for row in rows] for rows in (ours, theirs)]
    assert told[0] == told[1] and told[0]
    assert place.assay(f"plan {about} {attack} --allow-pickle").code == 0
    doctor = place.assay(f"doctor {about} --allow-pickle")
    assert "no zero gradient" in doctor.out + doctor.err
    if name.startswith("pt2"):
        assert place.assay("audit runs/a --allow-pickle --display none").code in (0, 3)
