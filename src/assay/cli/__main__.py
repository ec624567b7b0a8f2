"""`assay`, and `python -m assay.cli`: the command line as a process of its own."""

from __future__ import annotations

import atexit
import os
import sys
import threading

from assay.cli import main


def run_process() -> None:
    """Run the command line and end the process.

    Taking torch apart at the end takes a second, and the system does it anyway: after the exit handlers and the last
    output the process ends at once. With other threads alive, or output that nobody reads, it ends as Python does.
    """
    try:
        main()
    except SystemExit as left:
        code = left.code
        if not isinstance(code, int | None) or any(
            thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()
        ):
            raise
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


if __name__ == "__main__":
    run_process()
