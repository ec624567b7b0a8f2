"""A real run whose names try to break out of whatever they are written into."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

import assay
from assay.evaluation.run import Run

# what file systems allow in a name: all but the slash
CLASSES = ("<script>alert(1)<", 'it\'s "q" | `x` \n---\n, {{y}}', "\N{LINE SEPARATOR}=1+1 \\ & 1e5\r", "no")
STUDY = 'st "u|dy"\n---\n<b>: {x}'


class Brightest(nn.Module):
    """The class of the brightest quarter of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, x: Tensor) -> Tensor:
        grey = x.mean(1)
        quarters = [grey[:, a : a + 4, b : b + 4].mean((1, 2)) for a in (0, 4) for b in (0, 4)]
        return self.scale * torch.stack(quarters, 1)


def pictures(folder: Path, each: int = 6) -> Path:
    """Write a folder of pictures, one class in each of four folders of hostile names."""
    for at, name in enumerate(sorted(CLASSES)):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            picture = Image.new("RGB", (8, 8), (60, 60, 60))
            bright = 70 + 12 * i
            picture.paste((bright, bright, bright), (4 * (at % 2), 4 * (at // 2), 4 * (at % 2) + 4, 4 * (at // 2) + 4))
            picture.save(folder / name / f'{i} <&>".png')
    return folder


def hostile_run(folder: Path, *, audit: str = "off") -> Run:
    """Run two attacks at two budgets on it, with a hostile study and folder name."""
    data = pictures(folder / 'pic"tures\n<i>|')
    attacks, budgets = ["fgsm", {"attack": "pgd", "steps": 3}], [assay.Linf("4/255"), assay.Linf("24/255")]
    found = assay.evaluate(Brightest(), f"folder:{data}", attacks, budgets, folder / "run", audit=audit, doctor=False)
    manifest = json.loads((found.path / "manifest.json").read_text(encoding="utf-8"))
    manifest["study"] = STUDY
    (found.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Run.open(found.path)
