"""MLflow: a run per cell and budget beneath one for the run directory, at its end or while it is measured.

Where they go is MLflow's to say: `MLFLOW_TRACKING_URI`, or else `mlflow.db` in the working folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput
from assay.evaluation.run import Run
from assay.exports.extras import in_line, require, without_secrets
from assay.exports.facts import Facts

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from assay.evaluation.execution.progress import Progress

EXPERIMENT = "assay"
ARTIFACT = "assay.json"
RUN, ROW, KIND = "assay.run", "assay.row", "assay.kind"
# what tells rows apart; MLflow forbids another value in a second export
_PARAMS = (
    "cell", "model", "data", "attack", "threat", "eps_written", "unit", "question", "goal", "seed", "access",
    "queries_limit",
)  # fmt: skip
_LIVE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""A server that does not answer must not hold up a run for minutes; what the user has set stands."""
_MOST = 1000
"""As many metrics as one request may hold."""


def write_mlflow(facts: Facts, target: Path) -> list[str]:  # shape: the form of every adapter; MLflow has its own place
    """Write the numbers into MLflow, and return where they are; an export again changes what is there.

    Raises `BadInput` where MLflow is not installed, and where its store does not answer or refuses the numbers.
    """
    with _quiet():
        from mlflow.exceptions import MlflowException

        try:
            tracked = MLflowRun.of(facts.run)
            tracked.write(facts)
        except MlflowException as error:
            # without its cause: that may hold the password of the address
            raise BadInput(
                f"MLflow could not take the numbers ({in_line(error)}). MLFLOW_TRACKING_URI says where its store is; "
                "without it that is mlflow.db in the working folder. The same command goes on with what it has written."
            ) from None
        return [tracked.place]


class MLflowRun:
    """The MLflow run of a run directory."""

    def __init__(self, client: MlflowClient, experiment: str, number: str) -> None:
        """Write into the run `number` of an experiment (its id)."""
        self._client, self._experiment, self._number = client, experiment, number

    @classmethod
    def of(cls, run: Run) -> MLflowRun:
        """Return the MLflow run of a run directory: that of an earlier export, or a new one."""
        client, experiment = _connected()
        identity = Facts(run).identity
        found = client.search_runs([experiment], f"tags.`{RUN}` = '{identity}' and tags.`{KIND}` = 'run'")
        if found:
            return cls(client, experiment, found[0].info.run_id)
        tags = {RUN: identity, KIND: "run", "assay.directory": run.far or str(run.path)}
        made = client.create_run(experiment, run_name=_name(run.study), tags=tags)
        return cls(client, experiment, made.info.run_id)

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return f"{without_secrets(self._client.tracking_uri)}  experiment {self._experiment}, run {self._number}"

    def start(self) -> None:
        """Say that it is running."""
        self._client.update_run(self._number, status="RUNNING")

    def progress(self, now: Progress) -> None:
        """Log how far the run is, at the number of units that are done."""
        told = {
            "progress/share": now.share, "progress/records": now.records, "progress/errors": now.errors,
            "progress/forwards": now.forwards, "progress/backwards": now.backwards,
        }  # fmt: skip
        self._log(self._number, told, now.units)

    def end(self, status: str) -> None:
        """Say how it ended: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self._number, status)

    def write(self, facts: Facts) -> None:
        """Write the numbers: tags of the run, a run for each row, and all of it as an artifact."""
        for name in ("study", "status", "reportable"):
            self._client.set_tag(self._number, f"assay.{name}", str(facts.shown[name]))
        self._client.set_tag(self._number, "assay.not_reportable_because", "; ".join(facts.reservations))
        for name, one in facts.manifest["environment"].items():
            self._client.set_tag(self._number, f"assay.environment.{name}", str(one))
        known = self._known()
        for row in facts.rows:
            self._write_row(row, facts, known)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / ARTIFACT
            file.write_text(json.dumps(facts.document(), indent=1, allow_nan=False), encoding="utf-8")
            self._client.log_artifact(self._number, str(file))
        self.end("FINISHED" if facts.shown["status"] == "success" else "FAILED")

    def _known(self) -> dict[str, str]:
        parent, known, token = f"tags.`mlflow.parentRunId` = '{self._number}'", {}, None
        while True:
            found = self._client.search_runs([self._experiment], parent, max_results=_MOST, page_token=token)
            known.update({one.data.tags.get(ROW, ""): one.info.run_id for one in found})
            token = found.token
            if not token:
                return known

    def _write_row(self, row: Mapping[str, Any], facts: Facts, known: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        which = f"{row['cell']} {row['eps_written']}"
        tags = {
            name: str(value)
            for name, value in row.items()
            if name not in _PARAMS and value is not None and not _numeric(value)
        }
        number = known.get(which)
        if number is None:
            about = {RUN: facts.identity, KIND: "row", ROW: which, "mlflow.parentRunId": self._number}
            name = _name(f"{row['model']} {row['attack']} {row['threat']} {row['eps_written']}")
            number = self._client.create_run(self._experiment, run_name=name, tags=about).info.run_id
            params = [Param(name, str(row[name])) for name in _PARAMS if row[name] is not None]
            self._client.log_batch(number, params=params)
        told = [RunTag(name, value) for name, value in tags.items()]
        # of an audit that has been made anew: what it no longer says
        told += [RunTag("verdict", "")] if row["verdict"] is None else []
        told.append(RunTag("assay.reportable", str(facts.shown["reportable"])))
        self._client.log_batch(number, tags=told)
        self._log(number, {name: value for name, value in row.items() if _numeric(value)}, 0)
        self._client.set_terminated(number)

    def _log(self, number: str, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(number, metrics=[Metric(name, float(one), now, step) for name, one in values.items()])


class MLflowTracker:
    """Tells MLflow of a run while it goes on, and its numbers when it has ended."""

    def __init__(self) -> None:
        """Raise `BadInput` where MLflow is not installed."""
        require("mlflow", "MLflow", "mlflow")
        self._tracked: MLflowRun | None = None

    def hear(self, folder: Path, now: Progress) -> None:
        """Log how far the run in `folder` is, where a cell is finished."""
        with _quiet(), _patience():
            if self._tracked is None:
                self._tracked = MLflowRun.of(Run.open(folder))
                self._tracked.start()
            if now.cell_finished:
                self._tracked.progress(now)

    def end(self, run: Run) -> None:
        """Write the numbers of a run that came to its end."""
        with _quiet(), _patience():
            (self._tracked or MLflowRun.of(run)).write(Facts(run))

    def fail(self, stopped: bool) -> None:
        """Say that the run was stopped by its user, or failed."""
        if self._tracked is not None:
            with _quiet(), _patience():
                self._tracked.end("KILLED" if stopped else "FAILED")


def _connected() -> tuple[MlflowClient, str]:
    """Return MLflow's client, and the id of the experiment (`MLFLOW_EXPERIMENT_NAME`, or assay)."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    return client, found.experiment_id if found is not None else client.create_experiment(name)


def _numeric(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _name(text: str) -> str:
    return " ".join(text.split())[:250]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow's and its data base's reports of what they do out of the terminal; what is wrong stays."""
    # it sets its loggers up when it is imported
    require("mlflow", "MLflow", "mlflow")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: F401  # for that alone

    names = ("mlflow", "alembic")
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    mine = {name: value for name, value in _LIVE.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)
