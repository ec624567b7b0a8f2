"""How a study is run. None of it changes a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from assay.core.errors import BadInput, did_you_mean
from assay.evaluation.execution.share import Share
from assay.evaluation.executors import EXECUTORS, Executor, Processes, Ray
from assay.evaluation.loader import Loader
from assay.models.devices import read_devices


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run a study; none of it changes a result but `allow_random_data`, of data that are random.

    `executor` is a name (`serial`, `processes`, `ray`) or an executor; `workers` of None is one per processor.
    `address` is that of a Ray cluster; without it `ray` makes one of this machine. `fork` starts a new directory beside
    one of another study, with the finished shards they share. `fail_on_error` ends the run: True at the first sample
    that cannot be evaluated, a fraction or a count above so many. `retry_errors` runs chunks with error records again.
    `batch` bounds the rows of a pass. `allow_pickle` admits weights that could run code. `share` ("3/8", or "slurm" in
    a task of a job array) runs a share of the units, beside processes that run the others in the same directory.
    `allow_random_data` fixes what samples draw at random while they are read, one draw per sample; without it such data
    are refused. `device` is where models compute: by default the CPU for those named, and for those given as objects
    wherever they are. `devices` are those of worker processes, one each or `workers` dealt out in turn
    ("cuda:0,cuda:1"); what is done in this process (the look before the run, the audit) is done on the first.
    `command` is kept in the manifest.
    """

    executor: str | Executor = "serial"
    workers: int | None = None
    address: str | None = None
    fork: bool = False
    share: str | None = None
    fail_on_error: bool | float = False
    retry_errors: bool = False
    device: str | None = None
    devices: str | Sequence[str] | None = None
    batch: int | None = None
    allow_pickle: bool = False
    allow_random_data: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.workers is not None and self.workers < 1:
            raise BadInput(f"workers is {self.workers}, expected 1 or more.")
        if self.devices is not None and self.device not in (None, "cpu"):
            raise BadInput(f"device is {self.device!r} and devices are {self.devices!r}. Give one of the two.")
        if self.batch is not None and self.batch < 1:
            raise BadInput(f"batch is {self.batch}, expected 1 or more.")
        self.part()
        if self.fail_on_error < 0:
            raise BadInput(
                f"fail_on_error is {self.fail_on_error}, expected true, false, a fraction below 1, or a count."
            )

    @property
    def first_device(self) -> str | None:
        """The device, or the first of several; None where models given as objects stay wherever they are."""
        return read_devices(self.devices)[0] if self.devices is not None else self.device

    def loader(self) -> Loader:
        """Return a loader for models and data with these options."""
        return Loader(self.first_device, self.allow_pickle, self.batch, allow_random_data=self.allow_random_data)

    def part(self) -> Share | None:
        """Return the share to run; None for all. Raises `BadInput` for what is none."""
        return None if self.share is None else Share.read(self.share)

    def engine(self) -> Executor:
        """Return the executor. Raises `BadInput` for an unknown name, and where it is not installed."""
        if self.address is not None and self.executor != "ray":
            raise BadInput(f"address is {self.address!r}, which executor='ray' alone takes (--executor ray).")
        if self.devices is not None:
            return self._on_devices(read_devices(self.devices))
        if not isinstance(self.executor, str):
            return self.executor
        make = EXECUTORS.get(self.executor)
        if make is None:
            near = did_you_mean(self.executor, EXECUTORS)
            raise BadInput(f"Unknown executor {self.executor!r}.{near} There are: {', '.join(EXECUTORS)}.")
        engine = make(self.workers)
        return dataclasses.replace(engine, address=self.address) if isinstance(engine, Ray) else engine

    def _on_devices(self, devices: tuple[str, ...]) -> Executor:
        if isinstance(self.executor, Processes):
            return dataclasses.replace(self.executor, devices=devices)
        if self.executor not in ("serial", "processes"):
            name = self.executor if isinstance(self.executor, str) else type(self.executor).__name__
            raise BadInput(
                f"devices are those of worker processes, and the executor is {name}. Leave it out, or "
                "leave devices out: Ray gives each worker a GPU of its own with --executor ray --device cuda."
            )
        return Processes(self.workers, devices=devices)

    def most_errors(self, samples: int) -> float:
        """Return how many of `samples` may fail."""
        allowed = self.fail_on_error
        if isinstance(allowed, bool):
            return 0 if allowed else float("inf")
        return allowed * samples if allowed < 1 else allowed
