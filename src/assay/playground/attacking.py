"""One attack on one image, as `assay.attack` makes it, told step by step."""

from __future__ import annotations

import base64
import functools
import io
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assay.api.tensors import Attacked, attack, sweep
from assay.attacks import ATTACKS, build
from assay.core.draws import Draws
from assay.core.errors import AssayWarning, BadInput
from assay.core.goal import Goal, Targeted, Untargeted, answer_of
from assay.core.objective import margin
from assay.core.oracle import Access, Observation
from assay.core.signals import apart
from assay.core.tensors import take
from assay.models import Classifier
from assay.playground import bounds, same, shown
from assay.playground.asked import SAMPLE, THREATS, Ask, Prepared
from assay.playground.menu import read_options
from assay.playground.verdict import Facts, verdict
from assay.playground.watched import Curve, watched
from assay.vocabulary import Question

Json = dict[str, Any]
Tell = Callable[[Json], None]


def look(model: Classifier, x: Tensor) -> Tensor:
    """Return what a model says of images `[N, C, H, W]`: logits `[N, K]`, in one pass that no attack is billed for."""
    with model.held():
        return observed(model, x, Untargeted(torch.zeros(len(x), dtype=torch.int64))).logits


def observed(model: Classifier, x: Tensor, goal: Goal) -> Observation:
    """Return a look that no attack is billed for, at scores alone; the model has to be held."""
    draws = Draws.of([f"{SAMPLE}/{i}" for i in range(len(x))], 0)
    return model.oracle().look(x, goal, margin, Access.SCORES, draws)


def answer(model: Classifier, logits: Tensor) -> int:
    """Return the class that a model answers. Raises `BadInput` where it refuses the image, or has no scores for it."""
    told = apart(logits, model.rejects)
    if told.excess is not None and bool((told.excess > 0).any()):
        raise BadInput("The model refuses the image as it is, so there is no answer to change. Take another image.")
    found = int(answer_of(told.logits)[0])
    if found < 0:
        raise BadInput("The model has no scores for the image: they are NaN or infinite. Take another image.")
    return found


def run(ask: Ask, model: Classifier, x: Tensor, tell: Tell, stopped: Callable[[], bool]) -> None:
    """Attack `x` `[C, H, W]`, and tell what happens: the clean answer, points of the curve, what came out.

    Raises `BadInput` and `ModelError` with a sentence, and what `Curve` raises.
    """
    x = x[None]
    asked = prepared(ask, model, x, clean := look(model, x))
    wrong = None if ask.label is None else ask.label != int(asked.y)
    tell({
        "event": "clean", "top": shown.top_five(clean, model), "margin": finite(-float(asked.goal.gap(clean))),
        "right": None if wrong is None else not wrong,
    })  # fmt: skip
    curve = Curve(asked.goal, functools.partial(_points, tell), stopped, ask.passes)
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", AssayWarning)
        found = _attacked(asked, curve)
    seconds = time.perf_counter() - began
    curve.flush()
    notes = [str(one.message) for one in warned if issubclass(one.category, AssayWarning)]
    done, kept = _done(asked, found, seconds)
    if ask.smallest:
        done |= bounds.around(asked, found, stopped)
    done["verdict"] = verdict(_facts(asked, found[0], done, curve), done["certified"])
    done["verdict"]["text"] += "".join(f" {note}" for note in ([_WRONG] if wrong else []) + notes)
    tell({"event": "kept", **kept})
    tell({"event": "done", **done})


def _points(tell: Tell, points: list[Json]) -> None:
    for one in points:
        tell({"event": "point", **one})


_WRONG = "The model is wrong about this image without any change: what is attacked is its own answer."


def prepared(ask: Ask, model: Classifier, x: Tensor, clean: Tensor) -> Prepared:
    """Return what is asked for, checked. Raises `BadInput` with a sentence for what cannot be."""
    options, question = read_options(ask.attack, ask.options)
    entry = ATTACKS[ask.attack]
    if ask.norm not in THREATS or ask.norm not in entry.norms:
        fits = ", ".join(norm for norm in THREATS if norm in entry.norms)
        raise BadInput(f"The attack {ask.attack} works in {fits}, and the norm is {ask.norm!r}. Choose another.")
    threat = THREATS[ask.norm](ask.eps)
    if not float(threat.eps) > 0:
        raise BadInput(f"The budget is {ask.eps}: nothing may change. Give one above 0.")
    if ask.goal is not None and "targeted" not in entry.goals:
        raise BadInput(f"The attack {ask.attack} has no target of its own. Leave the goal untargeted.")
    goal = goal_of(ask, model, clean)
    return Prepared(ask, model, x, goal.y, threat, goal, build(ask.attack, **options), options, question)


