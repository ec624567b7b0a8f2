"""What the temperature of distillation buys: accuracy, FGSM, and FGSM that sees the gradient, for several T.

Trains teacher and student at each temperature, and measures the student on the test images in eval mode. Writes one
Markdown table to standard output; stopped and started again, it goes on.

Usage: python studies/sen2023/temperatures.py [--epochs 3] [--seeds 0] [--temperatures 1 5 20 50 100]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import assay
from assay.audit import probe_gradients
from assay.defenses import FitProgress, FitSettings, Training, distill

EPS = (0.1, 0.3)
HEAD = "T | seed | clean | FGSM .1 | FGSM .3 | at T .1 | at T .3 | zero gradients | gap 5 % | 50 % | 95 %"


def main() -> int:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1, 5, 20, 50, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, help="only the first N training and test images")
    parser.add_argument("--validation", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("runs/temperatures"))
    asked = parser.parse_args()
    rows = [row(asked, t, seed) for t in asked.temperatures for seed in asked.seeds]
    print(f"| {HEAD} |\n{'|---' * (HEAD.count('|') + 1)}|")
    print("\n".join(f"| {' | '.join(one)} |" for one in rows))
    return 0


def row(asked: argparse.Namespace, temperature: float, seed: int) -> list[str]:
    """Return one line of the table."""
    folder = asked.out / f"t{temperature:g}-seed{seed}-epochs{asked.epochs}"
    data = assay.load_data("mnist/train", limit=asked.limit)
    training = Training("mnist-cnn", data, asked.validation, FitSettings(epochs=asked.epochs, seed=seed))

    def show(stage: str, now: FitProgress) -> None:
        if now.batch == now.batches:
            print(f"T {temperature:g}, seed {seed}: {stage} epoch {now.epoch}", file=sys.stderr, flush=True)

    spec = f"file:{distill(training, temperature, folder, on_progress=show).student.path}"
    fgsm = ["fgsm", {"attack": "fgsm", "objective": f"cross_entropy/{temperature:g}"}]
    test = {"source": "mnist/test", **({"limit": asked.limit} if asked.limit else {})}
    run = assay.evaluate(
        spec,
        test,
        attacks=fgsm[: 1 if temperature == 1 else 2],
        threat={"norm": "linf", "eps": list(EPS)},
        question="as_attacked",
        out=folder / "run",
    )
    results = run.results()
    accuracies = [f"{one.robust_accuracy:.3f}" for one in results]
    # at T = 1 the two attacks are one
    accuracies = accuracies * 2 if temperature == 1 else accuracies
    model = assay.load_model(spec)
    probe = probe_gradients(model, assay.load_data("mnist/test", model=model, limit=asked.limit))
    gaps = [f"{probe.gaps[q]:.1f}" for q in (0.05, 0.5, 0.95)]
    clean = f"{results[0].clean_accuracy:.3f}"
    return [f"{temperature:g}", str(seed), clean, *accuracies, f"{100 * probe.zero:.1f} %", *gaps]


if __name__ == "__main__":
    sys.exit(main())
