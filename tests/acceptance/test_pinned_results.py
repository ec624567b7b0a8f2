"""Results that must not move: a small study over every attack and composition, compared with a stored file.

Every column of the records but times and digests is compared, row by row. Where this machine computes as the one that
wrote the file did (`_arithmetic`), they must be equal bit for bit; elsewhere rounding differs, numbers are compared
within a tolerance, and a few rows may end otherwise.

    python -m tests.acceptance.test_pinned_results    writes the file anew: only where the changelog says why
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from assay.attacks import ATTACKS
from assay.cli import main
from assay.patches import Patch
from assay.patches.universal import Universal

STORED = Path(__file__).parent / "pinned" / "records.parquet"

UNPINNED = ("cell", "seconds", "image_digest", "schema")
"""Columns that are times or digests, or the number of the record's schema."""

KEYS = ("study", "model", "data", "attack", "threat", "question", "goal", "seed", "eps_written", "sample_id")

# options that keep an attack short; one without a line takes 4 steps where it has steps
SHORT: dict[str, dict[str, Any]] = {
    "si-fgsm": {"steps": 4, "copies": 2},
    "vmi-fgsm": {"steps": 3, "neighbours": 2},
    "apgd-t": {"steps": 5, "targets": 2},
    "fab-t": {"steps": 5, "targets": 2},
    "square": {"queries": 15},
    "block-grey": {"block": 2, "steps": 4},
    "block-grey-search": {"block": 2, "queries": 15},
    "attention-de": {"population": 6, "generations": 2, "windows": 2, "share": 0.5},
    "hinge-sum": {"inner": 4, "rounds": 2},
    "carlini-wagner": {"inner": 5, "rounds": 2},
    "ead": {"inner": 5, "rounds": 2},
    "autoattack": {"steps": 4, "queries": 5, "targets": 2},
    "cascade": {"steps": 4, "queries": 5, "targets": 2},
    "patch-search": {"places": 2, "inner": 3},
    "nes": {"queries": 110, "pairs": 8},
    "spsa": {"queries": 140, "pairs": 8},
    "simba": {"queries": 15},
    "one-pixel": {"population": 6, "generations": 2},
    "hop-skip-jump": {"queries": 40, "first": 8},
    "boundary": {"queries": 30},
    "lbfgs": {"inner": 5, "rounds": 2},
    "spatial": {"tries": 3},
}

EPS = {"linf": [0.02, 0.08], "l2": [0.2, 0.8], "l1": [1, 4], "l0": [2, 8], "patch": [1, 2]}

NETS = '''
import torch
from torch import nn


def _nearest_mean(features, size):
    """Logits by the distance of the features to those of four templates."""
    templates = torch.stack([_template(c) for c in range(4)])
    with torch.no_grad():
        means = features(templates).flatten(1)
    last = nn.Linear(means.shape[1], 4)
    with torch.no_grad():
        last.weight.copy_(size * means)
        last.bias.copy_(-size * means.square().sum(1) / 2)
    return nn.Sequential(*features, nn.Flatten(), last)


def _template(c):
    picture = torch.full((1, 8, 8), 0.35)
    picture[0, 4 * (c // 2) : 4 * (c // 2) + 4, 4 * (c % 2) : 4 * (c % 2) + 4] = 0.6
    return picture


def _filled(layer, seed):
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=draws) / layer.weight[0].numel() ** 0.5)
        layer.bias.zero_()
    return layer


def mlp():
    return _nearest_mean(nn.Sequential(nn.Flatten(), _filled(nn.Linear(64, 24), 1), nn.Tanh()), 2.0)


def cnn():
    conv = _filled(nn.Conv2d(1, 6, 3, padding=1), 2)
    return _nearest_mean(nn.Sequential(conv, nn.ReLU(), nn.AvgPool2d(2)), 3.0)
'''


