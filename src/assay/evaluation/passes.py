"""How many passes a sample of a cell can cost, counted beforehand."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.certification import certificate_entry
from assay.core.compose import Passes, confirmed, first_attack, most_passes
from assay.core.compose.confirmed import ANSWERS
from assay.core.draws import Draws
from assay.core.goal import Untargeted
from assay.core.oracle import Access, TorchOracle
from assay.core.problem import Problem
from assay.core.search import Attack, Keeps
from assay.core.threat import THREAT_NORMS, Threat
from assay.evaluation.cell import Cell
from assay.evaluation.experiment import Experiment
from assay.evaluation.loader import Loader
from assay.evaluation.study.attacks import entry_of


def passes_per_sample(cell: Cell, *, random: bool = False) -> Passes:
    """Return the most that one sample of a cell can cost, the look at the image itself included.

    `random`: the model draws its answers, so that the image and each success are asked about several times. Of a
    certificate, whose passes depend on the image, what its line in the table says.
    """
    if cell.certificate is not None:
        return Passes(certificate_entry(cell.certificate.certificate).passes * len(cell.budgets), 0)
    method = Experiment.of(cell, Loader()).method()
    method = confirmed(method) if random else method
    budgets = sum(budget.value > 0 for budget in cell.budgets)
    if method.keeps is Keeps.SMALLEST:
        # one run serves every budget
        budgets = min(budgets, 1)
    once = most_passes(method, cell.threat.norm)
    first = first_attack(method)
    # what a file holds is made for images of one size, and does not begin at the image
    by_file = entry_of(cell.attack.attack).file
    begins = first is not None and not by_file and not random and _begins_at_image(first, cell.threat.norm)
    shared = int(begins and first is not None and first.access is Access.GRADIENT)
    targeted = int(cell.goal == "targeted least-likely")
    saved = budgets if begins else 0
    return Passes(
        (ANSWERS if random else 1) + targeted + budgets * once.forwards - saved,
        shared + budgets * once.backwards - (saved if shared else 0),
    )


def queries_per_image(cell: Cell) -> int:
    """Return how often the attack of a cell may ask the model about an image at one budget, the image itself left out.

    What is made on another model, or held in a file, is shown to the model once; a pushed image at most twice.
    """
    if cell.attack.options.get("surrogate") or entry_of(cell.attack.attack).file:
        return 1 + bool(cell.attack.options.get("pushed"))
    return most_passes(Experiment.of(cell, Loader()).method(), cell.threat.norm).forwards


def _begins_at_image(attack: Attack, norm: str) -> bool:
    # asked of the attack itself, on an image of four values that no model ever sees
    x = torch.full((1, 1, 2, 2), 0.5)
    threat = Threat(THREAT_NORMS[norm], 0.1)
    problem = Problem(TorchOracle(torch.nn.Identity()), x, Untargeted(torch.zeros(1, dtype=torch.int64)), threat)
    query: Tensor = attack.init(problem, Draws(torch.zeros(1, dtype=torch.int64)).fold("init")).query
    return torch.equal(query, x)
