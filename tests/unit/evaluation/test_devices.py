"""Worker processes on devices: who is on which, memory that runs out on one, and models that work on one alone."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from assay.core.errors import BadInput, ModelError
from assay.evaluation.execution.options import Options
from assay.evaluation.executors import Job, Processes, processes
from assay.evaluation.loader import Loader
from tests.support.tiny import rows, run_here, study, write_model, write_pictures

# each process leaves its number in a folder, and waits for the other one: neither does all of the work
TOGETHER = """
    pathlib.Path(FOLDER, str(os.getpid())).touch()
    for _ in range(600):
        if len(list(pathlib.Path(FOLDER).iterdir())) >= 2:
            break
        time.sleep(0.05)
"""


def together(folder: Path) -> str:
    """Return a hook in which two processes wait for each other."""
    folder.mkdir()
    return TOGETHER.strip().replace("FOLDER", repr(str(folder)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 48)


def test_a_worker_on_each_device_gives_the_records_of_a_serial_run(source: str, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", together(tmp_path / "by"))
    given = study(model, source, attacks=["fgsm"], chunk=4)
    there = run_here(tmp_path / "there", given, devices="cpu,cpu")
    assert len(list((tmp_path / "by").iterdir())) == 2
    assert there.status == "success"
    assert rows(there) == rows(run_here(tmp_path / "here", given))


def test_memory_that_runs_out_on_one_device_shrinks_the_batch_there_alone(source: str, tmp_path: Path) -> None:
    sizes = tmp_path / "sizes"
    sizes.mkdir()
    # the first process that is asked for a whole chunk holds 5 images at once, the others any number
    hook = f"""\
    small, limit = pathlib.Path({str(sizes)!r}, 'small'), 5
    if len(x) == 12 and not small.exists():
        try:
            os.close(os.open(small, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            small.with_name('whose').write_text(str(os.getpid()))
        except FileExistsError:
            pass
    with pathlib.Path({str(sizes)!r}, f'{{os.getpid()}}.log').open('a') as log:
        print(len(x), file=log)
    whose = small.with_name('whose')
    if len(x) > limit and whose.exists() and whose.read_text() == str(os.getpid()):
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')
"""
    hook = f"{together(tmp_path / 'by')}\n{hook.rstrip()}"
    model = write_model(tmp_path / "model", hook)
    given = study(model, source, attacks=[{"attack": "pgd", "steps": 3}], chunk=12)
    there = run_here(tmp_path / "there", given, devices="cpu,cpu")
    small = (sizes / "whose").read_text()
    asked = {one.stem: [int(line) for line in one.read_text().split()] for one in sizes.glob("*.log")}
    mine, others = asked.pop(small), [size for each in asked.values() for size in each]
    failed = [at for at, size in enumerate(mine) if size > 5]
    # halved from 12, and again from 6; never tried again at more, while the other kept whole chunks
    assert [mine[at] for at in failed] == [12, 6] and len(mine) > failed[-1] + 8
    assert max(others) == 12 and Counter(others)[12] >= 4
    assert there.status == "success" and "error" not in {row["status"] for row in rows(there)}
    free = write_model(tmp_path / "free")
    here = run_here(tmp_path / "here", study(free, source, attacks=[{"attack": "pgd", "steps": 3}], chunk=12))
    kept = ("sample_id", "eps", "status", "prediction")
    assert [[row[name] for name in kept] for row in rows(there)] == [[row[name] for name in kept] for row in rows(here)]


def test_workers_are_dealt_over_devices_in_turn_and_replaced_on_their_own(tmp_path: Path) -> None:
    pool = processes._WorkerPool(Job(tmp_path, Loader()), [], ("cuda:0", "cuda:1", "cuda:1"))

    def join() -> processes._Worker:
        worker = processes._Worker(None, pool._next_device())  # type: ignore[arg-type]  # nothing is asked of it
        pool.members.append(worker)
        return worker

    made = [join() for _ in range(6)]
    assert Counter(one.device for one in made) == {"cuda:0": 2, "cuda:1": 4}
    pool.members.remove(made[0])
    assert made[0].device == "cuda:0" == join().device
    assert processes._WorkerPool(Job(tmp_path, Loader()), [])._next_device() == ""


def test_each_worker_is_told_its_own_device(
    tiny_model: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    real = processes._Worker.tell

    def note(worker: processes._Worker, message: dict[str, object]) -> None:
        if "loader" in message:
            told.append((message["loader"]["device"], worker.device))  # type: ignore[index]  # a mapping
        real(worker, message)

    monkeypatch.setattr(processes._Worker, "tell", note)
    run_here(tmp_path / "run", study(tiny_model, source, attacks=["fgsm"]), devices=["cpu:0", "cpu"], workers=3)
    assert Counter(told) == {("cpu:0", "cpu:0"): 2, ("cpu", "cpu"): 1}


def test_options_of_devices() -> None:
    assert Options(devices="cpu,cpu").engine() == Processes(None, devices=("cpu", "cpu"))
    assert Options(devices=["cpu"], executor=Processes(4, retries=0)).engine() == Processes(4, 0, ("cpu",))
    assert Options(devices="cpu:0,cpu").loader().device == "cpu:0"
    with pytest.raises(BadInput, match=r"workers is 1, fewer than the devices \(cpu, cpu\)"):
        Options(devices="cpu,cpu", workers=1).engine()
    with pytest.raises(BadInput, match=r"the executor is ray\. Leave it out, or leave devices out"):
        Options(devices="cpu", executor="ray").engine()
    with pytest.raises(BadInput, match=r"device is .cuda:0. and devices are .cuda:1.\. Give one of the two"):
        Options(devices="cuda:1", device="cuda:0")
    with pytest.raises(BadInput, match=r"'cuda:99' is not on this machine\. There are: cpu"):
        Options(devices="cuda:99").engine()


def test_a_model_for_one_device_ends_the_run_with_a_sentence(source: str, tmp_path: Path) -> None:
    # the workers' device is another than the one that the model was written for
    elsewhere = "Expected all tensors to be on the same device, but found at least two devices, cuda:1 and cuda:0!"
    raises = f"raise RuntimeError({elsewhere!r})"
    hook = f"""
    if os.getpid() != {{}} and len(x) > 1:
        {raises}
"""
    model = write_model(tmp_path / "model", hook.format(os.getpid()).strip())
    with pytest.raises(ModelError) as raised:
        run_here(tmp_path / "run", study(model, source, attacks=["fgsm"]), devices="cpu,cpu")
    told = str(raised.value)
    assert "tiny_model.py" in told and elsewhere.rstrip("!") in told
    assert "works on that one only: register such tensors with register_buffer" in told and "There are: cpu" in told
