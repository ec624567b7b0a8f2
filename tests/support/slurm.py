"""A Slurm of one node: its daemons as children of this process, with ports, keys and files of their own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")

CONFIGURATION = """
ClusterName=assay
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={controller}
SlurmdPort={node}
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Say why no Slurm can be started here; "" where one can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "Slurm's daemons need root"
    gone = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    return f"{', '.join(gone)} not installed (apt-get install slurmctld slurmd slurm-client munge)" if gone else ""


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Slurm:
    """A running cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, *words: str, more: Mapping[str, str] | None = None, seconds: float = 300) -> str:
        """Run one of Slurm's programs, and return what it says; a job's failure is no failure of `sbatch --wait`."""
        told = subprocess.run(
            words,
            env={**self.environment, **(more or {})},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert told.returncode == 0 or "--wait" in words, (words, told.stderr)
        return told.stdout

    def submit(self, script: str, array: str, *, wait: bool = True) -> str:
        """Submit an array of a script, and return the job's number, after its end where `wait` says so."""
        file = self.folder / f"{secrets.token_hex(4)}.sh"
        file.write_text(script)
        words = ["sbatch", "--parsable", f"--array={array}", f"--output={self.folder}/%A_%a.out", "--ntasks=1"]
        return self.call(*words, *(["--wait"] if wait else []), str(file)).strip()

    def ended(self, job: str, seconds: float = 300) -> None:
        """Wait for a job's end."""
        until = time.monotonic() + seconds
        while self.call("squeue", "-h", "-j", job, "-t", "PENDING,RUNNING,COMPLETING").strip():
            assert time.monotonic() < until, self.call("squeue")
            time.sleep(0.2)

    def said(self, job: str) -> str:
        """Return what the tasks of a job printed."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob(f"{job}_*.out")))


@contextlib.contextmanager
def slurm(cpus: int = 4) -> Iterator[Slurm]:
    """Yield a cluster that is idle. Whatever was started is stopped, by its process number, and its files removed."""
    folder = Path(tempfile.mkdtemp(prefix="assay-slurm-"))
    folder.chmod(0o755)
    started: list[subprocess.Popen[bytes]] = []
    made = Slurm(folder)
    try:
        for name in ("state", "spool", "munge"):
            (folder / name).mkdir(mode=0o755)
        key = folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        host, ports = socket.gethostname().partition(".")[0], [_free_port(), _free_port()]
        text = CONFIGURATION.format(host=host, folder=folder, controller=ports[0], node=ports[1], cpus=cpus)
        (folder / "slurm.conf").write_text(text)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        # its own key in its own folder: the system's munge is left alone, and root may start another
        options = [f"--{option}={folder}/munge/{name}" for option, name in files.items()]
        for words in (
            ["munged", "--foreground", "--force", *options],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D", "-c"],
        ):
            with (folder / f"{words[0]}.out").open("wb") as output:
                started.append(subprocess.Popen(words, env=made.environment, stdout=output, stderr=output))
            if words[0] == "munged":
                _wait(made, started, lambda: (folder / "munge" / "socket").exists())
        _wait(made, started, lambda: "idle" in made.call("sinfo", "-h"))
        yield made
    finally:
        if len(started) == 3:
            with contextlib.suppress(AssertionError, subprocess.SubprocessError):
                made.call("scancel", "--user=root", "--signal=KILL", "--full", seconds=20)
                made.call("scancel", "--user=root", seconds=20)
                time.sleep(1)
        for one in reversed(started):
            one.terminate()
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(made: Slurm, started: list[subprocess.Popen[bytes]], condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(AssertionError):
            if condition():
                return
        logs = "\n".join(p.read_text(errors="replace")[-2000:] for p in made.folder.glob("*.[lo][ou][gt]"))
        assert all(one.poll() is None for one in started), logs
        assert time.monotonic() < end, logs
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])
