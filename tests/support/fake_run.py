"""A run that never ran: drawn digits and drawn scenes, with names that try to break out of the page."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from assay.evaluation.methods import told_method
from assay.evaluation.records.gallery import Picture, encode
from assay.evaluation.records.manifest import write_manifest
from assay.evaluation.records.schema import SCHEMA
from assay.evaluation.records.store import Store
from assay.evaluation.run import Run

HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_FILE = "</script><script>alert(2)</script>/&'\".jpg"
DIGIT_BUDGETS = ("0", "0.007", "0.01", "0.02", "0.03", "0.05", "0.1", "0.2", "0.3")
SCENE_BUDGETS = tuple(f"normalized {0.01 * step:.2f}" for step in range(1, 11))
SCENE_STD = (0.502, 0.502, 0.502)
SCENES = (HOSTILE, "tabby, tabby cat", "llama", "piggy bank", "digital clock", "harvester, reaper", "toaster",
          "hammerhead, hammerhead shark", "soap dispenser", "saltshaker, salt shaker")  # fmt: skip


Rows = list[dict[str, Any]]


def fake_run(
    path: Path, *, scenes: bool = True, digits: int = 300, change: Callable[[Rows], Rows] | None = None
) -> Run:
    """Write the run and open it: three attacks on drawn digits, and one cell of 20 drawn scenes.

    `change` edits the rows before they are written.
    """
    cells: dict[str, dict[str, Any]] = {}
    rows: Rows = []
    pictures: dict[str, list[Picture]] = {}
    for attack, question, strength in (
        ("fgsm", "as_attacked", 1.0), ("bim(steps=10)", "worst_case", 1.7), ("pgd(steps=40)", "worst_case", 2.0),
    ):  # fmt: skip
        cell = f"{zlib.crc32(attack.encode()):016x}"
        cells[cell] = _cell("zoo:mnist-cnn", "mnist/test", attack, DIGIT_BUDGETS, question, digits, True)
        rows += _rows(cell, cells[cell], digits, 10, _rising(strength))
        pictures[cell] = _pictures(cells[cell], 10, draw_digit)
    if scenes:
        cell = f"{zlib.crc32(b'scenes'):016x}"
        source = f"folder:~/photos {HOSTILE}"
        cells[cell] = _cell("efficientnet-lite0", source, "fgsm", SCENE_BUDGETS, "as_attacked", 20, False)
        rows += _rows(cell, cells[cell], 20, len(SCENES), lambda e: min(0.9, 0.15 + 12 * e))
        pictures[cell] = _pictures(cells[cell], len(SCENES), draw_scene)
    rows = change(rows) if change else rows
    return written(path, rows, pictures, _manifest(cells, digits, scenes))


def written(path: Path, rows: Rows, pictures: dict[str, list[Picture]], manifest: dict[str, Any]) -> Run:
    """Write a run directory: its shards, its pictures, its manifest."""
    store = Store(path)
    for cell in {row["cell"]: None for row in rows}:
        shard = store.shard(cell, 0)
        shard.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row for row in rows if row["cell"] == cell], schema=SCHEMA), shard)
    for cell, kept in pictures.items():
        store.pictures(cell, 0).parent.mkdir(parents=True, exist_ok=True)
        store.pictures(cell, 0).write_bytes(encode(kept))
    write_manifest(path, manifest)
    return Run.open(path)


def with_manifest(run: Run, **changed: Any) -> Run:
    """Return the same run with another manifest."""
    return dataclasses.replace(run, manifest={**run.manifest, **changed})


def _rising(strength: float) -> Callable[[float], float]:
    return lambda eps: 0.04 + 0.95 * (1 - math.exp(-((strength * eps * 7) ** 2)))


def _cell(
    model: str, data: str, attack: str, eps: Sequence[str], question: str, n: int, box: bool
) -> dict[str, Any]:  # shape: a row of a table
    return {"model": model, "data": data, "attack": attack, "threat": "linf" if box else "linf no-box", "norm": "linf",
            "box": box, "grid": None, "eps": list(eps), "question": question, "goal": "untargeted", "seed": 0,
            "chunk": 128, "n": n, "version": 1, "order": "ascending",
            "specs": {"model": {"model": model}, "attack": {"attack": attack.split("(")[0]}}}  # fmt: skip


def _value(written: str) -> float:
    return float(written.split()[-1])


def _rows(
    cell: str, spec: dict[str, Any], n: int, classes: int, broken: Callable[[float], float]
) -> list[dict[str, Any]]:
    rows = []
    luck = torch.rand(n, 2, generator=torch.Generator().manual_seed(7))
    for budget, written in enumerate(spec["eps"]):
        eps = _value(written)
        for i in range(n):
            label = i % classes
            wrong = bool(luck[i, 0] < 0.03) or (classes == len(SCENES) and n == 20 and i in (3, 9, 14))
            fell = not wrong and eps > 0 and bool(luck[i, 1] < broken(eps) * (0.7 + 0.6 * ((label * 7) % 10) / 10))
            other = (label * 3 + 1 + (i % 2) * 4) % classes
            clean = other if wrong else label
            after = (other if other != label else (label + 1) % classes) if fell else clean
            rows.append({
                "schema": 1, "cell": cell, "model": spec["model"], "data": spec["data"], "attack": spec["attack"],
                "threat": spec["threat"], "eps": eps, "eps_written": written,
                "unit": "normalized" if "norm" in written else "pixel", "question": spec["question"],
                "goal": "untargeted", "seed": 0, "chunk": i // 100, "sample_id": f"{spec['data']}/{i:05d}",
                "label": label, "target": None, "clean_prediction": clean, "clean_confidence": 0.9,
                "clean_rank": 3 if wrong else 1, "prediction": after, "confidence": 0.8,
                "rank": 1 if after == label else 4 + i % 4,
                "status": "clean_wrong" if wrong else "broken" if fell else "survived",
                "size_linf": eps, "size_l2": eps * 20, "size_l1": eps * 400, "size_l0": 600.0,
                "forwards": 42, "backwards": 40, "queries": 42, "steps": 40, "seconds": 0.004 * (budget + 1),
                "from_eps": None, "error": None,
            })  # fmt: skip
    return rows


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _tensor(picture: Image.Image) -> Tensor:
    channels = len(picture.getbands())
    raw = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return raw.reshape(picture.height, picture.width, channels).permute(2, 0, 1).float() / 255


def draw_digit(label: int, seed: int) -> Tensor:
    """Draw a digit, 28 by 28, white on black, leaning a little."""
    canvas = Image.new("L", (28, 28), 0)
    ImageDraw.Draw(canvas).text((7 + seed % 3, -1 + seed % 4), str(label), fill=255, font=_font(24))
    return _tensor(canvas.rotate((seed * 7) % 23 - 11, resample=Image.Resampling.BILINEAR))


def draw_scene(label: int, seed: int) -> Tensor:
    """Draw sky, ground and a disc of a class's colour, 224 by 224."""
    canvas = Image.new("RGB", (224, 224))
    draw = ImageDraw.Draw(canvas)
    for y in range(224):
        draw.line((0, y, 224, y), fill=(90 + y // 3, 140 + y // 4, 215 - y // 5) if y < 140 else (70, 150 - y // 4, 60))
    hue = (label * 67) % 255
    box = (50 + seed % 30, 50, 150 + seed % 30, 150)
    draw.ellipse(box, fill=(220 - hue // 2, 60 + hue // 2, (hue * 3) % 255), outline=(30, 30, 40), width=3)
    draw.rectangle((90, 140, 120, 200), fill=(110, 80, 50))
    return _tensor(canvas)


def _pictures(spec: dict[str, Any], classes: int, draw: Callable[[int, int], Tensor]) -> list[Picture]:
    found = []
    for at, written in enumerate(spec["eps"]):
        for place, role in enumerate(("most", "least", "survivor")):
            eps, seed = _value(written), at * 3 + place
            if eps == 0 and role != "survivor":
                continue
            label = seed % classes
            original = draw(label, seed)
            noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(seed)).sign()
            perturbation = noise * eps * (0.5 if spec["box"] is False else 1.0)
            before = torch.randn(classes, generator=torch.Generator().manual_seed(seed + 100))
            after = before.clone()
            before[label] += 6
            after[label if role == "survivor" else (label + 3) % classes] += 4
            source = HOSTILE_FILE if spec["model"].startswith("eff") else "mnist/test"
            found.append(Picture(
                f"{source}/{seed:05d}", label, eps, written, "survived" if role == "survivor" else "broken",
                float(perturbation.abs().max()), role, original, perturbation.half(), before, after,
            ))  # fmt: skip
    return found


def _manifest(cells: dict[str, dict[str, Any]], digits: int, scenes: bool) -> dict[str, Any]:
    models = {"zoo:mnist-cnn": {
        "digest": "8d2f0c9be1a64d37b1f0a3c55e7d9f21", "mean": [0.1307], "std": [0.3081], "input_shape": [1, 28, 28],
        "preprocess": None, "classes": [str(d) for d in range(10)], "published_accuracy": 0.981}}  # fmt: skip
    data = {"mnist/test": {"fingerprint": "c1a0d8a4e2ff1b07", "n": digits, "ids_digest": "55ab", "classes": None}}
    if scenes:
        models["efficientnet-lite0"] = {
            "digest": "02aa17c3d1b94b0f8e5511c09ab7d3e4", "mean": [0.498] * 3, "std": list(SCENE_STD),
            "input_shape": [3, 224, 224], "preprocess": {"resize": 256, "crop": 224, "interpolation": "bicubic"},
            "classes": list(SCENES), "published_accuracy": 0.755}  # fmt: skip
        source = f"folder:~/photos {HOSTILE}"
        data[source] = {"fingerprint": "9e107d9d372bb682", "n": 20, "ids_digest": "77cd", "classes": None}
    because = ["20 pictures in folder:~/photos: too few to report"] if scenes else []
    return {
        "schema": 1, "status": "success", "study": "demo", "cells": cells,
        "methods": {cell: told_method(plain) for cell, plain in cells.items()},
        "command": f"assay run demo.yaml --out 'runs/{HOSTILE}'",
        "models": models, "data": data, "reportable": not because, "not_reportable_because": because,
        "environment": {"python": "3.11.9", "torch": "2.15.0", "torchvision": "0.29.2", "assay": "0.1.0",
                        "platform": "Linux x86_64", "cpu": "2 cores", "threads": 2},
        "started": "2026-11-23T10:00:00+00:00", "finished": "2026-11-23T10:03:12+00:00",
        "warnings": [f"1 label name is part of another: {HOSTILE}"],
    }  # fmt: skip
