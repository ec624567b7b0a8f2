"""Fresh Python processes with a given number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def run_python(code: str, threads: int) -> str:
    """Run `code` as a script in a fresh process and return the last line it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        # a file rather than -c: spawned workers import the main module again
        script = Path(folder) / "script.py"
        script.write_text(code)
        command = [sys.executable, str(script)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]
