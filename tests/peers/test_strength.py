"""Attacks whose random draws or details differ from the references' reach what they reach, on a tiny model."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from benchmarks.strength import libraries, ours
from benchmarks.strength.board import BUDGET, MINIMUM, OURS, Contender, Row, Task
from benchmarks.strength.counted import Counted, sizes, wrong

pytestmark = pytest.mark.peers

# of 12 pixels the last row and column would reach no weight
CLASSES, SHAPE, IMAGES = 10, (3, 13, 13), 40


@dataclasses.dataclass(frozen=True)
class Meeting:
    """One attack of ours and a reference with the same number of steps."""

    norm: str
    own: Contender
    peer: Contender
    eps: float | None = None

    @property
    def task(self) -> Task:
        kind = MINIMUM if self.eps is None else BUDGET
        row = Row("row", kind, "", self.norm, self.own, (self.peer,), images=IMAGES, eps=self.eps)
        return Task.of(row, self.own)


def own(name: str, **options: object) -> Contender:
    return Contender(OURS, name, options)


def apgd(norm: str, theirs: str, eps: float) -> Meeting:
    peer = Contender("pyautoattack", "apgd", {"norm": theirs, "eps": eps, "n_iter": 25})
    return Meeting(norm, own("apgd", steps=25), peer, eps)


def square(norm: str, theirs: str, eps: float) -> Meeting:
    peer = Contender("pyautoattack", "square", {"norm": theirs, "eps": eps, "n_queries": 200, "p_init": 0.8})
    return Meeting(norm, own("square", queries=200, rescale=True), peer, eps)


fab_of_the_authors = Contender("pyautoattack", "fab", {"norm": "L2", "eps": 9.0, "n_iter": 25})

MEETINGS = {
    "apgd linf": apgd("linf", "Linf", 0.04),
    "apgd l2": apgd("l2", "L2", 0.8),
    "apgd l1": apgd("l1", "L1", 5.0),
    "square linf": square("linf", "Linf", 0.08),
    "ddn": Meeting("l2", own("ddn", steps=60), Contender("adv-lib", "ddn", {"steps": 60, "levels": None})),
    "fmn linf": Meeting("linf", own("fmn", steps=60), Contender("adv-lib", "fmn", {"norm": float("inf"), "steps": 60})),
    "fmn l2": Meeting("l2", own("fmn", steps=60), Contender("foolbox", "L2FMNAttack", {"steps": 60})),
    "deepfool": Meeting("l2", own("deepfool"), Contender("foolbox", "L2DeepFoolAttack", {"steps": 50})),
    "fab": Meeting("l2", own("fab", steps=25), fab_of_the_authors),
    "carlini-wagner": Meeting(
        "l2",
        own("carlini-wagner", inner=60, rounds=5),
        Contender("foolbox", "L2CarliniWagnerAttack", {"binary_search_steps": 5, "steps": 60}),
    ),
    "sigma-zero": Meeting("l0", own("sigma-zero", steps=60), Contender("adv-lib", "sigma_zero", {"num_steps": 60})),
}


@pytest.fixture(scope="module")
def model() -> Counted:
    torch.manual_seed(3)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(400, CLASSES),
    )
    return Counted(layers.requires_grad_(False), SHAPE, CLASSES).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    torch.manual_seed(5)
    return (torch.rand(IMAGES, *SHAPE) * 1.6 - 0.3).clamp(0, 1)


@pytest.mark.parametrize("name", MEETINGS)
def test_ours_reaches_what_the_reference_reaches(name: str, model: Counted, images: Tensor) -> None:
    meeting = MEETINGS[name]
    with torch.no_grad():
        y = model(images).argmax(1)
    torch.manual_seed(0)
    ours_at = reached(meeting, model, images, y, ours.attacked(model, images, y, meeting.task).x)
    theirs_at = reached(meeting, model, images, y, libraries.attacked(model, images, y, meeting.peer))
    if meeting.eps is not None:
        left, theirs = int(ours_at.isinf().sum()), int(theirs_at.isinf().sum())
        # neither so easy nor so hard that any attack would agree
        assert 2 <= theirs <= IMAGES - 2, theirs
        assert left <= theirs + 2, (left, theirs)
        return
    assert int(ours_at.isinf().sum()) <= int(theirs_at.isinf().sum())
    assert float(ours_at.median()) <= 1.02 * float(theirs_at.median())


def reached(meeting: Meeting, model: Counted, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return the size of the change `[N]`, infinite where the image is not broken within the budget."""
    with torch.no_grad():
        broken = wrong(model(z.clamp(0, 1)), y)
    size = sizes(z, x, meeting.norm)
    if meeting.eps is not None:
        broken &= size <= meeting.eps * (1 + 1e-4)
    return size.masked_fill(~broken, torch.inf)
