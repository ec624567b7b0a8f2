"""Print the table of docs/broken-defenses.md: what PGD leaves of every broken defence, and of the network alone.

python scripts/broken_defenses.py            # 200 digits, Linf 0.3, and 20 pictures, Linf 8/255
"""

from __future__ import annotations

import torch

import assay
from assay.attacks.gradient import PGD
from assay.audit.zoo import BROKEN, wrap
from assay.core.errors import BadInput
from assay.core.threat import Linf
from assay.data import load_data
from assay.models import Classifier, load_model
from assay.models.seeded import seeded

SETTINGS = (("zoo:mnist-cnn", "mnist/test", 200, 0.3, 40), ("efficientnet-lite0", "samples", 20, 8 / 255, 10))


def measured(model: Classifier, source: str, count: int, eps: float, steps: int) -> str:
    """Return the accuracy before and after PGD on the cross-entropy, as a cell of the table."""
    data = load_data(source, model=model, limit=count)
    x, y = torch.stack([one.image for one in data.load(range(count))]), torch.tensor(data.labels)
    with seeded(0):
        with torch.no_grad():
            right = torch.cat([model.module(part).argmax(1) for part in x.split(20)]) == y
        left = assay.attack(PGD(steps), model, x, y, Linf(eps)).robust_accuracy
    return f"{100 * float(right.float().mean()):.1f} → {100 * left:.1f} %"


def main() -> None:
    """Measure one row after the other."""
    models = [(load_model(spec), *rest) for spec, *rest in SETTINGS]
    print("| defence | " + " | ".join(f"`{spec}`, Linf {eps:.3g}" for spec, _, _, eps, _ in SETTINGS) + " |")
    print("| --- | --- | --- |")
    print("| none | " + " | ".join(measured(*one) for one in models) + " |", flush=True)
    for name in BROKEN:
        cells = []
        for model, *rest in models:
            try:
                cells.append(measured(wrap(name, model), *rest))
            except BadInput:
                cells.append("does not apply")
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
