"""Find packages of this environment whose files are missing or cut short.

Usage: python venv_check.py [--repair] [NAME-VERSION.dist-info ...]

Every installed package lists its files with their sizes in RECORD, and pip writes RECORD last; so an interrupted
install, a full disk or a deleted folder show here. The names given must be installed too. Prints one line for each
broken package and exits with 1 if there is one. With --repair the broken packages are struck from the list of
installed ones, so that pip brings them back.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import sysconfig


def broken_files(site: str, info: str) -> str:
    """Say what is wrong with one package, or return an empty text."""
    record = os.path.join(site, info, "RECORD")
    if not os.path.exists(record):
        return "not installed completely"
    missing = 0
    with open(record, newline="", encoding="utf-8") as lines:
        for name, _, size in csv.reader(lines):
            if not size or name.endswith(".pyc"):
                continue
            try:
                # longer is somebody's own change, such as a certificate added to certifi
                missing += os.stat(os.path.join(site, name)).st_size < int(size)
            except OSError:
                missing += 1
    return f"{missing} files missing or cut short" if missing else ""


def main(arguments: list[str]) -> int:
    """Check every package of this environment; see the top of the file."""
    site = sysconfig.get_paths()["purelib"]
    repair = "--repair" in arguments
    expected = {name for name in arguments if name != "--repair"}
    installed = {name for name in os.listdir(site) if name.endswith(".dist-info")}
    found = 0
    for info in sorted(expected | installed):
        why = broken_files(site, info) if info in installed else "no longer installed"
        if why:
            found += 1
            print(f"  {info.removesuffix('.dist-info')}: {why}")
            if repair:
                shutil.rmtree(os.path.join(site, info), ignore_errors=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
