"""No fault of a model, a file or a flag ends in a traceback, in any command: each is a sentence and an exit code."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.cli import main
from tests.support.workplace import Workplace, make_workplace

MODELS = """
import sys
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, after=None, before=None):
        super().__init__()
        torch.manual_seed(0)
        self.after, self.before = after, before
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))

    def forward(self, x):
        out = self.inner(self.before(x) if self.before else x)
        return self.after(out) if self.after else out


def raising(error):
    def fail(x):
        raise error

    return lambda: Net(before=fail)


class NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise ValueError("no way back")


def factory_raises():
    raise KeyError("weights")


def factory_exits():
    sys.exit(7)


def printing():
    return Net(before=lambda x: (print("CHATTER"), x)[1])


good = lambda: Net()
number = lambda: 5
runtime = raising(RuntimeError("two lines\\nof it"))
value = raising(ValueError("no such value"))
key = raising(KeyError("a key"))
assertion = raising(AssertionError())
unfinished = raising(NotImplementedError("later"))
recursion = raising(RecursionError("too deep"))
iteration = raising(StopIteration())
leaving = raising(SystemExit(0))
no_file = raising(FileNotFoundError(2, "No such file or directory", "table.bin"))
memory = raising(MemoryError())
shape = lambda: Net(lambda out: out[..., None])
pair = lambda: Net(lambda out: (out, out))
nan = lambda: Net(lambda out: out * float("nan"))
infinite = lambda: Net(lambda out: out / 0)
small = lambda: nn.Sequential(nn.Flatten(), nn.Linear(27, 3))
probabilities = lambda: Net(lambda out: out.softmax(1))
detached = lambda: Net(lambda out: out.detach())
no_score = lambda: Net(lambda out: out[:, :0])
two_classes = lambda: Net(lambda out: out[:, :2])
alone = lambda: Net(before=lambda x: x.reshape(1, -1))
backward = lambda: Net(before=NoBackward.apply)
"""

SAID = {
    "factory_raises": "'bad.py:factory_raises' failed: KeyError: 'weights'",
    "factory_exits": "it called sys.exit(7) (bad.py:",
    "number": "'bad.py:number' returned int; expected a torch.nn.Module",
    "runtime": "failed on images [N, 3, 8, 8] in [0, 1]: RuntimeError: two lines (bad.py:",
    "value": "ValueError: no such value (bad.py:",
    "key": "KeyError: 'a key' (bad.py:",
    "assertion": "failed on images [N, 3, 8, 8] in [0, 1]: AssertionError (bad.py:",
    "unfinished": "NotImplementedError: later (bad.py:",
    "recursion": "RecursionError: too deep (bad.py:",
    "iteration": "StopIteration (bad.py:",
    "leaving": "it called sys.exit(0) (bad.py:",
    "no_file": "No such file or directory: 'table.bin' (bad.py:",
    "memory": "MemoryError (bad.py:",
    "shape": "expected floating-point logits",
    "pair": "The model returned a tuple",
    "small": "mat1 and mat2 shapes cannot be multiplied",
    "no_score": "The model returned no score",
    "alone": "if it takes one image at a time, pass --batch 1",
    "absent": "bad.py has no 'absent'",
}
MEASURED = {
    "nan": "NaN or infinite",
    "infinite": "NaN or infinite",
    "two_classes": "has label 2, but",
}
CLIMBED = {
    **MEASURED,
    "probabilities": "The model returns probabilities",
    "detached": "The model's output has no gradient",
    "backward": "The gradient of the model could not be computed: ValueError: no way back (bad.py:",
}
DATA, QUIET = "--data folder:pictures", "--display none"
COMMANDS = {
    "run": f"run --model {{}} {DATA} --attack fgsm --eps 8/255 --audit off {QUIET} --out new",
    "plan": f"plan --model {{}} {DATA} --attack fgsm --eps 8/255",
    "transfer": f"transfer --surrogate {{}} --target bad.py:good {DATA} --eps 8/255 {QUIET}",
    "patch train": f"patch train --model {{}} {DATA} --size 3 --epochs 1 --out new.safetensors {QUIET}",
    "patch evaluate": f"patch evaluate p.safetensors --model {{}} {DATA} --placements 2 {QUIET}",
    "universal train": f"universal train --model {{}} {DATA} --eps 0.1 --steps 2 --out new.safetensors {QUIET}",
    "doctor": f"doctor --model {{}} {DATA}",
    "audit": f"audit --model {{}} {DATA} --eps 8/255 {QUIET} --out new",
    "train standard": f"train standard --arch {{}} {DATA} --validation 6 --epochs 1 --out new --test= {QUIET}",
    "train distill": f"train distill --arch {{}} {DATA} --validation 6 --epochs 1 --out new --test= {QUIET}",
    "train adversarial": f"train adversarial --arch {{}} {DATA} --validation 6 --epochs 1 --out new --test= {QUIET}",
    "train masked": f"train masked --arch {{}} {DATA} --validation 6 --epochs 1 --out new --test= {QUIET}",
    "train certified": f"train certified --arch {{}} {DATA} --validation 6 --epochs 1 --out new --test= {QUIET}",
    "surrogate": (
        f"train adversarial --arch bad.py:good --method ensemble --surrogate {{}} {DATA} --validation 6 --epochs 1 "
        f"--out new --test= {QUIET}"
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with broken models, a finished run, a patch and a universal perturbation."""
    folder = tmp_path_factory.mktemp("whole")
    make_workplace(folder)
    (folder / "bad.py").write_text(MODELS)
    (folder / "syntax.py").write_text("def factory(:\n")
    (folder / "imports.py").write_text("import nowhere_to_be_found\n")
    (folder / "exits.py").write_text("import sys\nsys.exit(3)\n")
    made = (
        COMMANDS["run"].format("bad.py:good").replace("new", "run"),
        COMMANDS["patch train"].format("bad.py:good").replace("new", "p"),
        COMMANDS["universal train"].format("bad.py:good").replace("new", "u"),
    )
    with contextlib.chdir(folder):
        for line in made:
            with contextlib.suppress(SystemExit):
                main(line.split())
    return folder


