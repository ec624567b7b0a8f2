"""The run that `docs/cluster.md` tells of, with fewer pages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.scale, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_cluster_that_loses_a_node_and_its_driver_has_the_records_of_a_serial_run(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/cluster_run.py", str(tmp_path / "out"), "--pages", "320"]
    subprocess.run(command, cwd=ROOT, check=True)
    told = json.loads((tmp_path / "out" / "told.json").read_text())
    assert told["equal"] and told["status"] == "success" and told["records"] == 320 * 3
    assert 10 <= told["done_when_the_node_died"] < told["done_when_the_driver_died"] < told["units"] == 20
    page = (tmp_path / "out" / "cluster" / "report.html").read_text(encoding="utf-8")
    assert "4/255" in page and "pages-on-a-cluster" in page
