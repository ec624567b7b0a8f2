"""An audit says nothing about images that the run did not attack."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import assay
from assay.core.errors import BadInput
from assay.evaluation.records.schema import ADDED
from assay.evaluation.run import Run

THREAT = assay.Linf("1/255")


def evaluated(folder: Path) -> tuple[assay.Evaluation, torch.Tensor]:
    images = torch.full((12, 3, 4, 4), 0.4)
    labels = torch.arange(12) % 3
    images[torch.arange(12), labels] += 0.3
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    ids = tuple(f"own/{i}" for i in range(12))
    data = assay.Data("own", "f", ids, tuple(labels.tolist()), None, None, lambda at: images[at].clone())
    return assay.evaluate(net, data, "pgd", THREAT, folder, audit="off", doctor=False), images


def test_images_that_changed_are_refused_and_counted(tmp_path: Path) -> None:
    run, images = evaluated(tmp_path / "run")
    before = run.audit()
    images[5] = 0.4
    images[7, 0, 0, 0] += 1e-6
    with pytest.raises(BadInput, match="2 of the 12 images that the audit reads from own are not those"):
        run.audit(seed=1)
    assert run.run.verdicts() == before, "what was said before stays"


def test_a_run_without_digests_opens_and_is_audited(tmp_path: Path) -> None:
    run, _ = evaluated(tmp_path / "run")
    for shard in run.path.glob("results/*/part-*.parquet"):
        table = pq.read_table(shard, partitioning=None).drop_columns(list(ADDED))
        pq.write_table(table, shard)
    old = Run.open(run.path)
    assert set(old.records(["image_digest"])["image_digest"].to_pylist()) == {None}
    assert old.results() == run.results()
    assert len(run.audit()) == 1


def test_records_name_the_pixels(tmp_path: Path) -> None:
    run, images = evaluated(tmp_path / "run")
    rows = run.records(["sample_id", "image_digest"]).to_pylist()
    assert all(re.fullmatch("[0-9a-f]{16}", row["image_digest"]) for row in rows)
    alike = {tuple(images[int(row["sample_id"][4:])].flatten().tolist()): row["image_digest"] for row in rows}
    assert len(alike) == len(set(alike.values())) == 3
