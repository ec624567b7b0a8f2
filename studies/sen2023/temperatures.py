"""What the temperature of distillation buys: accuracy, FGSM, and FGSM that sees the gradient, for several T.

Trains teacher and student at each temperature, and measures the student on the test images in eval mode. Writes one
Markdown table to standard output; stopped and started again, it goes on.

Usage: python studies/sen2023/temperatures.py [--epochs 3] [--seeds 0] [--temperatures 1 5 20 50 100] [--out FILE]
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import assay
from assay.audit import probe_gradients
from assay.paper.inputs import TemperatureRow, written_rows
from assay.training import FitProgress, FitSettings, Training, distill

EPS = (0.1, 0.3)
GAPS = (0.05, 0.5, 0.95)
HEAD = "T | seed | clean | FGSM .1 | FGSM .3 | at T .1 | at T .3 | zero gradients | gap 5 % | 50 % | 95 %"


def main() -> int:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1, 5, 20, 50, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, help="only the first N training and test images")
    parser.add_argument("--validation", type=int, default=10_000)
    parser.add_argument("--runs", type=Path, default=Path("runs/temperatures"), help="where networks and runs go")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the rows as JSON too")
    asked = parser.parse_args()
    rows = [row(asked, t, seed) for t in asked.temperatures for seed in asked.seeds]
    print(f"| {HEAD} |\n{'|---' * (HEAD.count('|') + 1)}|")
    print("\n".join(f"| {' | '.join(cells(one))} |" for one in rows))
    if asked.out is not None:
        asked.out.write_text(written_rows(rows, facts(asked)), encoding="utf-8")
    return 0


def facts(asked: argparse.Namespace) -> dict[str, object]:
    """Return what the rows depend on."""
    used = settings(asked, asked.seeds[0])
    return {
        "command": shlex.join(["python", *sys.argv]),
        "learning_rate": used.learning_rate,
        "batch": used.batch,
        "epochs": used.epochs,
        "seeds": asked.seeds,
    }


def settings(asked: argparse.Namespace, seed: int) -> FitSettings:
    """Return how the networks are trained."""
    return FitSettings(epochs=asked.epochs, seed=seed)


def row(asked: argparse.Namespace, temperature: float, seed: int) -> TemperatureRow:
    """Train a student at the temperature, and measure it."""
    folder = asked.runs / f"t{temperature:g}-seed{seed}-epochs{asked.epochs}"
    data = assay.load_data("mnist/train", limit=asked.limit)
    training = Training("mnist-cnn", data, asked.validation, settings(asked, seed))

    def show(stage: str, now: FitProgress) -> None:
        if now.batch == now.batches:
            print(f"T {temperature:g}, seed {seed}: {stage} epoch {now.epoch}", file=sys.stderr, flush=True)

    model = assay.load_model(f"file:{distill(training, temperature, folder, on_progress=show).student.path}")
    test = assay.load_data("mnist/test", model=model, limit=asked.limit)
    return measure(model, test, temperature, seed, folder / "run")


def measure(model: assay.Classifier, data: assay.Data, temperature: float, seed: int, out: Path) -> TemperatureRow:
    """Measure a student that was trained at the temperature; `out` is the run directory."""
    tempered = {"attack": "fgsm", "objective": f"cross_entropy/{temperature:g}"}
    run = assay.evaluate(
        model,
        data,
        # at T = 1 the two attacks are one
        attacks=["fgsm"] if temperature == 1 else ["fgsm", tempered],
        threat={"norm": "linf", "eps": list(EPS)},
        question="as_attacked",
        out=out,
        # what the temperature hides is what is measured
        doctor=False,
        audit="off",
    )
    results = run.results()
    naive = {one.eps: one.robust_accuracy for one in results if one.attack == "fgsm"}
    seeing = {one.eps: one.robust_accuracy for one in results if one.attack != "fgsm"}
    probe = probe_gradients(model, data)
    return TemperatureRow(
        temperature=temperature,
        seed=seed,
        clean=results[0].clean_accuracy,
        fgsm=naive,
        at_temperature=seeing or naive,
        zero=probe.zero,
        gaps={q: probe.gaps[q] for q in GAPS},
    )


def cells(row: TemperatureRow) -> list[str]:
    """Return one line of the table."""
    accuracies = [row.clean, *(row.fgsm[eps] for eps in EPS), *(row.at_temperature[eps] for eps in EPS)]
    shown = [f"{value:.3f}".removeprefix("0") for value in accuracies]
    gaps = [f"{row.gaps[q]:.1f}" for q in GAPS]
    return [f"{row.temperature:g}", str(row.seed), *shown, f"{100 * row.zero:.1f} %", *gaps]


if __name__ == "__main__":
    sys.exit(main())