def goal_of(ask: Ask, model: Classifier, clean: Tensor) -> Untargeted | Targeted:
    """Return the goal about the answer in `clean` `[1, K]`. Raises `BadInput` for a target that none can be."""
    own, classes = answer(model, clean), apart(clean, model.rejects).logits.shape[1]
    y, reject = torch.tensor([own]), -1 if model.rejects else None
    if ask.goal is None:
        return Untargeted(y, reject)
    if not 0 <= ask.goal < classes:
        raise BadInput(f"The goal is class {ask.goal}; the model has {classes} classes, 0 to {classes - 1}.")
    if ask.goal == own:
        raise BadInput(f"The goal is {shown.name_of(model, own)}, which the model says already. Choose another.")
    return Targeted(y, torch.tensor([ask.goal]), reject)


def finite(margin: float) -> float | None:
    """Return a margin; None for one without end, such as that of scores of which all but one are -inf."""
    return margin if np.isfinite(margin) else None


def _attacked(asked: Prepared, curve: Curve) -> list[Attacked]:
    model = watched(asked.model, curve)
    settings: Json = {"ids": [SAMPLE], "seed": asked.ask.seed}
    if asked.ask.goal is not None:
        settings["goal"] = asked.goal
    if not asked.by_size:
        keep = "last" if asked.question is Question.AS_ATTACKED else "first"
        return [attack(asked.method, model, asked.x, asked.y, asked.threat, keep=keep, **settings)]
    threats = [asked.threat]
    if asked.ask.smallest:
        # its one run holds the answer for every budget
        threats.append(THREATS[asked.ask.norm](float("inf")))
    return sweep(asked.method, model, asked.x, asked.y, threats, question=asked.question.value, **settings)


def _done(asked: Prepared, found: list[Attacked], seconds: float) -> tuple[Json, Json]:
    one, model = found[0], asked.model
    image, result = asked.x[0], one.x_adv[0]
    picture = shown.png(result)
    magnified, factor = shown.change(result, image)
    saved = read_back(picture, result)
    with model.held():
        seen = observed(model, torch.stack([result, saved]), _twice(asked.goal))
    still = bool(seen.reached[1])
    done: Json = {
        "success": bool(one.success), "original": shown.data_uri(shown.png(image)),
        "result": shown.data_uri(picture), "change": shown.data_uri(shown.png(magnified)), "factor": factor,
        "size": float(one.size), "norm": asked.ask.norm, "grey_levels": 255 * float((result - image).abs().max()),
        "top": shown.top_five(seen.logits[:1], model), "margin": finite(-float(seen.gap[0])),
        "forwards": sum(int(each.forwards) for each in found), "backwards": sum(int(each.backwards) for each in found),
        "seconds": seconds, "smallest": None, "certified": None,
        "shell": same.shell(asked), "python": same.python(asked),
        "array": base64.b64encode(result.contiguous().numpy().astype("<f4").tobytes()).decode(),
        "checked": {"saved_breaks": still, "note": _checked(bool(one.success), still, _left(asked, saved))},
    }  # fmt: skip
    kept = {
        "png": base64.b64encode(picture).decode(),
        "npz": npz(image, int(asked.y)),
        "checked": done["checked"]["note"],
    }
    return done, kept


def _facts(asked: Prepared, one: Attacked, done: Json, curve: Curve) -> Facts:
    queries = int(one.queries)
    return Facts(
        attack=asked.ask.attack, family=ATTACKS[asked.ask.attack].family, broken=bool(one.success),
        crossed=curve.crossed, forwards=done["forwards"], backwards=done["backwards"], queries=queries,
        saved=done["checked"]["saved_breaks"], eps=asked.ask.eps, norm=asked.ask.norm,
        targeted=asked.ask.goal is not None, budget=float(asked.threat.eps), random=asked.model.random,
        unscored=int(one.unscored),
    )  # fmt: skip


def _twice(goal: Goal) -> Goal:
    return take(goal, torch.zeros(2, dtype=torch.int64))


def _left(asked: Prepared, saved: Tensor) -> str:
    """Return what is to be said of a saved image that lies outside the budget; "" of one inside."""
    size = float(asked.threat.size(saved[None], asked.x))
    if size <= float(asked.threat.eps) * (1 + 1e-5):
        return ""
    return f", but outside the budget: rounding to 8 bits made the change {asked.ask.norm} {size:.4g}"


def _checked(broken: bool, still: bool, left: str) -> str:
    if not broken:
        return "not broken" if not still else "broken once rounded to 8 bits, which may leave the budget"
    return f"still broken{left}" if still else "no longer broken: rounding to 8 bits undid it"


def read_back(picture: bytes, like: Tensor) -> Tensor:
    """Return the image that a PNG holds; of images that no PNG holds, what 8 bits make of them."""
    if len(like) not in (1, 3):
        return shown.eight_bits(like).float() / 255
    with Image.open(io.BytesIO(picture)) as image:
        values = np.asarray(image)
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    return torch.from_numpy(values.copy()).float() / 255


def npz(image: Tensor, label: int) -> str:
    """Return an `.npz` file that `npz:` reads, with one image and its label, in base64."""
    stream = io.BytesIO()
    np.savez_compressed(stream, image=image[None].numpy(), label=np.array([label]))
    return base64.b64encode(stream.getvalue()).decode()
