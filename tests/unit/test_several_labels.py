"""Multi-label models attacked from Python: closed forms, every attack, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import assay
from assay.attacks import ATTACKS, build

N, K = 12, 5
THREATS = {"linf": assay.Linf(0.2), "l2": assay.L2(1.5), "l1": assay.L1(6), "l0": assay.L0(30), "patch": assay.Patch(3)}
torch.manual_seed(11)
NET = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, K)).eval()
for _parameter in NET.parameters():
    _parameter.requires_grad_(False)
X = 0.35 + 0.3 * torch.rand(N, 3, 4, 4, generator=torch.Generator().manual_seed(3))
SCORES = NET(X)
Y = SCORES > 0
REACH = NET[1].weight.abs().sum(1)
# no class number fits: some images have no label, or all of them, in neither sense
ROOM = SCORES.abs() / REACH


def broken(goal: assay.MultiLabel | assay.MultiLabelTargeted, eps: float, method=None) -> torch.Tensor:
    return assay.attack(method or assay.PGD(steps=20), NET, X, goal.y, assay.Linf(eps), goal=goal).success


@pytest.mark.parametrize("eps", [0.004, 0.01, 0.02])
def test_the_nearest_plane_decides_exactly(eps: float) -> None:
    """A linear score moves by at most eps times the L1 norm of its weights; the box is out of reach."""
    for words, candidates in (("any", torch.ones_like(Y)), ("hide", Y), ("add", ~Y)):
        nearest = torch.where(candidates, ROOM, torch.inf).amin(1)
        expected = nearest < eps
        for name in ("deepfool", "fab-t", "apgd-t"):
            options = {"steps": 10} | ({"targets": K} if name.endswith("-t") else {"classes": K})
            found = broken(assay.MultiLabel(Y, words), eps, build(name, **options))
            assert torch.equal(found, expected), (words, name)
    assert 0 < int((ROOM.amin(1) < 0.01).sum()) < N


def test_margin_and_cross_entropy_break_what_the_closest_score_allows() -> None:
    closest = SCORES.abs().argmin(1, keepdim=True)
    expected = ROOM.gather(1, closest)[:, 0] < 0.01
    for objective in ("margin", "cross_entropy", "scaled_cross_entropy", "dlr"):
        found = broken(assay.MultiLabel(Y), 0.01, build("fgsm", objective=objective))
        assert torch.equal(found | expected, found), objective


def test_a_target_set_is_reached_as_a_whole() -> None:
    weight = torch.zeros(2, 3, 4, 4)
    weight[0, 0], weight[1, 1] = 1, 1
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with torch.no_grad():
        net[1].weight.copy_(weight.view(2, -1))
        net[1].bias.fill_(-8)
    x = torch.full((3, 3, 4, 4), 0.5)
    x[1, 0], x[1, 1] = 0.55, 0.55
    x[2, 0], x[2, 1] = 0.45, 0.55
    y = net(x) > 0
    assert y.tolist() == [[False, False], [True, True], [False, True]]
    goal = assay.MultiLabelTargeted(y, torch.tensor([[1, 1], [0, 0], [1, -1]]))
    # each label has its own channel: sixteen values of eps each
    for eps, expected in ((0.02, [True, False, False]), (0.06, [True, True, True])):
        result = assay.attack(assay.PGD(steps=10), net, x, y.long(), assay.Linf(eps), goal=goal)
        assert result.success.tolist() == expected
        answers = net(result.x_adv) > 0
        assert answers[0].tolist() == [True, True] and (eps < 0.05 or not answers[1].any())


ALONE = {"jsma": "labels do not compete"}
QUICK = {"steps": 8, "queries": 300, "rounds": 2, "generations": 3, "population": 40, "targets": K}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_runs_or_says_why_not(name: str) -> None:
    entry = ATTACKS[name]
    known = entry.options
    options = {option: value for option, value in QUICK.items() if option in known}
    norm = entry.norms[0]
    goal = assay.MultiLabel(Y[:3], "hide")
    arguments = (build(name, **options), NET, X[:3], Y[:3], THREATS[norm])
    if name in ALONE:
        with pytest.raises(assay.BadInput, match=ALONE[name]):
            assay.attack(*arguments, goal=goal)
        return
    result = assay.attack(*arguments, goal=goal)
    present = NET(result.x_adv) > 0
    assert torch.equal(result.success, (Y[:3] & ~present).any(1))
    assert torch.allclose(result.logits, NET(result.x_adv), atol=1e-5)
    # grey blocks move all channels alike: far less than the ball holds
    weak = entry.family in ("baseline", "label", "score") or name in ("pdpgd", "block-grey")
    assert weak or result.success.all()


def test_images_without_a_label_to_hide_are_left_out() -> None:
    y = Y.clone()
    y[0] = False
    net = nn.Sequential(NET, nn.Identity())
    result = assay.attack(assay.FGSM(), net, X, y, assay.Linf(0.05), goal=assay.MultiLabel(y, "hide"))
    assert result.excluded.tolist() == [True] + [False] * (N - 1)
    assert not result.success[0] and torch.equal(result.x_adv[0], X[0])


def test_a_sweep_of_budgets() -> None:
    budgets = [assay.Linf(eps) for eps in (0.002, 0.01, 0.05)]
    curve = assay.sweep(assay.PGD(steps=10), NET, X, Y, budgets, goal=assay.MultiLabel(Y))
    counts = [int(one.success.sum()) for one in curve]
    assert counts == sorted(counts) and counts[0] < counts[-1] == N


def test_declared_probabilities_are_attacked_as_log_odds() -> None:
    shown = nn.Sequential(NET, nn.Sigmoid())
    goal = assay.MultiLabel(Y)
    plain = assay.attack(assay.PGD(steps=5), NET, X, Y, assay.Linf(0.01), goal=goal)
    model = assay.load_model(shown, outputs="probabilities")
    same = assay.attack(assay.PGD(steps=5), model, X, Y, assay.Linf(0.01), goal=goal)
    assert torch.equal(plain.success, same.success)
    torch.testing.assert_close(plain.logits, same.logits, atol=1e-4, rtol=1e-4)
    with pytest.raises(assay.BadInput, match="a sigmoid for each label"):
        assay.attack(assay.FGSM(), shown, X, Y, assay.Linf(0.01), goal=goal)


@pytest.mark.parametrize(
    ("y", "goal", "words"),
    [
        (Y, None, "say what counts as broken: goal=assay.MultiLabel(y)"),
        (Y.float(), assay.Untargeted(Y[:, 0].long()), "say what counts as broken"),
        (torch.eye(K)[torch.arange(N) % K], None, "One-hot labels become class numbers by y.argmax(1)"),
        (Y[:, 0].long(), assay.MultiLabel(Y), "expected multi-hot labels [12, K]"),
        (~Y, assay.MultiLabel(Y), "The goal holds other labels than y"),
        (Y[:, :4], assay.MultiLabel(Y[:, :4]), "gives 5 scores per image and the labels are 4"),
        (Y[:, :1].float(), None, "y.flatten().long()"),
    ],
)
def test_labels_that_do_not_fit_are_one_sentence(y, goal, words: str) -> None:
    with pytest.raises(assay.BadInput, match=re.escape(words)):
        assay.attack(assay.FGSM(), NET, X, y, assay.Linf(0.1), goal=goal)


def test_evaluations_name_the_way() -> None:
    for data in ([(x, y) for x, y in zip(X, Y.float(), strict=True)], (X, Y.long())):
        with pytest.raises(assay.BadInput, match=r"goal=assay.MultiLabel\(y\)"):
            assay.evaluate(NET, data, attacks=["fgsm"], threat=assay.Linf(0.1), audit="off", doctor=False)
    with pytest.raises(assay.BadInput, match=r"threshold 0\.3 is for a model with one score"):
        model = assay.load_model(nn.Sequential(NET, nn.Sigmoid()), outputs="probabilities", threshold=0.3)
        assay.attack(assay.FGSM(), model, X, Y, assay.Linf(0.1), goal=assay.MultiLabel(Y))
