"""Train a small vision transformer on MNIST and write it as a Hugging Face folder (extra `hf`).

    python scripts/hf_vit.py OUT [--steps 2500] [--size 20000] [--seed 0]

Two layers of attention over 16 patches, 41,770 parameters, 170 kB: a real network with attention, trained in a minute
or two on one core (95 % right), for tests and for trying `assay run --model hf:OUT --data mnist/test` without a hub.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

MEAN, STD = 0.1307, 0.3081


def train(out: Path, steps: int = 2500, size: int = 20_000, seed: int = 0) -> float:
    """Train on `size` digits for so many batches of 64; returns the accuracy on 1,000 digits of the test set."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    from assay.data import load_data

    torch.manual_seed(seed)
    names = [str(digit) for digit in range(10)]
    config = ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        image_size=28,
        patch_size=7,
        num_channels=1,
        id2label=dict(enumerate(names)),
        label2id={name: at for at, name in enumerate(names)},
    )
    network = ViTForImageClassification(config).train()
    data = load_data("mnist/train", limit=size)
    x, y = (torch.stack([data.read(at) for at in range(size)]) - MEAN) / STD, torch.as_tensor(data.labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(size, (64,))
        loss = F.cross_entropy(network(pixel_values=x[rows]).logits, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval().save_pretrained(out)
    sides = {"height": 28, "width": 28}
    ViTImageProcessor(size=sides, image_mean=[MEAN], image_std=[STD]).save_pretrained(out)
    test = load_data("mnist/test", limit=1000)
    x = (torch.stack([test.read(at) for at in range(1000)]) - MEAN) / STD
    with torch.no_grad():
        right = network(pixel_values=x).logits.argmax(1) == torch.as_tensor(test.labels)
    return float(right.double().mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"accuracy on 1,000 test digits: {train(given.out, given.steps, given.size, given.seed):.3f}")
