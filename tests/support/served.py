"""Real servers of models for the tests: each is started on loopback from its own environment, and stopped again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "servers" / "programs"
START = 90.0
"""Seconds that a server may take to answer: 2 to 5 on a quiet machine."""


@dataclasses.dataclass(frozen=True)
class Model:
    """An ONNX file under a name; see `Served` in the programs."""

    name: str
    file: Path
    input: str
    output: str
    shape: tuple[int, ...]
    classes: int
    datatype: str = "FP32"


class Server:
    """One running server. `kill` ends it at once and `start` brings it back at the same address."""

    def __init__(self, kind: str, models: Sequence[Model], folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.log = folder / "server.log"
        self.models = {one.name: one for one in models}
        self.ports = free_ports(3)
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        listed = [dataclasses.asdict(one) | {"file": str(one.file)} for one in models]
        (folder / "models.json").write_text(json.dumps(listed))
        if kind == "mlserver":
            _mlserver_folder(folder, self.ports, models)

    @property
    def url(self) -> str:
        """Return the address."""
        return f"http://127.0.0.1:{self.ports[0]}"

    def start(self) -> None:
        """Start the program, and wait until each of its models answers that it is ready."""
        python = environment("kserve" if self.kind == "litserve" else self.kind)
        ports = [str(port) for port in self.ports]
        listed = str(self.folder / "models.json")
        command = {
            "mlserver": [str(python.parent / "mlserver"), "start", str(self.folder)],
            "kserve": [str(python), str(PROGRAMS / "for_kserve.py"), ports[0], listed],
            "triton": [str(python), str(PROGRAMS / "for_triton.py"), *ports, listed],
            "litserve": [str(python), str(PROGRAMS / "for_litserve.py"), ports[0], listed],
        }[self.kind]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
        settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAMS), "PYTRITON_HOME": str(self.folder)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=inherited | settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        pages = ["/health"] if self.kind == "litserve" else [f"/v2/models/{name}/ready" for name in self.models]
        end = time.monotonic() + START
        while not all(_answers(self.url + page) for page in pages):
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"{self.kind} ended before it answered. {self.told()}")
            if time.monotonic() > end:
                raise AssertionError(f"{self.kind} did not answer within {START:.0f} s. {self.told()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End the server and its children at once, as a crash would."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        # what Triton shares with its children outlives all of them
        for left in Path("/dev/shm").glob(f"pytrtion{self.process.pid}-*"):
            left.unlink(missing_ok=True)
        self.process = None

    def stop(self) -> None:
        """Ask the server to end, give it 10 seconds, and end what is left of its process group."""
        if self.process is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.kill()

    def told(self) -> str:
        """Return the end of what the server wrote, for the text of an error."""
        return f"Its log, {self.log}, ends:\n{self.log.read_text(errors='replace')[-3000:]}"


@contextlib.contextmanager
def running(kind: str, models: Sequence[Model], folder: Path) -> Iterator[Server]:
    """Run a server of a kind (mlserver, kserve, triton, litserve) for as long as the block lasts."""
    server = Server(kind, models, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def environment(name: str) -> Path:
    """Return the Python of a server's environment; raises `AssertionError` where it was not made."""
    root = Path(os.environ.get("ASSAY_SERVERS") or ROOT / ".venv-servers")
    python = root / name / "bin" / "python"
    assert python.exists(), (
        f"{python} is missing: bash scripts/install-beside.sh servers makes it (make test-servers does)"
    )
    return python


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nothing listens on, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _answers(url: str) -> bool:
    # no proxy of the environment stands before loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _mlserver_folder(folder: Path, ports: Sequence[int], models: Sequence[Model]) -> None:
    http, grpc, metrics = ports
    settings = {"debug": False, "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (folder / "settings.json").write_text(json.dumps(settings | {"parallel_workers": 0}))
    for one in models:
        place = folder / one.name
        place.mkdir()
        inputs = [{"name": one.input, "datatype": one.datatype, "shape": [-1, *one.shape]}]
        outputs = [{"name": one.output, "datatype": "FP32", "shape": [-1, one.classes]}]
        parameters = {"uri": str(one.file), "version": "v1"}
        described = {"name": one.name, "implementation": "for_mlserver.OnnxModel", "parameters": parameters}
        (place / "model-settings.json").write_text(json.dumps(described | {"inputs": inputs, "outputs": outputs}))
