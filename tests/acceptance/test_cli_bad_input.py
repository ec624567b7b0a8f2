"""Bad input: each kind is refused with a message that names the value, the expectation and the fix, and with code 2."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch

from tests.support.workplace import RUN, Workplace, make_workplace


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workplace:
    monkeypatch.chdir(tmp_path)
    make_workplace(tmp_path)
    return Workplace(tmp_path, capsys)


def given(**changes: str) -> str:
    """Return a run's command line with some of its flags changed."""
    flags = {"model": "toy.py:linear", "data": "folder:pictures", "attack": "fgsm", "eps": "4/255", **changes}
    return "run " + " ".join(f"--{name.replace('_', '-')}={value}" for name, value in flags.items())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (given(model="torchvision:resnet1O1"), "Did you mean 'torchvision:resnet101'?"),
        (given(model="toy.py:linar"), "toy.py has no 'linar'. Did you mean 'linear'?"),
        (given(model="nothing.py:linear"), "nothing.py"),
        (given(model="resnet101"), "Did you mean 'torchvision:resnet101'?"),
        (given(attack="pgdd"), "--attack: Unknown attack 'pgdd'. Did you mean 'pgd'?"),
        (given(attack="pgd:stps=3"), "Did you mean 'steps'?"),
        (given(attack="fgm"), "fgm works in l2, l1, not in linf"),
        (given(data="minst/test"), "Unknown data 'minst/test'. Did you mean 'mnist/test'?"),
        (given(data="folder:pics"), "pics"),
        (given(eps="8"), "--eps: 8 is larger than the image range [0, 1]. Did you mean 8/255?"),
        (given(eps="-0.1"), "--eps: The budget -0.1 is negative"),
        (given(eps="nan"), "--eps: 'nan' is not a budget"),
        (given(eps="much"), "--eps: 'much' is not a budget. Write a budget as '8/255'"),
        (given(goal="targeted=9"), "--goal: "),
        (given(norm="linff"), "'linff' is not one of 'linf'"),
        (given(sample_id="9/9.png"), "There is no sample '9/9.png'"),
        (given(limit="0"), "--limit: "),
        (given(executor="procceses"), "Unknown executor 'procceses'. Did you mean 'processes'?"),
        (given(workers="0"), "workers is 0, expected 1 or more"),
        (given(devices="cpu,gpu:0"), "The device 'gpu:0' cannot be used here"),
        (given(devices="cpu,cpu:9"), "The device 'cpu:9' is not on this machine. There are: cpu"),
        (given(devices="cpu,cpu", workers="1"), "workers is 1, fewer than the devices (cpu, cpu)"),
        (given(devices="cpu", executor="ray"), "devices are those of worker processes, and the executor is ray"),
        (given(fail_on_error="-1"), "--fail-on-error -1 is no limit; expected any"),
        (given(model="toy.py:probabilities"), "The model returns probabilities (each row sums to 1)."),
        (given(outputs="probabilities"), "rows sum to"),
        (given(model="toy.py:pair"), "The model returned a tuple, expected one tensor of logits"),
        (given(model="toy.py:nothing_but_nan"), "NaN or infinite values for 18 of 18 images"),
        (given(model="toy.py:two_classes"), "has label 2, but the model has 2 classes, 0 to 1"),
        (given(model="toy.py:rounding"), "has no gradient"),
        (given(model="toy.py:linear?size=5"), "The model failed on images [N, 3, 5, 5]"),
        (given(model="file:weights.pt?arch=mnist-cnn"), "weights.pt"),
        ("run study.yml", "There is no study 'study.yml'"),
        ("run", "Nothing to run. Give a study file, or flags such as --model"),
        ("run --model toy.py:linear", "--data is missing. Write for example --data mnist/test."),
        ("run --bogus", "No such option: --bogus"),
    ],
)
def test_flags(place: Workplace, line: str, words: str) -> None:
    said = place.assay(line)
    assert words in " ".join(said.err.replace("│", " ").split())
    assert said.code in ((1, 2) if "rounding" in line else (2,))
    assert "Traceback" not in said.err
    assert said.out == ""


def test_normalised_budgets_need_a_known_normalisation(place: Workplace) -> None:
    said = place.assay(RUN.replace("--eps 4/255,16/255 ", ""), "--eps", "normalized 0.02")
    assert said.code == 2
    assert "the normalisation of toy.py:linear is unknown" in said.err
    known = place.assay(
        RUN.replace("--eps 4/255,16/255 ", "").replace("toy.py:linear", "toy.py:linear?mean=0,0,0&std=1,1,1"),
        "--eps", "normalized 0.02",
    )  # fmt: skip
    assert known.code == 0, known.err


def test_a_study_names_line_and_column(place: Workplace) -> None:
    Path("study.yaml").write_text(
        "study: a\nmodels: [toy.py:linear]\ndata: folder:pictures\nthreats:\n  - {norm: linf, eps: [4/255, 8]}\n"
        "attaks: [fgsm]\n"
    )
    said = place.assay("run study.yaml")
    assert said.code == 2
    assert "study.yaml:6:1  attaks: Unknown key 'attaks'. Did you mean 'attacks'?" in said.err
    assert "study.yaml:5:31  threats[0].eps[1]: 8 is larger than the image range [0, 1]." in said.err
    assert "Did you mean 8/255?" in said.err
    assert not Path("runs").exists()


def test_an_empty_folder(place: Workplace) -> None:
    Path("empty").mkdir()
    said = place.assay(given(data="folder:empty"))
    assert said.code == 2
    assert "empty" in said.err


def test_a_malicious_pickle_is_not_executed(place: Workplace) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, ("harm",)

    torch.save({"weight": Harm()}, "evil.pt")
    for command in (given(model="file:evil.pt?arch=mnist-cnn"), "doctor --model=file:evil.pt --data=folder:pictures"):
        said = place.assay(command)
        assert said.code == 2
        assert "--allow-pickle" in said.err + said.out
    assert not Path("harm").exists()


def test_a_directory_of_another_study(place: Workplace) -> None:
    assert place.assay(f"{RUN} --out runs/a").code == 0
    said = place.assay(f"{RUN} --out runs/a --seed 3")
    assert said.code == 2
    assert "runs/a belongs to another study (seed 3 here, seed 0 there). Use another --out, or --fork" in said.err


def test_a_directory_with_other_files(place: Workplace) -> None:
    said = place.assay(f"{RUN} --out pictures")
    assert said.code == 2
    assert "pictures holds other files" in said.err
    Path("file").touch()
    assert "file is a file" in place.assay(f"{RUN} --out file").err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place(place: Workplace) -> None:
    Path("locked").mkdir()
    Path("locked").chmod(stat.S_IRUSR | stat.S_IXUSR)
    said = place.assay(f"{RUN} --out locked/a")
    assert said.code == 2
    assert "You may not write there" in said.err


def test_no_connection(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.data import Unavailable

    def gone(*_: object, **__: object) -> None:
        raise Unavailable("no route to host")

    monkeypatch.setenv("ASSAY_CACHE", "cache")
    monkeypatch.setattr("assay.data.imagenet_samples.fetch_wheel", gone)
    said = place.assay(given(data="samples"))
    assert said.code == 2
    assert "could not be fetched: no route to host" in said.err