def _grids() -> Iterator[tuple[str, dict[str, Any]]]:
    every: dict[str, list[Any]] = {norm: [] for norm in EPS}
    for name, entry in ATTACKS.items():
        short = SHORT.get(name, {"steps": 4} if "steps" in entry.options else {})
        for norm in set(EPS).intersection(entry.norms):
            every[norm].append({"attack": name, **short})
    few = ["fgsm", {"attack": "pgd", "steps": 4}, {"attack": "apgd", "steps": 4, "restarts": 2}]
    composed = [
        {"attack": "pgd", "steps": 3, "restarts": 3},
        {"attack": "pgd", "steps": 3, "smallest": 4},
        {"attack": "pgd", "steps": 3, "smallest": 3, "restarts": 2},
        {"attack": "bim", "steps": 3, "eot": 2},
        {"attack": "bim", "steps": 3, "averaged": 3, "averaged_sigma": 0.05},
        {"attack": "mi-fgsm", "steps": 3, "diversity": 0.5, "averaged": 2, "restarts": 2},
        {"attack": "fab", "steps": 4, "surrogate": "nets.py:cnn"},
        {"attack": "pgd", "steps": 4, "surrogate": "nets.py:mlp+nets.py:cnn"},
        {"attack": "autoattack", "steps": 3, "queries": 4, "targets": 2, "surrogate": "nets.py:cnn"},
        {"attack": "cascade", "steps": 3, "queries": 4, "targets": 2, "restarts": 2},
        {"attack": "universal", "file": "change.safetensors"},
        {"attack": "pgd", "steps": 3, "objective": "cross_entropy/2"},
    ]
    pasted = [
        {"attack": "patch", "file": "patch.safetensors", "placement": 2, "places": 2},
        {"attack": "patch", "file": "patch.safetensors", "restarts": 2},
    ]
    one = {"models": "nets.py:mlp"}
    for norm, attacks in every.items():
        for question in ("worst_case", "as_attacked") if norm in ("linf", "l0", "patch") else ("worst_case",):
            yield f"every-{norm}-{question}", {**one, **_at(norm), "attacks": attacks, "question": question}
    yield "descending", {"models": "nets.py:cnn", **_at("l2"), "attacks": every["l2"], "order": "descending"}
    both = {"models": ["nets.py:mlp", {"model": "nets.py:cnn", "outputs": "logits"}]}
    for question in ("worst_case", "as_attacked"):
        yield f"composed-{question}", {**both, **_at("linf"), "attacks": composed, "question": question, "seed": 3}
    yield "composed-descending", {**both, **_at("linf"), "attacks": composed, "order": "descending", "chunk": 3}
    for goal in ("targeted next", "targeted random", "targeted least-likely", "targeted 1", "out-of-top 2"):
        slug = goal.replace(" ", "-")
        yield f"goal-{slug}", {**both, **_at("linf"), "attacks": few, "goal": goal}
    for goal in ("untargeted", "targeted 2"):
        slug = goal.replace(" ", "-")
        yield f"patch-{slug}", {**both, "threats": {"norm": "l0", "eps": [9, 18]}, "attacks": pasted, "goal": goal}
    units = [{"norm": "linf", "eps": ["8/255"], "grid": 256}, {"norm": "l2", "eps": [0.5], "box": False}]
    bim = {"attack": "bim", "steps": 3}
    yield "threats", {**both, "threats": units, "attacks": [bim], "seed": 9}


def _at(norm: str) -> dict[str, Any]:
    return {"threats": {"norm": norm, "eps": EPS[norm]}}


