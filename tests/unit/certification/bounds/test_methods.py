"""The methods ibp, crown and auto-lirpa: what they refuse, what they ask first, what they book."""

import dataclasses
import sys
import types

import pytest
import torch
from torch import nn

import assay
from assay.attacks import build
from assay.certification import CERTIFICATES, make_certificate, written_certificate
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Targeted, Untargeted
from assay.core.masks import Mask
from assay.core.norms import L0, L2, NORMS
from assay.core.oracle import Access
from assay.core.problem import CachedLook, Problem
from assay.core.threat import Threat
from assay.defenses.chain import Step
from assay.models import Classifier


def small(seed=0):
    torch.manual_seed(seed)
    return Classifier(
        nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(36, 4),
        )
    )  # fmt: skip


def problem_of(model, n=6, threat=None, wrong=()):
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with model.held(), torch.no_grad():
        y = model.module(x).argmax(1)
    for i in wrong:
        y[i] = (y[i] + 1) % 4
    return Problem(model.oracle(), x, Untargeted(y), threat or Threat(NORMS["linf"]))


def proved(written, model, problem, budgets):
    method = make_certificate(*written_certificate(written))
    method.check(model, problem)
    return method.prove(model, problem, budgets, Draws(torch.arange(len(problem.x))))


def test_crown_asks_intervals_first_and_stops_where_an_image_is_open():
    model = small()
    problem = problem_of(model, wrong=[2])
    budgets = [0.0005, 0.02, 0.5, 0.9]
    found, ibp = (proved(one, model, problem, budgets) for one in ("crown", "ibp"))
    assert found.prediction.tolist() == ibp.prediction.tolist()
    assert not found.certified[:, 2].any() and found.lower[:, 2].isnan().all()
    right = torch.arange(6) != 2
    assert ibp.certified[0, right].all() and found.certified[:2, right].all() and not found.certified[2:].any()
    # nothing is asked about an image that is open at a smaller budget
    assert found.lower[2, right].isfinite().all() and found.lower[3].isnan().all()
    assert (found.lower[:2, right] >= ibp.lower[:2, right].nan_to_num(-1e9)).all()
    assert not ibp.cost.backwards.any() and int(found.cost.backwards[2]) == 0
    # of the smallest budget alone intervals settle all: two forwards, three for rounding, one for the answer
    least = proved("crown", model, problem, budgets[:1])
    assert not least.cost.backwards.any() and set(least.cost.forwards.tolist()) == {1, 6}


