"""Audits of models that give scores or labels alone: never trusted by themselves, and led by a white-box twin."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import assay
from assay.audit.audit import audit_run
from assay.audit.checks import examine, flags
from assay.audit.led import asked
from assay.audit.verdict_rule import BLACK_BOX, judge, reason
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted
from assay.core.objective import cross_entropy
from assay.core.oracle import Access, LookPasses
from assay.evaluation.loader import Bench, Loader
from assay.evaluation.records.verdicts import Verdict
from assay.models import Classifier, Predictions
from assay.models.deployed import Deployed
from assay.models.remote.client import Reply
from assay.models.remote.module import Endpoint
from assay.spending import Limits
from tests.support.subjects import CLEAN, seen
from tests.support.tiny import CLASSES, SIZE, data, patterns

N = 64


class Matcher(nn.Module):
    """The nearest of the patterns, with weights that a twin can share, or of `other` ones."""

    def __init__(self, other: bool = False) -> None:
        super().__init__()
        found = patterns() if not other else torch.rand(patterns().shape, generator=torch.Generator().manual_seed(9))
        self.fit = nn.Linear(3 * SIZE * SIZE, CLASSES, bias=False)
        self.fit.weight = nn.Parameter((found - found.mean(0)).flatten(1) * 2)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fit(x.flatten(1))
        return scores


class Box:
    """What answers behind an address: it counts the rows that it is asked about."""

    def __init__(self, labels: bool = False) -> None:
        self.rows, self.labels, self.network = 0, labels, Matcher().eval()

    def __call__(self, images: Any) -> Any:
        self.rows += len(images)
        with torch.no_grad():
            scores = self.network(torch.from_numpy(images))
        return scores.argmax(1).numpy() if self.labels else scores.numpy()

    def model(self) -> Classifier:
        module = Predictions(self, classes=CLASSES if self.labels else None)
        access = "labels" if self.labels else "scores"
        return assay.load_model(Classifier(module, input_shape=(3, SIZE, SIZE)), access=access, identity="box")


def twin(other: bool = False) -> Classifier:
    return assay.load_model(Classifier(Matcher(other).eval(), spec="matcher", input_shape=(3, SIZE, SIZE)))


def evaluated(box: Box, attacks: list[Any], eps: float, out: Path) -> assay.Evaluation:
    found = assay.evaluate(box.model(), data(N), attacks, assay.Linf(eps), audit="off", doctor=False, out=out)
    box.rows = 0
    return found


def told(found: assay.Evaluation, said: list[str] | None = None, **more: Any) -> Verdict:
    heard = (said if said is not None else []).append
    (verdict,) = audit_run(found.run, loader=found.loader or Loader(), say=heard, **more)
    return verdict


SQUARE = {"attack": "square", "queries": 30}
SMALL = 1 / 255


@pytest.mark.parametrize("labels", [False, True])
def test_a_black_box_is_never_trusted_and_says_what_to_do(labels: bool, tmp_path: Path) -> None:
    box = Box(labels)
    attack = {"attack": "hop-skip-jump", "queries": 30} if labels else SQUARE
    found, said = evaluated(box, [attack], SMALL, tmp_path), list[str]()
    asked = int(found.results()[0].queries)
    verdict = told(found, said)
    assert verdict.verdict == "suspect"
    assert verdict.why.startswith("A black box: no white-box twin was judged on it")
    assert "--attack pgd:surrogate=MODEL" in verdict.why and "--twin MODEL" in verdict.why
    assert (verdict.access, verdict.twin) == (("labels" if labels else "scores"), "")
    assert verdict.wording == "not broken within 30 queries"
    # nothing that climbs gradients was asked for, or held against it
    assert {"two families", "zero gradients"}.isdisjoint(one.check for one in verdict.findings if one.flag)
    # what it may cost is told before, and it keeps to that
    (bound,) = (
        int(one.split("at most about ")[1].split(" times")[0].replace(",", "")) for one in said if "asks" in one
    )
    assert f"the evaluation asked {asked:,} times" in next(one for one in said if "asks" in one)
    assert 0 < box.rows <= bound


def test_a_number_that_falls_to_more_queries_is_refuted_all_the_same(tmp_path: Path) -> None:
    found = evaluated(Box(), [{"attack": "uniform-noise"}], 40 / 255, tmp_path)
    verdict = told(found, preset="standard")
    assert verdict.survived > 10 and verdict.verdict == "refuted"
    assert all(one.family in ("black box", "") for one in verdict.attempts)


MADE_ON_TWIN = [SQUARE, {"attack": "pgd", "steps": 20, "surrogate": "matcher"}]


@pytest.fixture
def judged(tmp_path: Path) -> tuple[Box, assay.Evaluation]:
    """Return a box whose evaluation holds images made on its white-box twin."""
    box = Box()
    loader = Loader(models={"box": box.model(), "matcher": twin()}, datasets={"tiny": data(N)})
    from assay.evaluation.run_study import Options, run_study
    from assay.evaluation.study.spec import Study

    given = Study.of({
        "study": "led", "models": "box", "data": "tiny", "threats": {"norm": "linf", "eps": ["1/255"]},
        "attacks": MADE_ON_TWIN, "audit": "off",
    })  # fmt: skip
    run = run_study(given, tmp_path, Options(), loader=loader)
    return box, assay.Evaluation(run, loader)


def test_images_made_on_a_twin_and_its_gradients_can_make_it_trusted(judged: tuple[Box, assay.Evaluation]) -> None:
    _, found = judged
    verdict = told(found)
    assert verdict.verdict == "trusted", verdict.why
    assert verdict.twin.startswith("matcher (")
    # the number itself is still one of a model that was only asked
    assert verdict.wording == "not broken within 30 queries"
    assert {one.family for one in verdict.looks} == {"gradient", "minimum norm", "black box"}


def test_a_twin_of_another_network_makes_nothing_trusted(tmp_path: Path) -> None:
    found = evaluated(Box(), [SQUARE], SMALL, tmp_path)
    assert told(found).twin == ""
    # a verdict without the twin does not hold for one with it
    verdict = told(found, twin=twin(other=True))
    assert verdict.twin.startswith("matcher (") and verdict.verdict == "suspect"
    flagged = {one.check for one in verdict.findings if one.flag and one.mandatory}
    assert {"true gradients", "two families"} <= flagged
    # nor is it asked again for one that was given before
    said: list[str] = []
    assert told(found, said, twin=twin(other=True)) == verdict and not said


def test_a_twin_that_does_not_fit_is_named(tmp_path: Path) -> None:
    found = evaluated(Box(), [SQUARE], SMALL, tmp_path)
    wrong = assay.load_model(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), spec="three"))
    with pytest.raises(BadInput, match=r"The twin three has 3 classes, .* has 4\. Give a network of the same classes"):
        told(found, twin=wrong)
    with pytest.raises(BadInput, match=r"gives scores alone, and leads nowhere\. Name a network with gradients"):
        told(found, twin=Box().model())
    small = assay.load_model(Classifier(Matcher(), spec="small", input_shape=(3, 4, 4)))
    with pytest.raises(BadInput, match="takes images of 3 x 4 x 4"):
        told(found, twin=small)


def test_the_rule_says_why() -> None:
    clear = examine(CLEAN)
    from tests.unit.audit.test_verdict_rule import ALL

    assert judge(clear, 80, 0, 0, ALL) == "trusted"
    alone = dataclasses.replace(ALL, black_box=True)
    assert judge(clear, 80, 0, 0, alone) == "suspect"
    assert judge(clear, 80, 80, 2, alone) == "refuted"
    said = reason(clear, (), "suspect", alone, twin="name a twin")
    assert said == f"A{BLACK_BOX[1:]}; nothing more was broken. To know more, name a twin."
    doubt = examine(seen("answers", differ=0.5))
    assert flags(doubt)
    assert "the model is random" in reason(doubt, (), "suspect", alone, twin="name a twin")


@pytest.mark.parametrize("other", [False, True])
def test_a_file_with_a_twin_of_its_own_is_audited_as_a_white_box(other: bool, tmp_path: Path) -> None:
    box = Box()
    module = Deployed(box, Matcher(other).eval())
    model = Classifier(module, input_shape=(3, SIZE, SIZE), identity="file", passes=LookPasses(climbing=2))
    attacks: list[Any] = [SQUARE, {"attack": "pgd", "steps": 20}]
    found = assay.evaluate(model, data(N), attacks, assay.Linf(SMALL), audit="off", doctor=False, out=tmp_path)
    assert {one.wording for one in found.results()} == {"robust accuracy"}
    verdict = told(found)
    assert verdict.access == "gradient"
    flagged = {one.check for one in verdict.findings if one.flag and one.mandatory}
    if other:
        # gradients of another network lead nowhere, and the slopes of the file itself show it
        assert "true gradients" in flagged and verdict.verdict != "trusted"
    else:
        # heads were planted on the features of the twin
        assert "planted solutions" not in flagged and verdict.verdict == "trusted", verdict.why


class Client:
    """The client of an endpoint that may be asked `most` times."""

    identity, host, loopback = "stub", "stub", True

    def __init__(self, most: int) -> None:
        self.rows, self.answer, self.limits = 0, Box(), Limits(queries=most)

    def ask(self, rows: Any) -> Reply:
        self.rows += len(rows)
        return Reply(self.answer(rows))

    def content(self, row: Any) -> bytes:
        return bytes(row.tobytes())


def test_an_audit_for_which_too_little_is_left_ends_in_words(tmp_path: Path) -> None:
    client = Client(10_000)
    model = assay.load_model(
        Classifier(Endpoint(client), input_shape=(3, SIZE, SIZE), identity="stub"), access="scores"
    )
    found = assay.evaluate(model, data(N), [SQUARE], assay.Linf(SMALL), audit="off", doctor=False, out=tmp_path)
    # without a session the endpoint counts anew
    client.rows, client.limits = 0, Limits(queries=50)
    said: list[str] = []
    assert audit_run(found.run, loader=found.loader or Loader(), say=said.append) == []
    assert client.rows <= 50
    assert "was not finished, and its numbers have no verdict" in said[-1]
    assert f"`assay audit {tmp_path}` goes on from the answers so far" in said[-1]


class Rounded:
    """Log-probabilities in steps of 1/256, as a quantised file gives them."""

    step, floor = 1 / 256, math.log(1 / 512)

    def __init__(self) -> None:
        self.network = Matcher().eval()

    def __call__(self, images: Any) -> Any:
        with torch.no_grad():
            p = self.network(torch.from_numpy(images)).mul(40).softmax(1)
        return (p * 256).round().div(256).clamp_min(1 / 512).log().numpy()


def test_gradients_of_a_twin_tell_apart_in_an_audit_too_what_a_file_rounded_to_zero() -> None:
    box = Classifier(Deployed(Rounded()), input_shape=(3, SIZE, SIZE), access=Access.SCORES, identity="rounded")
    x, y = patterns()[:4].clamp(0, 1), torch.arange(4)
    with asked(Bench(box, box.oracle()), (), twin(), Loader()) as led:
        climbed = led.classifier.oracle().look(x, Untargeted(y), cross_entropy, Access.GRADIENT, Draws(y))
        plain = led.classifier.oracle().look(x, Untargeted(y), cross_entropy, Access.SCORES, Draws(y))
    rounded = plain.logits == plain.logits.amin(1, keepdim=True)
    assert bool((rounded.sum(1) > 1).all())
    # what is judged is the file's own
    assert bool((plain.logits.argmax(1) == climbed.logits.argmax(1)).all())
    # the others are no longer equal
    assert all(len(row[zero].unique()) > 1 for row, zero in zip(climbed.logits, rounded, strict=True))