@pytest.fixture
def lab(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Workplace]:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield Workplace(tmp_path, capsys)


def fails(lab: Workplace, line: str, *told: str, codes: tuple[int, ...] = (2,)) -> None:
    said = lab.assay(line)
    assert said.code in codes, (line, said)
    assert "Traceback" not in said.out + said.err and "Assay itself failed" not in said.err, (line, said.err)
    words = " ".join((said.out + said.err).split())
    for part in told:
        assert " ".join(part.split()) in words, (line, part, said.err)


def line_of(command: str, spec: str) -> str:
    return COMMANDS[command].format(spec)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_a_broken_model_in_a_sentence(lab: Workplace, command: str) -> None:
    # of all kinds a few; `plan`, the quickest, meets all of them below
    for name in ("factory_exits", "key", "iteration", "pair", "small"):
        # a table breaks the lines of the doctor's findings
        told = () if command == "doctor" else (SAID[name],)
        fails(lab, line_of(command, f"bad.py:{name}"), *told)
    assert not (lab.folder / "new.safetensors").exists()


@pytest.mark.parametrize("name", SAID)
def test_every_broken_model_is_told_in_a_sentence(lab: Workplace, name: str) -> None:
    fails(lab, line_of("plan", f"bad.py:{name}"), SAID[name])


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("syntax.py:factory", "syntax.py could not be imported: SyntaxError"),
        ("imports.py:factory", "No module named 'nowhere_to_be_found'"),
        ("exits.py:factory", "it called sys.exit(3) (exits.py:2)"),
        ("none.py:factory", "There is no file none.py"),
    ],
)
def test_files_that_make_no_model(lab: Workplace, spec: str, told: str) -> None:
    fails(lab, line_of("transfer", spec), told)


@pytest.mark.parametrize(("name", "told"), CLIMBED.items())
def test_answers_that_no_attack_can_climb(lab: Workplace, name: str, told: str) -> None:
    for command in ("transfer", "universal train"):
        fails(lab, line_of(command, f"bad.py:{name}"), told)


@pytest.mark.parametrize(("name", "told"), MEASURED.items())
def test_answers_that_no_patch_can_be_measured_on(lab: Workplace, name: str, told: str) -> None:
    fails(lab, line_of("patch evaluate", f"bad.py:{name}"), told)
    fails(lab, line_of("patch train", f"bad.py:{name}"), told)


