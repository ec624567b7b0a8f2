"""The demo as a user meets it; minutes, and a connection where nothing is cached yet."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.workplace import Workplace


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    began, first = time.monotonic(), None
    line = [sys.executable, "-m", "assay.cli", "demo"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for said in process.stderr:
            if "accuracy" in said and first is None:
                first = time.monotonic() - began
        assert process.stdout is not None
        table = process.stdout.read()
    assert process.returncode == 0
    assert first is not None
    assert first < 60
    for words in (
        "zoo:mnist-cnn · mnist/test",
        "zoo:mnist-distilled-t100 · mnist/test",
        "efficientnet-lite0 · samples",
        "Not reportable: 20 images in samples",
    ):
        assert words in table
    # the flat line and its refutation, at eps 0.3
    words = (
        r"distilled network is gradient masking: at eps 0.3 naive FGSM leaves ([\d.]+) %,\s+FGSM .* leaves ([\d.]+) %"
    )
    found = re.search(words, table)
    assert found is not None
    assert float(found[1]) > 70
    assert float(found[2]) < 5
    assert Path("runs/demo/report.html").is_file()
    place = Workplace(tmp_path, capsys)
    again = place.assay("demo")
    assert again.code == 0
    assert "nothing was left to do" in again.out
    # the commands it names work
    assert place.assay("show runs/demo").code == 0
    assert place.assay("attacks").code == 0
