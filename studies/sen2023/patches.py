"""Writes the studies of the patch tables VII to XII: five classes and three sizes on each of the three networks.

Two tables share a study: the same runs, counted among the first and among the first five classes.

Usage: python studies/sen2023/patches.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

NETWORKS = {"vii": "resnet101", "ix": "alexnet", "xi": "regnet_y_400mf"}
SECOND = {"vii": "VIII", "ix": "X", "xi": "XII"}
CLASSES = ("saltshaker", "soap dispenser", "digital clock", "piggy bank", "toaster")
SIDES = (32, 48, 64)
PLACEMENTS = (1, 2, 3, 4)
WORDS = {
    "as_published": """\
# Tables {0} and {1} as the public notebook computes them: all images, those of training included. The second to fourth
# placement keep the patches before them: a budget counts changed values, 3 x side x side for each patch.""",
    "corrected": """\
# Tables {0} and {1} as their words say: one patch in an image, at four places one after the other, on images that
# training has not seen.""",
}


def main() -> int:
    """Write the six files beside this one."""
    for path, text in files():
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


def files() -> Iterator[tuple[Path, str]]:
    """Yield the path and the text of every study."""
    for table in NETWORKS:
        for mode in WORDS:
            name = f"table-{table}-{mode.replace('_', '-')}"
            yield Path(__file__).with_name(f"{name}.yaml"), "\n".join(lines(table, mode, name)) + "\n"


def lines(table: str, mode: str, name: str) -> Iterator[str]:
    """Yield the lines of a study."""
    part = "" if mode == "as_published" else ", part: held-out 500"
    yield WORDS[mode].format(table.upper(), SECOND[table])
    yield f"study: sen2023-{name}"
    yield f"models: [torchvision:{NETWORKS[table]}@IMAGENET1K_V1]"
    yield f"data: {{source: imagenet:DIR, per_class: 5{part}}}"
    yield "question: as_attacked"
    yield "grids:"
    for target in CLASSES:
        for side in SIDES:
            yield f"  - goal: targeted {target}"
            yield f"    threats: [{{norm: l0, eps: [{', '.join(map(str, budgets(mode, side)))}]}}]"
            yield "    attacks:"
            for option in options(mode):
                yield f"      - attack: patch\n        file: {patch_file(NETWORKS[table], target, side, mode)}"
                yield f"        {option}"


def budgets(mode: str, side: int) -> list[int]:
    """Return how many values may change: those of one patch, or of one, two, three and four of them."""
    return [3 * side * side * count for count in (PLACEMENTS if mode == "as_published" else (1,))]


def options(mode: str) -> list[str]:
    """Return the attacks' options: offsets that leave out the last two places, or one cell for each placement."""
    return ["offsets: published"] if mode == "as_published" else [f"placement: {i}" for i in PLACEMENTS]


def patch_file(network: str, target: str, side: int, mode: str) -> str:
    """Return where the patch lies once it is trained; OUT is the directory of all the runs."""
    return f"OUT/patches/{mode}/{network}-{target.replace(' ', '-')}-{side}.safetensors"


if __name__ == "__main__":
    sys.exit(main())
