"""Print the table of docs/certified-patches.md: what double masking certifies, and what a search for patches leaves.

python scripts/certified_patches.py --model zoo:mnist-cnn --model zoo:mnist-pgd --patch 2,3,5
python scripts/certified_patches.py --model file:runs/masked/mnist-fast.safetensors --patch 5 --limit 40 --attack
"""

from __future__ import annotations

import argparse
import time

import torch

import assay
from assay.attacks import build
from assay.certification import make_certificate
from assay.core.draws import Draws
from assay.core.problem import Problem
from assay.data import load_data
from assay.models import load_model


def main() -> None:
    """Certify the first images for each model and patch, and attack the same model where asked to."""
    flags = argparse.ArgumentParser()
    flags.add_argument("--model", action="append", required=True)
    flags.add_argument("--patch", default="5")
    flags.add_argument("--data", default="mnist/test")
    flags.add_argument("--limit", type=int, default=100)
    flags.add_argument("--attack", nargs="?", const="patch-search", help="also attack; the name of an attack")
    given = flags.parse_args()
    print("| model | patch | right | left by the attack | certified | passes of one that is not | seconds per image |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in given.model:
        for side in map(int, given.patch.split(",")):
            model = load_model(f"{name}|double-masking:patch={side}")
            data = load_data(given.data, model=model, limit=given.limit)
            x = torch.stack([one.image for one in data.load(range(len(data)))])
            y, draws = torch.tensor(data.labels), Draws.of(data.ids, 0)
            problem = Problem(model.oracle(), x, assay.Untargeted(y), assay.Patch(side))
            method = make_certificate("double-masking", {})
            method.check(model, problem)
            began = time.perf_counter()
            found = method.prove(model, problem, [0, side], draws)
            seconds = (time.perf_counter() - began) / len(x)
            right, certified = found.certified
            left = ""
            if given.attack:
                broken = assay.attack(build(given.attack), model, x, y, assay.Patch(side)).success
                assert not bool((broken & certified).any()), "a certified image is broken: one of the two is wrong"
                left = str(int((~broken & right).sum()))
            passes = float(found.cost.forwards[~certified].double().mean())
            told = (name, side, int(right.sum()), left, int(certified.sum()), f"{passes:.0f}", f"{seconds:.3f}")
            print(f"| {' | '.join(map(str, told))} |", flush=True)


if __name__ == "__main__":
    main()