def _data(folder: Path) -> None:
    draws = torch.Generator().manual_seed(5)
    labels = torch.arange(8) % 4
    pictures = torch.full((8, 1, 8, 8), 0.35)
    for row, label in enumerate(labels.tolist()):
        top, left = 4 * (label // 2), 4 * (label % 2)
        pictures[row, 0, top : top + 4, left : left + 4] += 0.05 * (row // 2 + 1)
    pictures += 0.2 * (torch.rand(pictures.shape, generator=draws) - 0.5)
    # one that carries another label than it shows
    labels[7] = 0
    np.savez(folder / "digits.npz", images=pictures.clamp(0, 1).numpy(), labels=labels.numpy())


def _study(folder: Path) -> pa.Table:
    """Run every grid as a study of its own in `folder`, and return their records with the study's name."""
    (folder / "nets.py").write_text(NETS)
    _data(folder)
    draws = torch.Generator().manual_seed(7)
    Patch(torch.rand(1, 3, 3, generator=draws), torch.ones(3, 3), 2, "2").save(folder / "patch.safetensors")
    change = 0.08 * (torch.rand(1, 8, 8, generator=draws) - 0.5)
    Universal(change, "linf", 0.04).save(folder / "change.safetensors")
    tables = []
    with contextlib.chdir(folder):
        for name, grid in _grids():
            Path("study.yaml").write_text(
                json.dumps({"study": name, "data": "npz:digits.npz", "certify": "off", **grid})
            )
            flags = ["--no-doctor", "--display", "none", "--audit", "off", "--out", name]
            with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as left:
                main(["run", "study.yaml", *flags])
            assert left.value.code in (0, None), name
            found = pa.concat_tables([pq.read_table(path) for path in sorted(Path(name).rglob("results/**/*.parquet"))])
            tables.append(found.append_column("study", pa.array([name] * found.num_rows)))
    whole = pa.concat_tables(tables)
    whole = whole.drop_columns([name for name in UNPINNED if name in whole.column_names])
    return whole.sort_by([(key, "ascending") for key in KEYS])


def _arithmetic() -> str:
    """Return a digest of how this machine rounds what the study computes: its networks, in batches of several sizes."""
    space: dict[str, Any] = {}
    exec(NETS, space)
    told = hashlib.blake2b(torch.__version__.encode(), digest_size=8)
    for name, rows in itertools.product(("mlp", "cnn"), (1, 3, 8, 16, 40)):
        network = space[name]()
        image = torch.rand(rows, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        logits = network(image)
        (grad,) = torch.autograd.grad(logits.logsumexp(1).sum() + logits.square().mean(), image)
        with torch.no_grad():
            alone = network(image)
        for value in (logits, alone, grad, grad.flatten(1).norm(dim=1), torch.special.erfinv(image), logits.softmax(1)):
            told.update(value.detach().contiguous().numpy().tobytes())
    return told.hexdigest()


def _write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = _study(Path(folder))
    STORED.parent.mkdir(exist_ok=True)
    pq.write_table(found.replace_schema_metadata({"arithmetic": _arithmetic()}), STORED, compression="zstd")
    print(f"{STORED}: {found.num_rows} rows, {STORED.stat().st_size:,} bytes")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return _study(tmp_path_factory.mktemp("pinned"))


def test_every_record_is_what_it_was(found: pa.Table) -> None:
    stored = pq.read_table(STORED)
    assert set(stored.column_names) <= set(found.column_names)
    for key in KEYS:
        assert found[key].equals(stored[key]), key
    same = stored.schema.metadata[b"arithmetic"].decode() == _arithmetic()
    for name in stored.column_names:
        here, there = (table[name].to_numpy(zero_copy_only=False) for table in (found, stored))
        if same:
            np.testing.assert_array_equal(here, there, err_msg=name)
        elif here.dtype.kind == "f":
            close = np.isclose(here, there, rtol=1e-3, atol=1e-5, equal_nan=True)
            assert close.mean() > 0.97, name
        else:
            agree = np.array([a == b or (a != a and b != b) for a, b in zip(here, there, strict=True)])
            assert agree.mean() > 0.97, name


def test_the_study_sees_every_kind(found: pa.Table) -> None:
    def values(name: str) -> set[Any]:
        return set(found[name].to_pylist())

    assert {"broken", "survived", "clean_wrong", "excluded"} <= values("status")
    assert {name.split("(")[0] for name in values("attack")} >= {*ATTACKS, "patch", "universal"}
    assert len(values("model")) == 2 and values("question") == {"worst_case", "as_attacked"}
    # budgets that inherit, stages of compositions, and attacks that break one image but not the next
    assert any(found["from_eps"].to_pylist()) and len(values("stage")) > 4
    for norm in EPS:
        at_norm = found.filter(pc.match_substring(found["study"], f"every-{norm}"))
        assert len(set(at_norm["status"].to_pylist())) > 2


if __name__ == "__main__":
    _write()
