"""What a node of a cluster does: it serves units by their names, if it fits the run. This file knows no cluster."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core.errors import AssayError, BadInput
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.executors.base import Failed, Job, perform
from assay.evaluation.executors.processes import told_to_workers
from assay.evaluation.loader import Loader
from assay.evaluation.records.manifest import version_of
from assay.evaluation.records.store import to_bytes
from assay.files import machine
from assay.models.remote.ledger import Ledger
from assay.spending import FOLDER

_MOST_WORDS = 100_000


class Worker:
    """Does units, in a process of the cluster. It loads the model itself, and writes no file of the run."""

    def setup(self, told: dict[str, Any]) -> dict[str, Any]:
        """Be ready for the units of a run. Returns the node's name and, where it cannot serve the run, why."""
        import torch

        # workers are used again, and Ray leaves the number of threads as whoever was before has set it
        torch.set_num_threads(1)
        with contextlib.suppress(OSError):
            os.chdir(told["cwd"])
        sys.path.extend(entry for entry in told["path"] if entry not in sys.path)
        self._loader = Loader(**told["loader"])
        self._cells = {digest: Cell.of(plain) for digest, plain in json.loads(told["cells"]).items()}
        self._ledger = Path(told["shared"]["folder"]) if told["shared"] else None
        wrong = _other_release(told, self._cells) or _not_shared(told["shared"])
        answer = {"node": socket.gethostname()}
        return {**answer, **_stop(BadInput(wrong))} if wrong else answer

    def do(self, digest: str, chunk: int) -> dict[str, Any]:
        """Do a unit. Returns its counts, records and pictures, or why not; and what was printed meanwhile."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            told = self._done(Unit(self._cells[digest], chunk))
        return {**told, "printed": printed.getvalue()[-_MOST_WORDS:]}

    def _done(self, unit: Unit) -> dict[str, Any]:
        ledger = contextlib.nullcontext() if self._ledger is None else Ledger.of_run(self._ledger, check=False).used()
        try:
            with ledger:
                answer = perform(unit, self._loader)
        except AssayError as error:
            return _stop(error)
        if isinstance(answer, Failed):
            return {"failed": answer.reason, "details": answer.details}
        counts = {name: getattr(answer, name) for name in ("forwards", "backwards", "errors", "seconds")}
        return {"done": counts, "records": to_bytes(answer.records), "pictures": answer.pictures}

    def ping(self) -> None:
        """Answer, when what was asked before is done."""


def told_to_nodes(units: Sequence[Unit], job: Job) -> tuple[dict[str, Any], Path | None]:
    """Return what workers are told about a run, and the file they must find when they share its directory."""
    told = told_to_workers(units, job)
    shared, nonce = None, None
    if job.endpoints:
        nonce = job.folder.absolute() / FOLDER / f"shared-{uuid.uuid4().hex}"
        nonce.parent.mkdir(parents=True, exist_ok=True)
        nonce.write_text(nonce.name, encoding="utf-8")
        shared = {"folder": str(job.folder.absolute()), "nonce": str(nonce), "machine": machine()}
    path = [entry or str(Path.cwd()) for entry in sys.path]
    more = {"path": path, "cwd": str(Path.cwd()), "release": version_of("assay"), "shared": shared}
    return {**more, "loader": told["loader"], "cells": json.dumps(told["cells"])}, nonce


def _stop(error: AssayError) -> dict[str, Any]:
    return {"stop": str(error), "kind": [type(error).__module__, type(error).__qualname__]}


def _other_release(told: dict[str, Any], cells: Mapping[str, Cell]) -> str:
    """Say that a node would compute other numbers: its release is another, or names the same cells otherwise."""
    here = version_of("assay")
    if told["release"] == here and all(cell.digest == digest for digest, cell in cells.items()):
        return ""
    return (
        f"assay is another here ({here or 'not installed'}) than where the run was started "
        f"({told['release'] or 'not installed'}). Install the same on each node."
    )


def _not_shared(shared: dict[str, str] | None) -> str:
    """Say why what an endpoint answers could not be kept and counted for all workers together."""
    if shared is None:
        return ""
    fix = "Run models behind an endpoint with --executor processes: the endpoint does their work, not the cluster."
    try:
        found = Path(shared["nonce"]).read_text(encoding="utf-8")
    except OSError:
        found = ""
    if found != Path(shared["nonce"]).name:
        return f"The run directory {shared['folder']}, which keeps what the endpoint answers, is not shared here. {fix}"
    if machine() != shared["machine"]:
        # SQLite's write-ahead log lies in memory that processes share, which those of two machines do not
        return (
            "This is another machine than the run was started on, and the file that keeps what the endpoint answers "
            f"and counts its queries can be used by one machine alone, on a shared disk too. {fix}"
        )
    return ""