def test_networks_to_train_answer_with_logits_for_all_labels(lab: Workplace) -> None:
    fails(lab, line_of("train standard", "bad.py:two_classes"), "has the label 2, but bad.py:two_classes has 2 outputs")
    fails(lab, line_of("train distill", "bad.py:probabilities"), "bad.py:probabilities returns probabilities")
    fails(lab, line_of("surrogate", "bad.py:nan"), "The network bad.py:nan returns NaN or infinite scores")


def test_an_error_at_home_names_the_model_and_debug_shows_the_rest(lab: Workplace) -> None:
    line = line_of("transfer", "bad.py:value")
    said = lab.assay(line)
    assert said.err.startswith("The model bad.py:value failed on images [N, 3, 8, 8] in [0, 1]: ValueError")
    assert len(said.err.splitlines()) == 1
    assert "Traceback (most recent call last)" in lab.assay(f"--debug {line}").err


def test_what_a_model_prints_stays_out_of_the_data(lab: Workplace) -> None:
    said = lab.assay(line_of("transfer", "bad.py:printing"), "--json")
    assert said.code == 0 and said.out.startswith("{") and "CHATTER" in said.err and "CHATTER" not in said.out


@pytest.mark.parametrize(
    "command", ["run", "plan", "transfer", "patch train", "patch evaluate", "universal train", "doctor", "audit"]
)
def test_batch_holds_everywhere(lab: Workplace, command: str) -> None:
    line = COMMANDS[command].format("bad.py:alone").replace("--target bad.py:good", "--target bad.py:alone")
    assert lab.assay(f"{line} --batch 1").code == 0


def test_batch_holds_in_an_export(lab: Workplace) -> None:
    assert lab.assay(COMMANDS["run"].format("bad.py:alone") + " --batch 1").code == 0
    assert lab.assay(f"export images new --out images --batch 1 {QUIET}").code == 0
    fails(lab, f"export images new --out again {QUIET}", "bad.py:alone failed: RuntimeError", codes=(1,))


RUNS = (
    "show {}",
    "report {} --out page.html",
    "audit {}",
    "export images {} --out images",
    "export {} --to evidence",
    "run {} --display none",
)
STUDIES = ("validate {}", "run {}", "plan {}", "doctor {}")
PATCHES = (
    "patch apply {} pictures/0/0.png --out pasted",
    "patch sheet {} --out sheet.pdf",
    f"patch evaluate {{}} --model bad.py:good {DATA}",
    f"run --model bad.py:good {DATA} --attack universal:file={{}} --eps 0.1 --out new",
    f"run --model file:{{}}?arch=mnist-cnn {DATA} --attack fgsm --eps 0.1 --out new",
)
PICTURES = (
    "patch apply p.safetensors {} --out pasted",
    f"patch train --model bad.py:good {DATA} --start {{}} --size 3 --epochs 0 --out new.safetensors",
)


def break_files(folder: Path) -> None:
    (folder / "empty").touch()
    (folder / "binary").write_bytes(bytes(range(256)) * 20)
    (folder / "folder").mkdir()
    (folder / "unclosed.yaml").write_text("models: [1, 2\n")
    (folder / "list.yaml").write_text("- 1\n- 2\n")
    (folder / "cut.safetensors").write_bytes((folder / "p.safetensors").read_bytes()[:60])
    (folder / "cut.png").write_bytes((folder / "pictures" / "0" / "0.png").read_bytes()[:40])


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (RUNS, ("absent", "empty", "folder", "bad.py")),
        (STUDIES, ("absent.yaml", "empty", "binary", "folder", "unclosed.yaml", "list.yaml")),
        (PATCHES, ("absent.safetensors", "empty", "binary", "folder", "cut.safetensors", "bad.py")),
        (PICTURES, ("absent.png", "empty", "binary", "folder", "cut.png")),
    ],
)
def test_files_that_are_not_what_they_should_be(lab: Workplace, lines: tuple[str, ...], names: tuple[str, ...]) -> None:
    break_files(lab.folder)
    for line in lines:
        for name in names:
            fails(lab, line.format(name))


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "study": 5, "status": null}'])
def test_a_damaged_manifest(lab: Workplace, manifest: str) -> None:
    (lab.folder / "run" / "manifest.json").write_text(manifest)
    for line in RUNS:
        fails(lab, line.format("run"), "manifest.json")
    said = lab.assay("ls .")
    assert said.code == 0 and "unreadable" in said.out


