"""A patch on an image, where the visitor has put it, and what the model answers."""

from __future__ import annotations

import base64
import dataclasses
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assay.core.errors import BadInput
from assay.core.goal import scored
from assay.core.tensors import take
from assay.models import Classifier
from assay.playground import same, shown
from assay.playground.asked import Ask
from assay.playground.attacking import finite, goal_of, look, npz, read_back

Json = dict[str, Any]
MOST_TURN = 180.0
_LEAST_SIZE = 0.02


@dataclasses.dataclass(frozen=True)
class Placed:
    """A patch (PNG bytes, transparent where it covers nothing) and its place.

    `x` and `y` are its centre as shares of the image's width and height, `size` its longer side as a share of the
    image's shorter one, `turn` degrees clockwise.
    """

    picture: bytes
    x: float
    y: float
    size: float
    turn: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no place."""
        for name, value, least, most in (
            ("x", self.x, 0.0, 1.0), ("y", self.y, 0.0, 1.0), ("size", self.size, _LEAST_SIZE, 1.0),
            ("turn", self.turn, -MOST_TURN, MOST_TURN),
        ):  # fmt: skip
            if not least <= value <= most:
                raise BadInput(f"The patch's {name} is {value:g}, expected {least:g} to {most:g}.")


def paste(image: Tensor, placed: Placed) -> tuple[Tensor, float]:
    """Return an image `[C, H, W]` with the patch on it, and the share of its pixels that the patch touches.

    What hangs over the edge is cut off. Raises `BadInput` for images of other channels than 1 or 3.
    """
    channels, height, width = image.shape
    if channels not in (1, 3):
        raise BadInput(f"Patches are pictures of 1 or 3 channels, and this model takes {channels}. Take another model.")
    canvas = Image.new("RGBA", (width, height))
    with Image.open(io.BytesIO(placed.picture), formats=["PNG"]) as opened:
        patch = opened.convert("RGBA")
    longest = max(1, round(placed.size * min(height, width)))
    sides = [max(1, round(side * longest / max(patch.size))) for side in patch.size]
    patch = patch.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)
    if placed.turn:
        patch = patch.rotate(-placed.turn, Image.Resampling.BICUBIC, expand=True)
    corner = round(placed.x * width - patch.width / 2), round(placed.y * height - patch.height / 2)
    canvas.paste(patch, corner)
    values = torch.from_numpy(np.array(canvas)).permute(2, 0, 1).float() / 255
    colour, cover = values[:3], values[3:]
    if channels == 1:
        # the weights that Pillow turns colours to grey by
        colour = (colour * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
    return image * (1 - cover) + colour * cover, float((cover > 0).float().mean())


def run(ask: Ask, model: Classifier, x: Tensor, placed: Placed, tell: Callable[[Json], None]) -> None:
    """Paste the patch on `x` `[C, H, W]` and tell what the model says before and after: one pass, no search."""
    clean = look(model, x[None])
    goal = goal_of(ask, model, clean)
    own = int(goal.y)
    right = None if ask.label is None else ask.label == own
    lead = finite(-float(goal.gap(clean)))
    tell({"event": "clean", "top": shown.top_five(clean, model), "margin": lead, "right": right})
    began = time.perf_counter()
    result, share = paste(x, placed)
    picture = shown.png(result)
    logits = look(model, torch.stack([result, read_back(picture, result)]))
    seconds = time.perf_counter() - began
    both = take(goal, torch.zeros(2, dtype=torch.int64))
    broken, saved = (bool(one) for one in both.reached(logits))
    left = finite(-float(both.gap(logits)[0]))
    if left is not None:
        tell({"event": "point", "pass": 1, "margin": left})
    told = _verdict(broken, ask, share) if bool(scored(logits)[0]) else _BLIND
    magnified, factor = shown.change(result, x)
    note = "the same answer" if broken == saved else "another answer: rounding to 8 bits changes it"
    tell({"event": "kept", "png": base64.b64encode(picture).decode(), "npz": npz(result, own), "checked": note})
    tell({
        "event": "done", "success": broken, "original": shown.data_uri(shown.png(x)),
        "result": shown.data_uri(picture), "change": shown.data_uri(shown.png(magnified)), "factor": factor,
        "size": share, "norm": "patch", "grey_levels": 255 * float((result - x).abs().max()),
        "top": shown.top_five(logits[:1], model), "margin": left, "forwards": model.passes.forwards, "backwards": 0,
        "seconds": seconds, "smallest": None, "certified": None, "verdict": told,
        "shell": same.ADDRESS + "\n# no command pastes one patch at one place; image.npz holds the result",
        "python": _python(ask), "array": base64.b64encode(result.contiguous().numpy().astype("<f4").tobytes()).decode(),
        "checked": {"saved_breaks": saved, "note": note},
    })  # fmt: skip


_BLIND = {
    "state": "not judged",
    "text": "Not judged: with the patch the model's scores are NaN or infinite, so that there is no answer to compare.",
}


def _verdict(broken: bool, ask: Ask, share: float) -> dict[str, str]:
    what = f"a patch over {100 * share:.1f} % of the pixels, at this place, size and turn"
    if broken:
        said = "the model answers the class that was asked for" if ask.goal is not None else "the answer changes"
        return {
            "state": "broken",
            "text": f"Broken by {what}: {said}. It rests on one answer; other places may differ.",
        }
    return {
        "state": "not broken",
        "text": f"Not broken by {what}: no proof; another place or another patch may do it. It rests on one answer.",
    }


def _python(ask: Ask) -> str:
    pickle = ", allow_pickle=True" if ask.allow_pickle else ""
    return "\n".join((
        "# image.npz comes from the playground: the image with the patch on it",
        "import torch",
        "",
        "import assay",
        "",
        f"model = assay.load_model({ask.model!r}{pickle})",
        '(sample,) = assay.load_data("npz:image.npz", model=model).load([0])',
        "x_adv = sample.image",
        "with model.held(), torch.no_grad():",
        "    print(model.module(x_adv[None]).argmax(1))",
    ))  # fmt: skip
