"""What an audit is for: broken defences are refuted, honest networks are not doubted, weak attacks are not trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.attacks import PGD
from assay.audit.audit import audit_run
from assay.audit.checks import examine
from assay.audit.evidence import gather
from assay.audit.rule import judge
from assay.audit.subject import Metered, Subject
from assay.audit.zoo import BROKEN
from assay.core.compose import run
from assay.core.draws import Draws
from assay.core.goal import Goal, Untargeted
from assay.core.objective import cross_entropy
from assay.core.oracle import Direct, frozen
from assay.core.problem import Problem
from assay.core.search import Keeps
from assay.core.threat import Linf
from assay.data import load_data
from assay.evaluate.loading import Loader
from assay.evaluate.run import run_study
from assay.evaluate.study import Study
from assay.evaluate.verdict import Verdict
from assay.models import load_model
from tests.honest import HONEST, honest

CASCADE = ("cascade",)
USUAL = ({"attack": "pgd", "steps": 40},)
BUDGETS = {"linf": "0.1", "l2": "1.0", "l1": "10"}


def audited(folder: Path, model: Any, eps: str, attacks: tuple[Any, ...] = CASCADE, **more: Any) -> Verdict:
    norm, digits, seed = more.get("norm", "linf"), more.get("digits", 16), more.get("seed", 0)
    loader = Loader() if isinstance(model, str) else Loader(models={model.spec: model})
    given = Study.of(
        {
            "study": "audited",
            "models": model if isinstance(model, str) else model.spec,
            "data": {"source": "mnist/test", "limit": digits},
            "threats": {"norm": norm, "eps": [eps]},
            "attacks": list(attacks),
            "chunk": 50,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        done = run_study(given, folder, loader=loader)
        (verdict,) = audit_run(done, loader=loader, seed=seed)
    return verdict


@pytest.mark.parametrize("name", ["distillation", "rounding", "noisy_logits"])
def test_a_broken_defence_is_refuted(name: str, tmp_path: Path) -> None:
    verdict = audited(tmp_path / "run", f"assay.audit.zoo.mnist:{name}", "0.3", USUAL)
    assert verdict.verdict == "refuted"
    assert verdict.after_escalation <= 0.1
    assert verdict.images is not None


@pytest.mark.parametrize(("model", "eps"), [("zoo:mnist-cnn", "0.1"), ("zoo:mnist-pgd", "0.3")])
def test_an_honest_network_under_the_cascade_is_not_doubted(model: str, eps: str, tmp_path: Path) -> None:
    verdict = audited(tmp_path / "run", model, eps)
    assert [one for one in verdict.findings if one.flag and one.mandatory] == []
    assert verdict.verdict == "trusted"


WEAK = ["fgsm", {"attack": "pgd", "steps": 1}, {"attack": "pgd", "step_size": 0.0}]


@pytest.mark.parametrize("attack", WEAK, ids=["fgsm", "one step", "no step"])
def test_a_weak_attack_is_not_trusted(attack: Any, tmp_path: Path) -> None:
    assert audited(tmp_path / "run", "zoo:mnist-pgd", "0.3", (attack,), digits=12).verdict != "trusted"


def _away(logits: Tensor, goal: Goal) -> Tensor:
    return -cross_entropy(logits, goal)


def test_an_attack_of_the_wrong_sign_is_not_trusted() -> None:
    model, count = load_model("zoo:mnist-pgd"), 20
    data = load_data("mnist/test", model=model, limit=count)
    x, y = torch.stack([one.image for one in data.load(range(count))]), torch.tensor(data.labels)
    method, draws = PGD(20, objective=_away), Draws.of(data.ids, 0)
    with frozen(model.module) as module:
        problem = Problem(Metered(Direct(module)), x, Untargeted(y), Linf(0.3))
        survived = ~run(method, problem, draws, keeps=Keeps.FIRST).success
        subject = Subject(module, problem, draws, survived, (method,), 20.0 * count, 10)
        findings = examine(gather(subject))
    assert judge(findings, int(survived.sum()), 0, 0) == "suspect"
    planted = next(one for one in findings if one.check == "planted solutions")
    assert planted.flag
    assert planted.value == 0


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_the_whole_zoo_is_not_trusted_and_most_of_it_refuted(tmp_path: Path) -> None:
    told = {
        name: [
            audited(tmp_path / f"{name}-{seed}", f"assay.audit.zoo.mnist:{name}", "0.3", USUAL, digits=200, seed=seed)
            for seed in range(3)
        ]
        for name in BROKEN
    }
    verdicts = {name: [one.verdict for one in each] for name, each in told.items()}
    assert all(len(set(each)) == 1 for each in verdicts.values()), verdicts
    assert all("trusted" not in each for each in verdicts.values()), verdicts
    assert sum(each[0] == "refuted" for each in verdicts.values()) >= 9, verdicts
    left = {name: max(one.after_escalation for one in each) for name, each in told.items()}
    bare = audited(tmp_path / "bare", "zoo:mnist-cnn", "0.3", digits=200).as_first_measured
    # those that truly add more, or hold, are named in the note on the zoo
    assert sum(one <= bare + 0.05 for one in left.values()) >= 9, left


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", HONEST)
def test_no_honest_network_is_refuted(name: str, tmp_path: Path) -> None:
    classifier = honest(name)
    verdicts: dict[str, list[str]] = {}
    for norm, eps in BUDGETS.items():
        verdicts[norm] = [
            audited(tmp_path / f"{norm}-{seed}", classifier, eps, norm=norm, digits=200, seed=seed).verdict
            for seed in range(3)
        ]
    assert all(len(set(each)) == 1 for each in verdicts.values()), verdicts
    assert all("refuted" not in each for each in verdicts.values()), verdicts
    assert sum("suspect" in each for each in verdicts.values()) <= 1, verdicts