def test_damaged_records(lab: Workplace) -> None:
    (shard,) = (lab.folder / "run" / "results").rglob("*.parquet")
    content = bytearray(shard.read_bytes())
    content[4 : len(content) // 3] = b"\xff" * (len(content) // 3 - 4)
    shard.write_bytes(content)
    for line in RUNS[:4]:
        fails(lab, line.format("run"), "part-00000.parquet is damaged", "Delete it and run the study again")
    shard.write_bytes(content[: len(content) // 2])
    said = lab.assay("show run")
    assert (
        said.code == 0 and "part-00000.parquet is cut off or damaged. The numbers leave these samples out" in said.err
    )
    fails(lab, "export images run --out images", "There is nothing to write")
    assert lab.assay("run run --display none --audit off").code == 0
    assert "Warning" not in lab.assay("show run").err


@pytest.mark.parametrize("data", ["folder:absent", "folder:bad.py", "folder:", "folder:unreadable", "mnist/none", "x"])
@pytest.mark.parametrize("command", ["run", "plan", "transfer", "patch train", "universal train", "train standard"])
def test_data_that_are_none(lab: Workplace, command: str, data: str) -> None:
    (lab.folder / "unreadable" / "0").mkdir(parents=True)
    (lab.folder / "unreadable" / "0" / "0.png").write_bytes(b"no picture")
    (lab.folder / "unreadable" / "0" / "1.png").write_bytes(b"no picture")
    fails(lab, line_of(command, "bad.py:good").replace("folder:pictures", data))


FLAGS = {
    "run": (
        "--limit x",
        "--limit 0",
        "--batch 0",
        "--workers 0",
        "--executor x",
        "--device x",
        "--seed x",
        "--norm l7",
    ),
    "transfer": ("--eps x", "--eps 8", "--attack x", "--attack jsma", "--limit 0", "--batch 0", "--device cuda:9"),
    "plan": ("--eps nan", "--eps -1", "--attack pgd:steps=x", "--goal x", "--set x", "--batch 0", "--device x"),
    "doctor": ("--images 0", "--batch 0", "--device x"),
    "patch train": ("--size 0", "--size 99", "--target 9", "--at x", "--scale a,b", "--optimizer x", "--batch 0"),
    "patch evaluate": ("--placements 0", "--grid 0", "--at 99,99", "--held-out 99", "--batch 0"),
    "universal train": ("--eps 0", "--eps x", "--norm l7", "--steps 0", "--target x", "--batch 0", "--out u.txt"),
    "train standard": ("--validation 99", "--epochs -1", "--batch 0", "--learning-rate nan", "--classes 5"),
    "train adversarial": ("--eps x", "--steps 0", "--warmup 5", "--method x", "--beta 1"),
    "train masked": ("--size 0", "--size 99", "--squares 0", "--fill 2"),
    "train certified": ("--eps x", "--train-eps 8", "--warmup .9", "--kappa 2", "--method x"),
    "export": ("--as gif", "--only x", "--cell zz", "--attack x", "--eps 5", "--model x", "--batch 0"),
}


@pytest.mark.parametrize("command", FLAGS)
def test_flags_out_of_range(lab: Workplace, command: str) -> None:
    line = "export images run --out images" if command == "export" else line_of(command, "bad.py:good")
    for flag in FLAGS[command]:
        fails(lab, f"{line} {flag}")
    assert not (lab.folder / "images").exists()


@pytest.mark.parametrize("line", ["attacks x", "data get x", "schema --x", "ls absent", "ls bad.py"])
def test_commands_without_a_model(lab: Workplace, line: str) -> None:
    fails(lab, line)


def test_in_a_process_of_its_own(lab: Workplace) -> None:
    words = [sys.executable, "-m", "assay.cli", *line_of("transfer", "bad.py:leaving").split()]
    done = subprocess.run(words, capture_output=True, text=True, cwd=lab.folder, env=dict(os.environ))
    assert done.returncode == 2 and SAID["leaving"] in done.stderr and "Traceback" not in done.stderr
