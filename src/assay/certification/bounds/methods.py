"""The methods `ibp` and `crown`: lower bounds of a network's leads over every image that a threat allows.

Three grades say of what they hold. `deployed`, the default: of the network as it computes in float32, in any order of
summation (`rounding` says what is left out), for every image that the judge accepts. `real`: of the network in real
numbers, for the same images. `nominal`: what bound libraries print, for changes up to eps itself, without an allowance
for rounding.

Costs are in passes of the network. Intervals take two forwards, and three more where rounding is bounded; CROWN takes
one more forward, and as many backwards as its rows multiply numbers, divided by the multiplications of one pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from assay.attacks.options import Option
from assay.certification.bounds.crown import Bounds, Work, bounds_over, label_rows, lowest_leads, other_classes
from assay.certification.bounds.graph import Graph, check_graph, record
from assay.certification.bounds.interval import interval_margins
from assay.certification.bounds.operations import Relu
from assay.certification.bounds.region import Region, refuse_norm
from assay.certification.bounds.rounding import UNITS, refuse_short_products, rounding_errors
from assay.certification.bounds.rows import Rows
from assay.certification.certificate import Certificates
from assay.core.draws import Draws
from assay.core.errors import BadInput
from assay.core.goal import Untargeted, answer_of
from assay.core.objective import margin
from assay.core.oracle import Access, Cost
from assay.core.problem import Problem
from assay.core.tensors import counts, take
from assay.models import Classifier

Grade = Literal["deployed", "real", "nominal"]

_GRADE = Option("Of what the bounds hold: the float32 network as deployed, in real numbers, or eps without tolerance.")

# values of all layers that are held at once, of all images in a chunk
_CHUNK = 2_000_000


@dataclasses.dataclass(frozen=True)
class IBP:
    """Interval bounds, layer by layer: two forwards an image, and loose unless the network was trained for them.

    Gowal et al. 2018. The last layer is merged with the differences of the logits.
    """

    grade: Annotated[Grade, _GRADE] = "deployed"

    alpha: ClassVar[float] = 0.0

    def check(self, model: Classifier, problem: Problem) -> None:
        """Raise `BadInput` for what there are no bounds of; see `Certificate`."""
        _graph_of(model, problem, self.grade)

    def prove(self, model: Classifier, problem: Problem, budgets: Sequence[float], draws: Draws) -> Certificates:
        """Return what intervals prove; see `Certificate`."""
        return _proved(self.grade, -1, model, problem, budgets)


@dataclasses.dataclass(frozen=True)
class CROWN:
    """Linear bounds, propagated backwards: for the images that intervals leave open, at each budget.

    Zhang et al. 2018. Inputs of ReLUs are bounded by the same pass, where intervals leave them undecided.
    Where that leaves an image open, `alpha_steps` of gradient ascent on the lower slopes follow (Xu et al. 2021).
    """

    grade: Annotated[Grade, _GRADE] = "deployed"
    alpha_steps: Annotated[int, Option("Steps of gradient ascent on the lower slopes (alpha-CROWN).", least=0)] = 0

    alpha: ClassVar[float] = 0.0

    def check(self, model: Classifier, problem: Problem) -> None:
        """Raise `BadInput` for what there are no bounds of; see `Certificate`."""
        _graph_of(model, problem, self.grade)

    def prove(self, model: Classifier, problem: Problem, budgets: Sequence[float], draws: Draws) -> Certificates:
        """Return what intervals and CROWN prove; see `Certificate`."""
        return _proved(self.grade, self.alpha_steps, model, problem, budgets)


def _proved(
    grade: Grade, alpha_steps: int, model: Classifier, problem: Problem, budgets: Sequence[float]
) -> Certificates:
    # alpha_steps below 0: intervals alone
    x = problem.x
    with model.held(), torch.no_grad():
        graph = _graph_of(model, problem, grade)
        prediction, cost = clean_answers(model, problem)
        right = prediction == problem.goal.y
        lower = torch.full((len(budgets), len(x)), math.nan, dtype=torch.float64, device=x.device)
        alive = right
        size = max(1, _CHUNK // sum(math.prod(node.shape) for node in graph.nodes))
        for b, budget in enumerate(budgets):
            if not bool(alive.any()):
                break
            for part in torch.split(alive.nonzero().squeeze(1), size):
                asked = _Asked(graph, take(problem, part), budget, grade, model.precision)
                lower[b, part] = asked.lower(alpha_steps)
                cost = added(cost, part, asked.cost)
            # what is not proved for a smaller budget is not for a larger one: certificates fall as budgets grow
            alive = alive & (lower[b] > 0)
    return Certificates(lower > 0, prediction, lower, None, cost)


@dataclasses.dataclass
class _Asked:
    # some images at one budget
    graph: Graph
    problem: Problem
    budget: float
    grade: Grade
    precision: torch.dtype

    def __post_init__(self) -> None:
        threat = self.problem.threat.at(self.budget)
        self.region = Region.of(threat, self.problem.x, tolerant=self.grade != "nominal")
        self.y = self.problem.goal.y
        self.cost = Cost.nothing(self.problem.x)

    def lower(self, alpha_steps: int) -> Tensor:
        """Return lower bounds `[N]` of the smallest lead; of the images that intervals leave open by CROWN."""
        least = self._least(self.region, self.y, torch.arange(len(self.y), device=self.y.device), None)
        open_ = (least.amin(1) <= 0).nonzero().squeeze(1)
        if alpha_steps >= 0 and len(open_):
            better = self._least(self.region.take(open_), self.y[open_], open_, alpha_steps)
            least[open_] = torch.maximum(least[open_], better)
        return least.amin(1)

    def _least(self, region: Region, y: Tensor, which: Tensor, alpha_steps: int | None) -> Tensor:
        # [N, K - 1]: how far the label leads each other class at least
        work, graph, others = Work.on(y), self.graph, other_classes(y, self.graph.classes)
        bounds = bounds_over(graph, region, work, backwards=alpha_steps is not None)
        lost = bounds.lost
        if self.grade == "deployed":
            lost = lost + self._rounding(bounds)
        lost = lost.gather(1, y[:, None]) + lost.gather(1, others)
        if self.grade == "nominal":
            lost = torch.zeros_like(lost)
        least = interval_margins(graph, bounds.known, y).gather(1, others) - lost
        if alpha_steps is not None:
            rows = label_rows(graph, y)
            least = torch.maximum(least, lowest_leads(graph, region, bounds, rows, work).view_as(least) - lost)
            at = (least <= 0).flatten().nonzero().squeeze(1)
            if alpha_steps and len(at):
                some = Rows(rows.values[at], rows.image[at])
                found = lowest_leads(graph, region, bounds, some, work, steps=alpha_steps) - lost.flatten()[at]
                least.view(-1)[at] = torch.maximum(least.view(-1)[at], found)
        forwards = 2 + (0 if self.grade == "nominal" else 3) + (alpha_steps is not None)
        backwards = work.passes(graph)
        self.cost = added(self.cost, which, Cost(counts(y, forwards), backwards, counts(y)))
        return least

    def _rounding(self, bounds: Bounds) -> Tensor:
        unit = UNITS[self.precision]
        # images in double precision are rounded to the network's own
        image = unit if self.problem.x.dtype is torch.float64 else 0.0
        return rounding_errors(self.graph, bounds.known, unit, image)[-1]


def clean_answers(model: Classifier, problem: Problem) -> tuple[Tensor, Cost]:
    """Return what the model says about the images themselves (`[N]`, below 0 for nothing), and what asking cost."""
    seen = problem.seen_at_x
    if seen is not None:
        return answer_of(seen.logits), Cost.nothing(problem.x)
    seen = problem.oracle.look(problem.x, problem.goal, margin, Access.SCORES, Draws(torch.arange(len(problem.x))))
    return answer_of(seen.logits), seen.cost


def added(cost: Cost, which: Tensor, more: Cost) -> Cost:
    """Return the cost with `more` added for the images `which`."""
    return Cost(*(one.index_add(0, which, other) for one, other in zip(cost, more, strict=True)))


def _graph_of(model: Classifier, problem: Problem, grade: Grade) -> Graph:
    # the network in double precision, checked against its own answers
    refuse_norm(problem.threat)
    refuse_model(model, problem)
    if grade == "deployed":
        refuse_short_products(model.device)
    with model.held(), torch.no_grad():
        images = problem.x[:2].to(model.precision)
        recording = record(model.module, images)
        check_graph(recording, model.module, images)
        return recording.graph(torch.float64)


def refuse_model(model: Classifier, problem: Problem) -> None:
    """Raise `BadInput` for a model that bounds of its network say nothing about, in words."""
    if not isinstance(problem.goal, Untargeted) or problem.goal.reject is not None or model.rejects:
        raise BadInput(
            "There are no bounds for a model that may refuse images, or for another goal than a wrong class: they say "
            "that the label leads every other class. Certify the classifier inside, without its detector."
        )
    why = None
    if model.defenses:
        why = f"it is defended by {', '.join(str(step) for step in model.defenses)}", "certify the network inside"
    elif model.random:
        why = "its answers are drawn at random", "use randomised smoothing, which is for such models"
    elif model.reset is not None:
        why = "it keeps a state between calls", "give the network that computes without one"
    elif model.access is not Access.GRADIENT:
        why = f"it gives {model.access.name.lower()} alone", "give the network itself, whose weights bounds need"
    elif model.precision not in UNITS:
        why = f"it computes in {model.precision}", "convert it with module.float()"
    if why is not None:
        raise BadInput(f"There are no bounds for this model: {why[0]}. {why[1][0].upper()}{why[1][1:]}.")


def hidden_values(model: Classifier, images: Tensor) -> int:
    """Return how many values of one image a model's ReLUs take: what CROWN may have to bound one by one.

    Raises `BadInput` for a network that there are no bounds of.
    """
    graph = record(model.module, images).graph()
    return sum(math.prod(node.shape) for node in graph.nodes if isinstance(node.operation, Relu))