def test_grades_are_ordered_and_images_are_their_own():
    model = small(3)
    problem = problem_of(model)
    grades = ["crown:grade=nominal", "crown:grade=real", "crown"]
    nominal, real, deployed = (proved(one, model, problem, [0.01]).lower[0] for one in grades)
    assert (nominal > real).all() and (real > deployed).all() and (nominal - deployed).max() < 1e-2
    alone = dataclasses.replace(problem, x=problem.x[2:3], goal=Untargeted(problem.goal.y[2:3]))
    torch.testing.assert_close(proved("crown", model, alone, [0.01]).lower[0, 0], deployed[2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_certified_image_is_broken(norm):
    model = small(1)
    problem = problem_of(model, n=10, threat=Threat(NORMS[norm]))
    eps = {"linf": 0.03, "l2": 0.15, "l1": 0.5}[norm]
    found = proved("crown", model, problem, [eps])
    threat = Threat(NORMS[norm], eps=eps)
    broken = assay.attack(build("apgd", steps=10), model, problem.x, problem.goal.y, threat=threat).success
    assert found.certified.any() and not (found.certified[0] & broken).any()


def test_a_mask_leaves_more_to_prove():
    model, mask = small(), torch.zeros(8, 8)
    mask[2:4, 2:4] = 1
    plain = problem_of(model, threat=Threat(L2))
    masked = dataclasses.replace(plain, threat=Threat(L2, mask=Mask.of(mask)))
    wide, narrow = (proved("crown", model, one, [0.4]) for one in (plain, masked))
    assert (narrow.lower[0] > wide.lower[0]).all()
    noise = torch.rand(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    z = Threat(L2, eps=0.4, mask=Mask.of(mask)).project(noise, plain.x[:1].expand(500, -1, -1, -1))
    z = torch.where(mask.bool(), z, plain.x[:1])
    with torch.no_grad():
        logits = model.module(z).double()
    own = logits[:, plain.goal.y[0]]
    others = logits.index_fill(1, plain.goal.y[:1], -torch.inf).amax(1)
    assert float(narrow.lower[0, 0]) <= float((own - others).min())


def test_the_answer_that_is_known_is_not_asked_again():
    model = small()
    problem = problem_of(model)
    asked = proved("ibp", model, problem, [0.01])
    seen = problem.oracle.look(problem.x, problem.goal, _margin, Access.SCORES, Draws(torch.arange(6)))
    known = dataclasses.replace(problem, known=CachedLook(problem.x, _margin, seen))
    spared = proved("ibp", model, known, [0.01])
    assert (asked.cost.forwards - spared.cost.forwards).tolist() == [1] * 6
    assert torch.equal(asked.certified, spared.certified)


def _margin(logits, goal):
    return goal.lead(logits)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rejects": True}, "refuse images"),
        ({"random": True}, "drawn at random.*smoothing"),
        ({"reset": lambda module: None}, "state between calls"),
        ({"access": Access.SCORES}, "scores alone"),
        ({"defenses": (Step("bits", {}),)}, "defended by .*bits"),
        ({"module": small().module.bfloat16()}, "bfloat16.*float"),
    ],
)
def test_models_without_bounds_are_refused_in_words(changes, named):
    problem = problem_of(small())
    for written in CERTIFICATES:
        if CERTIFICATES[written].bounds:
            with pytest.raises(BadInput, match=named):
                make_certificate(written, {}).check(dataclasses.replace(small(), **changes), problem)


def test_other_questions_are_refused():
    model = small()
    problem = problem_of(model)
    for threat, goal, named in (
        (Threat(L0, eps=3), problem.goal, "no bounds in l0"),
        (problem.threat, Targeted(problem.goal.y, (problem.goal.y + 1) % 4), "another goal"),
    ):
        with pytest.raises(BadInput, match=named):
            make_certificate("crown", {}).check(model, dataclasses.replace(problem, threat=threat, goal=goal))


def test_auto_lirpa_is_asked_where_it_is_installed(monkeypatch):
    model, asked = small(), []
    problem = problem_of(model, n=3)

    class Bounded:
        def __init__(self, module, x):
            self.module = module

        def __call__(self, x):
            return self.module(x)

        def compute_bounds(self, x, C, method, bound_upper):
            asked.append((x[0][1], C, method))
            return (C @ self.module(x[0][0])[:, :, None]).squeeze(2) - 100 * float(
                (x[0][1]["x_U"] - x[0][0]).max()
            ), None

    fake = types.ModuleType("auto_LiRPA")
    fake.BoundedModule, fake.BoundedTensor = Bounded, lambda x, ball: (x, ball)
    fake.PerturbationLpNorm = lambda **given: given
    monkeypatch.setitem(sys.modules, "auto_LiRPA", fake)
    found = proved("auto-lirpa:method=alpha-crown", model, problem, [1e-6, 0.3])
    assert found.certified[0].all() and not found.certified[1].any()
    ball, rows, method = asked[0]
    assert method == "CROWN-Optimized" and rows.shape == (3, 3, 4) and rows.sum() == 0
    assert (ball["x_L"] >= 0).all() and (ball["x_U"] <= 1).all() and (ball["x_U"] >= problem.x + 1e-6 - 1e-7).all()
    assert found.cost.backwards.tolist() == [6, 6, 6]


def test_auto_lirpa_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    with pytest.raises(BadInput, match=r"pip install git.*crown"):
        make_certificate("auto-lirpa", {}).check(small(), problem_of(small()))
