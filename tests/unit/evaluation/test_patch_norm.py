"""Runs under patches: sizes in records, numbers that fall with the patch, and the audit of them."""

from __future__ import annotations

from pathlib import Path

import torch

import assay


def test_a_run_against_double_masking_tells_the_size_of_each_patch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    x = torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        y = net(x).argmax(1)
    models = [assay.load_model(net), assay.defend(net, "double-masking:patch=2,masks=2")]
    attack = {"attack": "patch-search", "places": 2, "inner": 3}
    threats = [assay.Patch(1), assay.Patch(4)]
    found = assay.evaluate(models, (x, y), attack, threats, tmp_path / "run", doctor=False, question="worst_case")
    rows = found.run.records().to_pylist()
    assert len(rows) == 24 and {row["threat"] for row in rows} == {"patch"}
    assert all(row["size_patch"] <= row["eps"] for row in rows if row["status"] != "clean_wrong")
    assert all(row["size_patch"] in (1, 2, 3, 4) for row in rows if row["status"] == "broken")
    assert {row["status"] for row in rows} >= {"broken", "survived"}
    # a look at the defended one asks about four masked images, and about more where they disagree
    defended = [row for row in rows if "double-masking" in row["model"]]
    assert len(defended) == 12 and all(row["forwards"] >= 4 * row["queries"] for row in defended)
    assert any(row["forwards"] > 4 * row["queries"] for row in defended)
    # audits have no check of their own for patches, and say what they looked at
    assert len(found.run.verdicts()) == 4
