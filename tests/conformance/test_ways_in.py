"""However models and data come in, sample for sample the verdicts are those of plain torch on the same pictures."""

from __future__ import annotations

import collections
import csv
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

import assay
from assay.cli import main
from assay.data import image_digest, images_alone
from assay.evaluation.run import Run
from tests.support import ways_models, ways_pictures
from tests.support.ways_models import EPS, KINDS, NAMED_KINDS, fitted, handed_over, plain_fgsm, plain_logits
from tests.support.ways_pictures import EVERY, LABELS, NAMED_SOURCES, OBJECTS, Source, images

ALL_KINDS = {**KINDS, **NAMED_KINDS}
ALL_SOURCES = {**OBJECTS, **NAMED_SOURCES}
CHANNELS = {"grey": 1, "colour": 3}

# half-precision logits differ by rounding, by the layout that a convolution is computed in
COARSE = {"atol": 2e-2, "rtol": 2e-2}

# what the files of users hold: `own.py:NAME_C` is one of the models, or of the forms of the data
OWN = """
from functools import partial

from tests.support import ways_models, ways_pictures

for c in (1, 3):
    globals()[f"untrained_{c}"] = partial(ways_models.Viewing, c)
    globals()[f"scores_{c}"] = partial(ways_models.scores, c)
    globals()[f"inner_{c}"] = partial(ways_models.pooling, c)
    for name, one in {**ways_models.KINDS, **ways_pictures.OBJECTS}.items():
        globals()[f"{name}_{c}"] = partial(one.make, c)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ways")
    ways_pictures.write(folder)
    ways_models.write(folder)
    (folder / "own.py").write_text(OWN)
    return folder


@pytest.fixture
def place(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(written)
    return written


@functools.cache
def numbers_of(channels: int) -> Mapping[str, int]:
    """Return which picture has which digest."""
    return {image_digest(one): i for i, one in enumerate(images(channels))}


@functools.cache
def expected(name: str, channels: int) -> tuple[str, ...]:
    """Return the status that plain torch gives each picture."""
    clean, moved, _ = plain_fgsm(ALL_KINDS[name], channels)
    told = zip((clean == LABELS).tolist(), (moved == LABELS).tolist(), strict=True)
    return tuple("clean_wrong" if not right else "survived" if still else "broken" for right, still in told)


def check(run: Run, names: Iterable[str], channels: int, taken: frozenset[int] = EVERY) -> None:
    """The models of a run, in this order, judged every picture that was taken as plain torch does."""
    rows = collections.defaultdict(list)
    for row in run.records().to_pylist():
        if row["eps"] > 0:
            rows[row["cell"]].append(row)
    names = list(names)
    assert len(rows) == len(names)
    for name, cell in zip(names, run.cells, strict=True):
        told = {numbers_of(channels)[row["image_digest"]]: row for row in rows[cell]}
        assert told.keys() == taken, name
        assert {i: row["label"] for i, row in told.items()} == {i: int(LABELS[i]) for i in taken}, name
        assert {i: row["status"] for i, row in told.items()} == {i: expected(name, channels)[i] for i in taken}, name
    for result, name in zip(run.results(), names, strict=True):
        own = [expected(name, channels)[i] for i in taken]
        assert result.n == len(taken)
        assert result.clean_accuracy == pytest.approx(1 - own.count("clean_wrong") / len(taken))
        assert result.robust_accuracy == pytest.approx(own.count("survived") / len(taken))


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize("name", ALL_KINDS)
def test_the_numbers_can_tell_models_apart(name: str, channels: int) -> None:
    """Some pictures are mistaken, some break, some survive: nothing here agrees because all is right or wrong."""
    counts = collections.Counter(expected(name, channels))
    assert min(counts[one] for one in ("clean_wrong", "broken", "survived")) >= 3


def evaluated(source: Source, channels: int, names: list[str]) -> None:
    models = [handed_over(ALL_KINDS[name], channels) for name in names]
    data = source.make(channels)
    if isinstance(data, str) and data.startswith("hdf5:"):
        pytest.importorskip("h5py")
    check(
        assay.evaluate(models, data, attacks="fgsm", threat=assay.Linf(EPS), audit="off", doctor=False).run,
        names,
        channels,
        source.taken,
    )


TURNS = 6


def turn_of(source: str, colours: str) -> int:
    """Return which sixth of the models a source meets: in grey another one than in colour."""
    return (list(ALL_SOURCES).index(source) + 3 * (colours == "grey")) % TURNS


@pytest.mark.parametrize("colours", CHANNELS)
@pytest.mark.parametrize("name", ALL_SOURCES)
def test_from_python(place: Path, name: str, colours: str) -> None:
    """Every source meets a sixth of the models in each colour, and every model a sixth of the sources."""
    evaluated(ALL_SOURCES[name], CHANNELS[colours], list(ALL_KINDS)[turn_of(name, colours) :: TURNS])


@pytest.mark.slow
@pytest.mark.parametrize("colours", CHANNELS)
@pytest.mark.parametrize("name", ALL_SOURCES)
def test_from_python_with_the_other_models(place: Path, name: str, colours: str) -> None:
    others = [one for i, one in enumerate(ALL_KINDS) if i % TURNS != turn_of(name, colours)]
    evaluated(ALL_SOURCES[name], CHANNELS[colours], others)


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize("name", ALL_KINDS)
def test_an_attack_on_tensors(place: Path, name: str, channels: int) -> None:
    kind = ALL_KINDS[name]
    made = kind.make(channels)
    if isinstance(made, str) or kind.outputs != "logits":
        made = handed_over(kind, channels)
    result = assay.attack(assay.FGSM(), made, images(channels), LABELS, assay.Linf(EPS))
    _, moved, points = plain_fgsm(kind, channels)
    assert torch.equal(result.success, moved != LABELS)
    # the sign of a gradient that rounding alone tells from 0 is anybody's
    assert float((result.x_adv - points).abs().gt(1e-6).double().mean()) < 0.01
    with torch.no_grad():
        told = plain_logits(kind, channels, result.x_adv)
    torch.testing.assert_close(result.logits.to(told.dtype), told, **({} if kind.dtype.itemsize > 2 else COARSE))


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(words))
    return int(left.value.code or 0)


# by code, every form of a model that has a factory; callables are wrapped there
BY_CODE = {name: one for name, one in KINDS.items() if not one.callable}


def named_model(name: str, channels: int) -> str:
    """Return what stands behind --model."""
    kind = ALL_KINDS[name]
    if name in NAMED_KINDS:
        return str(kind.make(channels))
    # a Classifier describes itself
    return f"own.py:{name}_{channels}" + ("" if kind.describes_itself else f"?channels={channels}")


def named_source(name: str, channels: int) -> str:
    """Return what stands behind --data."""
    return f"own.py:{name}_{channels}" if name in OBJECTS else str(NAMED_SOURCES[name].make(channels))


def pairs() -> list[tuple[str, str, int]]:
    """Return pairs in which every source and every model that the command line can name appears."""
    sources, models = list(ALL_SOURCES), [*BY_CODE, *NAMED_KINDS]
    count = max(len(sources), len(models))
    return [(sources[i % len(sources)], models[i % len(models)], (1, 3)[i % 2]) for i in range(count)]


@pytest.mark.parametrize(("source", "model", "channels"), pairs())
def test_on_the_command_line(place: Path, tmp_path: Path, source: str, model: str, channels: int) -> None:
    if source == "hdf5":
        pytest.importorskip("h5py")
    flags = ["--outputs", ALL_KINDS[model].outputs, "--attack", "fgsm", "--eps", EPS, "--audit", "off"]
    what = ["--model", named_model(model, channels), "--data", named_source(source, channels)]
    assert command("run", *what, *flags, "--display", "none", "--out", str(tmp_path / "run")) == 0
    check(Run.open(tmp_path / "run"), [model], channels, ALL_SOURCES[source].taken)


HEAD = f"study: all\nattacks: fgsm\naudit: off\nthreats: {{norm: linf, eps: ['{EPS}']}}\n"


@pytest.mark.parametrize(("channels", "step"), [(1, 4), *(pytest.param(c, 1, marks=pytest.mark.slow) for c in (1, 3))])
def test_all_models_in_a_study(place: Path, tmp_path: Path, channels: int, step: int) -> None:
    """All models that a study can name, or every fourth, on one source; each is named by itself above."""
    names = [*BY_CODE, *NAMED_KINDS][::step]
    models = [f"{{model: '{named_model(one, channels)}', outputs: {ALL_KINDS[one].outputs}}}" for one in names]
    study = tmp_path / "s.yaml"
    study.write_text(f"{HEAD}models: [{', '.join(models)}]\ndata: '{named_source('csv', channels)}'\n")
    assert command("run", str(study), "--display", "none", "--out", str(tmp_path / "models")) == 0
    check(Run.open(tmp_path / "models"), names, channels)


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3], ids=CHANNELS)
def test_all_data_in_a_study(place: Path, tmp_path: Path, channels: int) -> None:
    """All sources whole under one model."""
    whole = [one for one, source in ALL_SOURCES.items() if source.taken == EVERY and one != "hdf5"]
    data = ", ".join(f"'{named_source(one, channels)}'" for one in whole)
    study = tmp_path / "s.yaml"
    study.write_text(f"{HEAD}models: '{named_model('viewing', channels)}'\ndata: [{data}]\n")
    assert command("run", str(study), "--display", "none", "--out", str(tmp_path / "data")) == 0
    check(Run.open(tmp_path / "data"), ["viewing"] * len(whole), channels)


# how it is refused, and the words that say what to do
REFUSED = {
    "probabilities that nobody declared": ("own.py:probabilities_3", "csv", "fgsm", "--outputs probabilities"),
    "options of what describes itself": ("own.py:described_3?size=12", "csv", "fgsm", "its options belong there"),
    "scores alone, asked for gradients": ("own.py:scores_3", "npz", "fgsm", "Attacks that fit"),
    "colour for a model of grey images": ("own.py:viewing_1?channels=1", "numpy_arrays", "fgsm", "channels"),
}


@pytest.mark.parametrize(("model", "source", "attack", "fix"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_says_what_to_do(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str, source: str, attack: str, fix: str
) -> None:
    what = ["--model", model, "--data", named_source(source, 3), "--attack", attack, "--eps", EPS]
    assert command("run", *what, "--audit", "off", "--display", "none", "--out", str(tmp_path / "run")) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert fix in told
    assert "Traceback" not in told


def test_no_gradients_are_missed_in_a_model_of_scores(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("doctor", "--model", "own.py:scores_3", "--data", named_source("npz", 3)) == 0
    assert "gives scores alone" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", ALL_KINDS)
def test_labels_that_the_model_predicts_are_those_of_plain_torch(place: Path, name: str) -> None:
    kind = ALL_KINDS[name]
    data = assay.load_data(images_alone(images(3)), model=assay.load_model(handed_over(kind, 3)), labels="predicted")
    assert list(data.labels) == plain_fgsm(kind, 3)[0].tolist()


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize("where", ["python", "command line"])
def test_a_model_of_scores(place: Path, tmp_path: Path, where: str, channels: int) -> None:
    """There is no FGSM on it: what an attack by scores made is judged by plain torch."""
    net, out = fitted(ways_models.pooling, channels), tmp_path / "run"
    attack = {"attack": "square", "queries": 60}
    if where == "python":
        done = assay.evaluate(
            ways_models.scores(channels),
            (images(channels), LABELS),
            attack,
            assay.Linf(EPS),
            out,
            audit="off",
            doctor=False,
        )
    else:
        what = ["--model", f"own.py:scores_{channels}", "--data", named_source("npz", channels)]
        flags = ["--attack", "square:queries=60", "--eps", EPS, "--audit", "off", "--display", "none"]
        assert command("run", *what, *flags, "--out", str(out)) == 0
        done = assay.Evaluation(Run.open(out))
    done.export_images(tmp_path / "made", form="npy", only="all")
    (result,) = done.results()
    with torch.no_grad():
        clean = net(images(channels)).argmax(1) == LABELS
        made = [row for row in done.records().to_pylist() if row["eps"] > 0]
        rows = {row["sample_id"]: numbers_of(channels)[row["image_digest"]] for row in made}
        broken = 0
        for row in csv.DictReader((tmp_path / "made" / "index.csv").read_text().splitlines()):
            image, i = np.load(tmp_path / "made" / row["file"])[int(row["row"])], rows[row["sample_id"]]
            moved = torch.from_numpy(image).view(1, channels, 12, 12)
            assert float((moved[0] - images(channels)[i]).abs().max()) <= 24 / 255 + 1e-6
            broken += int(bool(clean[i]) and int(net(moved).argmax()) != int(LABELS[i]))
    assert result.clean_accuracy == pytest.approx(float(clean.double().mean()))
    assert 0 < broken == round(24 * (result.clean_accuracy - result.robust_accuracy))


def test_an_audit_sees_through_a_state_that_begins_again(place: Path) -> None:
    verdicts, checks = [], ("rounding", "true gradients", "zero gradients", "planted solutions")
    for name in ("pooling", "remembering", "remembering_probabilities"):
        run = assay.evaluate(
            handed_over(KINDS[name], 3), (images(3), LABELS), "fgsm", assay.Linf("8/255"), audit="off", doctor=False
        )
        found = {one.check: one.value for one in run.audit()[0].findings}
        verdicts.append([found[check] for check in checks])
    assert verdicts[0] == pytest.approx(verdicts[1], abs=0.02)
    assert verdicts[2][1] == pytest.approx(1, abs=0.02)


def test_pictures_become_what_each_model_takes(place: Path) -> None:
    """Of two models, each gets the pictures of one data set in its own size and channels."""
    grey = assay.load_model(fitted(ways_models.pooling, 1), size=10, channels=1)
    colour = assay.load_model(fitted(ways_models.pooling, 3), size=8)
    run = assay.evaluate(
        [grey, colour], ways_pictures.Pictures(3), "fgsm", assay.Linf(EPS), audit="off", doctor=False
    ).run
    for model in (grey, colour):
        own = assay.load_data(ways_pictures.Pictures(3), model=model)
        assert own.input_shape == model.input_shape
        digests = {image_digest(own.read(i)) for i in range(len(own))}
        assert digests <= {row["image_digest"] for row in run.records().to_pylist()}
