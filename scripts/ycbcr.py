"""Print the table of docs/ycbcr.md: what attacks leave that change Y alone, and those that change red, green and blue.

python scripts/ycbcr.py                 # EfficientNet-Lite0, the 20 sample pictures, eps 0.002
python scripts/ycbcr.py --eps 0.001 --steps 100
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import assay
from assay.attacks.gradient import FGSM, PGD
from assay.core.ycbcr import Components
from assay.data import load_data
from assay.models import load_model


def largest(change: Tensor) -> tuple[float, float]:
    """Return the largest change of a channel, and of Y, Cb or Cr, over all images."""
    return float(change.abs().max()), float(Components((1, 1, 1)).measured(change).abs().max())


def main() -> None:
    """Attack in each threat, and give the last row to what any attack in it, or inside it, has broken."""
    flags = argparse.ArgumentParser()
    flags.add_argument("--eps", default="0.002")
    flags.add_argument("--steps", type=int, default=40)
    given = flags.parse_args()
    model = load_model("efficientnet-lite0")
    data = load_data("samples", model=model)
    x, y = torch.stack([one.image for one in data.load(range(len(data.ids)))]), torch.tensor(data.labels)
    threats = {
        f"RGB {given.eps}": assay.Linf(given.eps),
        f"Y {given.eps}": assay.YCbCr(given.eps),
        f"RGB normalized {given.eps}": assay.Linf(f"normalized {given.eps}"),
    }
    print("| attack | may change | right before | right after | largest change of R, G, B | of Y, Cb, Cr |")
    print("| --- | --- | --- | --- | --- | --- |")
    for attack in (FGSM(), PGD(given.steps)):
        name = type(attack).__name__ if isinstance(attack, FGSM) else f"PGD, {given.steps} steps"
        kept = {}
        for written, threat in threats.items():
            with torch.no_grad():
                right = torch.cat([model.module(part).argmax(1) for part in x.split(10)]) == y
            found = assay.attack(attack, model, x, y, threat, batch=10)
            kept[written] = right & ~found.success
            sizes = " | ".join(f"{one:.5f}" for one in largest(found.x_adv - x))
            print(f"| {name} | {written} | {int(right.sum())} | {int(kept[written].sum())} | {sizes} |", flush=True)
        # whatever changes Y by at most eps changes no channel by more: its points count in RGB as well
        rgb, luma, _ = kept.values()
        print(f"| {name} | RGB {given.eps}, either attack | {int(right.sum())} | {int((rgb & luma).sum())} | | |")


if __name__ == "__main__":
    main()
