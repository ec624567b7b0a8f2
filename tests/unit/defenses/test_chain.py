"""Chains of defences: as they are written, as they are built, and what is said of those that cannot be."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

import assay
from assay.attacks import build as attack
from assay.core.errors import BadInput
from assay.core.goal import answer_of
from assay.core.signals import Signals, with_refusal
from assay.defenses import DEFENSES
from assay.defenses.chain import parse_chain, split_spec, written_chain
from assay.defenses.detectors import MaxSoftmax
from assay.defenses.fitted import Fitted, Threshold, chosen_threshold, read_fitted, write_fitted
from assay.defenses.layers import Rejecting, Transformed
from assay.defenses.transformations import BitDepth
from assay.models.defended import defended, usual_file

X = torch.linspace(0, 1, 2 * 28 * 28).reshape(2, 1, 28, 28)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()


def test_written_and_read_are_the_same() -> None:
    name, steps = split_spec("zoo:mnist-cnn | bit-depth:bits=3|max-softmax:threshold=-0.9,fpr=0.05")
    assert name == "zoo:mnist-cnn"
    # what is the default is left out, and options stand in the order of the table
    assert written_chain(steps) == "bit-depth:bits=3|max-softmax:threshold=-0.9"
    assert parse_chain(written_chain(steps)) == steps


@pytest.mark.parametrize(
    ("chain", "told"),
    [
        ("bit-dept", r"Unknown defence 'bit-dept'. Did you mean 'bit-depth'\?"),
        ("bit-depth:bit=1", r"has no option 'bit'. Did you mean 'bits'\?"),
        ("bit-depth:bits=0", r"bits is 0, expected a whole number of 1 or more, at most 8"),
        ("bit-depth:bits", "no option=value"),
        ("", "Unknown defence ''"),
        ("max-softmax:fpr=0", "fpr is 0, expected a share between 0 and 1"),
        ("max-softmax:fpr=1", "fpr is 1, expected a share between 0 and 1"),
        ("max-softmax:file=nowhere.safetensors", "the file nowhere.safetensors is not there. Fit it: assay defend fit"),
    ],
)
def test_slips_are_named(chain: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        assay.defend(net(), chain)


def test_the_image_meets_the_steps_from_the_left() -> None:
    model = assay.defend(net(), "bit-depth:bits=2|max-softmax:threshold=-0.5")
    rounded = (X * 3).round() / 3
    assert model.rejects and model.undefended is not None and model.spec.endswith("|max-softmax:threshold=-0.5")
    inside = net()(rounded)
    assert torch.equal(model.module(X)[:, :10], inside)
    refused = inside.softmax(1).amax(1) < 0.5
    assert torch.equal(model.module(X).argmax(1) == 10, refused)
    # a defended model that is defended again: the new step is met first
    twice = assay.defend(model, "bit-depth:bits=1")
    assert [step.name for step in twice.defenses] == ["bit-depth", "bit-depth", "max-softmax"]
    assert torch.equal(twice.module(X)[:, :10], net()(X.round()))


def test_the_digest_covers_thresholds_options_and_what_is_inside() -> None:
    chains = ("bit-depth:bits=2", "bit-depth:bits=3", "max-softmax:threshold=-0.5", "max-softmax:threshold=-0.51")
    digests = [assay.defend(net(), chain).digest for chain in chains]
    assert len({*digests, assay.load_model(net()).digest}) == 5
    assert assay.defend(net(), chains[2]).digest == digests[2]


def test_a_users_own_refusals_stay_refusals_behind_defences() -> None:
    own = assay.load_model(net(), rejects=True)  # its tenth class means "refused"
    assert own.digest != assay.load_model(net()).digest
    behind = assay.defend(own, "bit-depth:bits=2|max-softmax:threshold=0")
    rounded = net()((X * 3).round() / 3)
    assert behind.module(X).shape == (2, 10)
    assert torch.equal(behind.module(X).argmax(1), rounded.argmax(1))


def test_attacks_succeed_where_the_answer_is_wrong_and_accepted() -> None:
    model = assay.defend(net(), "max-softmax:threshold=-0.2")
    y = net()(X).argmax(1)
    found = assay.attack(attack("pgd", steps=20, objective="margin"), model, X, y, assay.L2(4.0))
    answers = model.module(found.x_adv).argmax(1)
    assert bool(found.success.any())
    assert torch.equal(found.success, (answers != y) & (answers != 10))


def _fit(scores: torch.Tensor, network: str) -> Fitted:
    one = Threshold(chosen_threshold(scores, 0.05), 2.0, 0.05, scores.sort().values)
    return Fitted("max-softmax", network, {0: one}, {}, frozenset({"00" * 8, "ab" * 8}), {"data": "mnist/train"})


def test_a_fit_is_written_and_read_whole(tmp_path: Path) -> None:
    scores = torch.rand(100)
    fitted = _fit(scores, "some")
    write_fitted(fitted, tmp_path / "a.safetensors")
    back = read_fitted(tmp_path / "a.safetensors", "max-softmax", "some", named=True)
    assert back.images == fitted.images and back.told == fitted.told
    assert torch.equal(back.thresholds[0].scores, scores.sort().values)
    assert back.thresholds[0].value == fitted.thresholds[0].value == float(scores.sort().values[94])
    with pytest.raises(BadInput, match="fitted for another model"):
        read_fitted(tmp_path / "a.safetensors", "max-softmax", "other", named=True)
    with pytest.raises(BadInput, match="was fitted for 'max-softmax', not for 'margin'"):
        read_fitted(tmp_path / "a.safetensors", "margin", "some", named=True)
    (tmp_path / "b.safetensors").write_bytes(b"no such file")
    with pytest.raises(BadInput, match="cannot be read as a fitted defence"):
        read_fitted(tmp_path / "b.safetensors", "max-softmax", "some", named=True)


def test_a_fit_in_the_cache_is_found_by_the_plain_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    bare = assay.load_model(net())
    scores = -net()(torch.rand(50, 1, 28, 28)).softmax(1).amax(1).detach()
    write_fitted(_fit(scores, bare.digest), usual_file(bare.digest, parse_chain("max-softmax")))
    model = defended(bare, "max-softmax")
    assert model.fitted is not None and model.rejects
    refused = model.module(X).argmax(1) == 10
    high = -net()(X).softmax(1).amax(1) > model.fitted.thresholds[0].value
    assert torch.equal(refused, high)
    # scores of a model with other weights mean nothing
    with pytest.raises(BadInput, match="no fit of it is kept here"):
        assay.defend(dataclasses.replace(bare, digest="other"), "max-softmax")


@pytest.mark.parametrize("n", [1, 19, 20, 100, 500])
def test_threshold_is_the_inverted_cdf_quantile(n: int) -> None:
    import numpy as np

    scores = torch.rand(n)
    for fpr in (0.01, 0.05, 0.5):
        wanted = np.quantile(scores.numpy(), 1 - fpr, method="inverted_cdf")
        assert chosen_threshold(scores, fpr) == pytest.approx(float(wanted))
        assert int((scores > chosen_threshold(scores, fpr)).sum()) <= fpr * n + 1e-6


@pytest.mark.parametrize("name", DEFENSES)
def test_every_line_says_what_it_is(name: str) -> None:
    line = DEFENSES[name]
    assert line.summary and line.paper
    assert line.differentiable == (line.backward == "exact")
    for option in line.all_options.values():
        assert option.help.endswith(".") or option.help.endswith("?"), option


def test_one_score_per_image_is_two_classes_to_a_detector_and_stays_one_score_behind_a_step() -> None:
    torch.manual_seed(0)
    one = nn.Sequential(nn.Flatten(), nn.Linear(784, 1)).eval()
    two = torch.cat([torch.zeros(2, 1), one(X)], 1)
    assert assay.defend(one, "bit-depth:bits=8").module(X).shape == (2, 1)
    for chain in ("max-softmax:threshold=-0.9", "margin:threshold=-1"):
        answer = assay.defend(one, chain).module(X)
        assert answer.shape == (2, 3)
        assert torch.equal(answer[:, :2], two)
    mean = assay.defend(one, "crop-ensemble:crops=1,share=1").module(X)
    assert torch.allclose(mean, two.log_softmax(1))


def test_an_infinite_score_is_a_refusal() -> None:
    seen = Signals(torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]), torch.tensor([torch.inf, -torch.inf, torch.nan]))
    answer = with_refusal(seen)
    assert answer_of(answer).tolist() == [2, 1, -1]
    # 1e6 is beyond half precision
    assert answer_of(with_refusal(Signals(torch.ones(1, 2).half(), torch.tensor([1e6])))).tolist() == [2]


def test_a_rejecting_module_is_known_as_one() -> None:
    own = Rejecting(MaxSoftmax(), net(), -0.5)
    assert assay.load_model(own).rejects
    assert assay.load_model(Transformed(BitDepth(), own)).rejects
    behind = assay.defend(own, "bit-depth:bits=8")
    assert behind.rejects
    assert behind.module(X).shape == (2, 11)
    assert not assay.load_model(net()).rejects


def test_an_exported_program_stands_behind_defences() -> None:
    program = torch.export.export(net(), (X,)).module()
    behind = assay.defend(program, "bit-depth:bits=8|max-softmax:threshold=-0.5")
    assert behind.module(X).shape == (2, 11)


def test_a_copy_of_a_model_that_refuses_has_its_reset_where_it_was() -> None:
    told: list[nn.Module] = []
    own = net()
    behind = assay.defend(assay.load_model(own, rejects=True, reset=told.append), "bit-depth|median")
    assert behind.reset is not None
    behind.reset(copy.deepcopy(behind.module))
    assert type(told[0]) is nn.Sequential
    assert told[0] is not own


def test_probabilities_are_said_of_the_network_and_seen_behind_a_mean() -> None:
    soft = nn.Sequential(net(), nn.Softmax(1))
    with pytest.raises(BadInput, match="Say it of the network"):
        assay.load_model(assay.defend(soft, "median"), outputs="probabilities")
    with pytest.raises(BadInput, match="the network returns probabilities"):
        assay.defend(soft, "crop-ensemble:crops=2").module(X)
    told = assay.load_model(soft, outputs="probabilities")
    assert assay.defend(told, "crop-ensemble:crops=2").module(X).shape == (2, 10)


def test_goals_that_rank_or_count_labels_do_not_fit_a_detector() -> None:
    y, several = torch.tensor([0, 1]), torch.ones(2, 10, dtype=torch.bool)
    model = assay.defend(net(), "max-softmax:threshold=-0.5")
    with pytest.raises(BadInput, match="ranks classes, and this model may refuse"):
        assay.attack(attack("fgsm"), model, X, y, assay.Linf(0.1), goal=assay.OutOfTop(y, 2))
    for chain in ("max-softmax:threshold=-0.5", "crop-ensemble:crops=2"):
        with pytest.raises(BadInput, match=f"{chain.partition(':')[0]} takes an image to be of one class"):
            assay.attack(
                attack("fgsm"), assay.defend(net(), chain), X, several, assay.Linf(0.1), goal=assay.MultiLabel(several)
            )
