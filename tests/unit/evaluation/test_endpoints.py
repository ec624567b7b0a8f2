"""Runs on endpoints: what is sent, what is counted, and that records depend on neither cache nor retries."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import assay
from assay.attacks import ATTACKS
from assay.attacks.square import Square
from assay.core.errors import BadInput
from assay.core.oracle import Access
from assay.evaluation.cell import Cell, Unit
from assay.evaluation.endpoints import demands
from assay.evaluation.execution.progress import Progress
from assay.evaluation.export.images import Choice, export_images
from assay.evaluation.loader import Loader
from assay.evaluation.plan import make_plan
from assay.evaluation.run import Run
from assay.evaluation.run_study import Options, run_study
from assay.files import DiskError
from assay.models import Classifier
from assay.models.remote import ledger
from assay.models.remote.client import EndpointError, Reply
from assay.models.remote.ledger import QueriesSpent
from assay.models.remote.module import Endpoint
from assay.models.spec import without_limits
from assay.session import AuditSettings, Session, Unreported, audit_directory
from assay.spending import FILE, FOLDER, Spent, spent_in
from tests.support import tiny
from tests.support.asked import FakeClient
from tests.support.serving import Server
from tests.support.tiny import patterns, rows, study, write_model

SQUARE = {"attack": "square", "queries": 12}
HOP = {"attack": "hop-skip-jump", "queries": 15}
LINF = {"norm": "linf", "eps": ["16/255", "64/255"]}


def scores(images: np.ndarray) -> np.ndarray:
    # rounded from a finer sum: the same in any batch
    weight = (patterns() - patterns().mean(0)).flatten(1).T.double()
    return (torch.from_numpy(images).double().flatten(1) @ weight * 2).float().numpy()


HERE = """
from assay.core.oracle import Access
from assay.models import Classifier
from assay.models.function import Predictions
from tests.unit.evaluation.test_endpoints import scores


def factory():
    return Classifier(Predictions(scores), access=Access.SCORES, input_shape=(3, 8, 8))
"""


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server(scores, (3, 8, 8), 4).start()
    yield served
    served.close()


def asking(server: Server, more: str = "batch=5") -> str:
    return f"v2:{server.url}/net?{more}"


def fake(answer: Callable[[Any], Any] = scores, **more: Any) -> FakeClient:
    client = FakeClient(answer, **{"batch": 5, **more})
    client.classes = 4
    return client


def classifier(client: FakeClient, **more: Any) -> Classifier:
    endpoint = Endpoint(client, random=more.get("random", False))
    given = {"access": Access.SCORES, "identity": client.identity, "input_shape": (3, 8, 8), "spec": "fake", **more}
    return assay.load_model(Classifier(endpoint, **given))


def evaluated(client: FakeClient, out: Path, n: int = 12, **more: Any) -> Run:
    model = classifier(client, random=more.pop("random", False))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fake may be asked up to")
        return tiny.evaluate(model, tiny.data(n), [SQUARE], LINF, out, **{"chunk": 4, **more})


def apart(run: Run) -> list[dict[str, Any]]:
    """Return records without what names the model, and without the time."""
    without = ("seconds", "cell", "model", "form")
    return [{name: value for name, value in row.items() if name not in without} for row in rows(run)]


def queries(run: Run) -> int:
    return int(sum(run.records(["queries"])["queries"].to_pylist()))


def test_an_endpoint_gives_the_records_of_the_model_behind_it(server: Server, tiny_source: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"attacks": [SQUARE], "threats": LINF}
    (tmp_path / "here.py").write_text(HERE)
    here = run_study(study(f"{tmp_path / 'here.py'}:factory", tiny_source, **given), tmp_path / "here")
    there = run_study(study(asking(server, "batch=7&parallel=3"), tiny_source, **given), tmp_path / "there")
    assert apart(here) == apart(there)
    (told,) = there.endpoints()
    # whatever is asked is in the records, and whatever is sent was not known
    assert told["asked"] == queries(there) > told["billed"] == server.rows and max(server.batches) == 7
    assert told["requests"] == server.asked["infer"] and there.manifest["endpoints"] == [told]
    (cell,) = there.cells
    assert told["places"] == {cell: {name: told[name] for name in ("asked", "billed", "requests", "retries")}}


def test_known_answers_and_workers_give_equal_records(server: Server, tiny_source: str, tmp_path: Path) -> None:
    given = study(asking(server), tiny_source, attacks=[SQUARE, HOP], threats=LINF)
    cold = run_study(given, tmp_path / "run")
    recorded, sent = rows(cold), server.rows
    shutil.rmtree(tmp_path / "run" / "results")
    warm = run_study(given, tmp_path / "run")
    # two rows are asked again, to see whether it is still the same model
    assert rows(warm) == recorded and server.rows == sent + 2
    assert spent_in(tmp_path / "run")[next(iter(identities(warm))), "check"].billed == 2
    shared = run_study(given, tmp_path / "shared", Options(executor="processes", workers=2))
    (told,) = shared.endpoints()
    assert rows(shared) == recorded and told["asked"] == queries(shared) and told["billed"] == server.rows - sent - 2
    # an image is asked about twice where two cells meet it at the same time
    assert sent <= told["billed"] <= sent + 2 * 30


def identities(run: Run) -> set[str]:
    return {one["identity"] for facts in run.manifest["models"].values() for one in facts["endpoints"]}


def test_failures_and_retries_change_no_record(tmp_path: Path) -> None:
    calm = evaluated(fake(), tmp_path / "calm")
    rng = np.random.default_rng(0)

    def trouble(number: int, asked: Any) -> Reply | None:
        if number % 25 == 24:
            raise EndpointError("it is down", tries=5, doubtful=2)
        return Reply(scores(asked), retries=int(rng.integers(3)), doubtful=1) if rng.random() < 0.3 else None

    client, ended = fake(trouble=trouble, parallel=3), 0
    for _ in range(50):
        try:
            run = evaluated(client, tmp_path / "run")
        except EndpointError:
            ended += 1
            continue
        break
    assert ended >= 2 and rows(run) == rows(calm)
    (told,) = run.endpoints()
    repeated = len(client.sent) - len(set(client.sent))
    assert repeated <= 2 * ended, "but the rows that say whether it is still the same model"
    assert told["retries"] > 0 and told["billed"] > len(client.sent)


def test_a_limit_ends_the_run_and_a_higher_one_goes_on(server: Server, tiny_source: str, tmp_path: Path) -> None:
    whole = run_study(study(asking(server), tiny_source, attacks=[SQUARE], threats=LINF), tmp_path / "whole")
    sent, said = server.rows, []
    for limit in (100, 250, 2000):
        given = study(asking(server, f"queries={limit}&batch=5"), tiny_source, attacks=[SQUARE], threats=LINF)
        before, out = server.rows, tmp_path / "run"
        spent = sum(one.billed for one in spent_in(out).values())
        with pytest.raises(QueriesSpent) if limit < sent else contextlib.nullcontext() as caught:
            run_study(given, out)
        if caught is not None:
            assert f"queries={limit} allows" in str(caught.value) and Run.open(out).status == "error"
            assert server.rows - before == limit - spent
        said.append(Run.open(out).endpoints()[0]["queries_allowed"])
    assert rows(Run.open(out)) == rows(whole) and said == [100, 250, 2000]
    assert Run.open(out).cells.keys() == whole.cells.keys(), "what is allowed is no part of a cell"


def test_names_say_nothing_of_limits() -> None:
    limits = "queries=5&price=1&budget=2&per_second=3&parallel=4&batch=5&timeout=6&tries=7"
    assert (
        without_limits(f"v2:http://h/m?{limits}&version=2|jpeg:quality=75") == "v2:http://h/m?version=2|jpeg:quality=75"
    )
    assert without_limits(f"remote:e.yaml?{limits}") == "remote:e.yaml"
    for other in (f"my.py:net?{limits}", "zoo:mnist-cnn", "onnx:f.onnx?size=3", "v1:http://h/m?version=2"):
        assert without_limits(other) == other


def test_another_version_is_another_cell(server: Server, tiny_source: str) -> None:
    def cells() -> set[str]:
        plan = make_plan(study(asking(server), tiny_source, attacks=[SQUARE], threats=LINF), Loader())
        return {cell.digest for cell in plan.cells}

    before = cells()
    assert cells() == before
    server.version = "2"
    assert not cells() & before


def test_a_server_that_changed_is_refused(server: Server, tiny_source: str, tmp_path: Path) -> None:
    def given(limit: int) -> Any:
        return study(asking(server, f"queries={limit}&batch=5"), tiny_source, attacks=[SQUARE], threats=LINF)

    with pytest.raises(QueriesSpent):
        run_study(given(80), tmp_path / "run")
    server.predict = lambda images: scores(images)[:, ::-1].copy()
    sent = server.rows
    with pytest.raises(BadInput, match=r"answers otherwise than earlier in this run: scores that differ by .*--out"):
        run_study(given(1000), tmp_path / "run")
    assert server.rows == sent + 2 and Run.open(tmp_path / "run").status == "error"
    server.predict = scores
    assert run_study(given(1000), tmp_path / "run").status == "success"


def test_drawn_answers_resume_to_the_same_records(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def noisy(images: Any) -> Any:
        return (scores(images) + rng.normal(0, 2, (len(images), 4))).astype(np.float32)

    client = fake(noisy, queries=300)
    with pytest.raises(QueriesSpent):
        evaluated(client, tmp_path / "run", random=True)
    first = Run.open(tmp_path / "run").records()
    client.limits = fake(queries=10_000).limits
    run = evaluated(client, tmp_path / "run", random=True)
    (told,) = run.endpoints()
    assert run.status == "success" and told["billed"] == len(client.sent) == queries(run)
    whole = rows(run)
    assert len(whole) == 24 and first.num_rows < 24
    shutil.rmtree(tmp_path / "run" / "results")
    again = evaluated(client, tmp_path / "run", random=True)
    assert rows(again) == whole and again.endpoints()[0]["billed"] == told["billed"]


def test_a_fork_takes_the_answers_along(server: Server, tiny_source: str, tmp_path: Path) -> None:
    run_study(study(asking(server), tiny_source, attacks=[SQUARE], threats=LINF), tmp_path / "run")
    sent = server.rows
    other = study(asking(server), tiny_source, attacks=[SQUARE], threats=LINF, study="other", seed=0, chunk=4)
    forked = run_study(other, tmp_path / "run", Options(fork=True))
    assert forked.path.name == "run-2" and server.rows == sent + 2 and forked.endpoints()[0]["billed"] == 2


def test_damaged_answers_are_put_aside_with_a_warning(server: Server, tiny_source: str, tmp_path: Path) -> None:
    given = study(asking(server), tiny_source, attacks=[SQUARE], threats=LINF)
    run_study(given, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "results")
    (tmp_path / "run" / FOLDER / FILE).write_bytes(b"nonsense" * 1000)
    run = run_study(given, tmp_path / "run")
    assert run.status == "success" and any("answers.sqlite is damaged" in one for one in run.manifest["warnings"])
    assert (tmp_path / "run" / "damaged" / FILE).exists()


def test_a_full_disk_ends_the_run_which_goes_on_with_room(
    server: Server, tiny_source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = study(asking(server), tiny_source, attacks=[SQUARE], threats=LINF)
    whole = run_study(given, tmp_path / "whole")
    connected, before = ledger._connected, server.rows

    def small(path: Path | None) -> sqlite3.Connection:
        db = connected(path)
        db.execute("PRAGMA max_page_count = 8")
        return db

    with monkeypatch.context() as patch, pytest.raises(DiskError, match=r"answers\.sqlite, .*: The disk is full"):
        patch.setattr(ledger, "_connected", small)
        run_study(given, tmp_path / "run")
    asked = server.rows - before
    assert asked > 30 and Run.open(tmp_path / "run").status == "error"
    assert rows(run_study(given, tmp_path / "run")) == rows(whole)
    # what was under way when there was no room, and the two rows that say whether the model is the same
    assert server.rows - before <= before + 5 + 2


def test_an_audit_that_may_ask_no_more_leaves_the_numbers(server: Server, tiny_source: str, tmp_path: Path) -> None:
    data = {"source": tiny_source, "limit": 6}
    plain = run_study(study(asking(server), data, attacks=[SQUARE], threats=LINF), tmp_path / "plain")
    limit = plain.endpoints()[0]["billed"] + 40
    given = study(asking(server, f"queries={limit}"), data, attacks=[SQUARE], threats=LINF)
    finished = Session(given, tmp_path / "run").run()
    assert rows(finished.run) == rows(plain) and finished.run.status == "success" and not finished.verdicts
    more = study(asking(server, "queries=100000"), data, attacks=[SQUARE], threats=LINF)
    assert len(Session(more, tmp_path / "run").run().verdicts) == 2


def test_predicted_labels_are_asked_once(server: Server, tiny_source: str, tmp_path: Path) -> None:
    data = {"source": tiny_source, "labels": "predicted"}
    given = study(asking(server, "batch=5&queries=60"), data, attacks=[SQUARE], threats=LINF)
    with pytest.raises(QueriesSpent):
        run_study(given, tmp_path / "run")
    assert (
        server.rows == 60
        and spent_in(tmp_path / "run")[next(iter(spent_in(tmp_path / "run")))[0], "labels"].billed == 30
    )
    given = study(asking(server, "batch=5&queries=6000"), data, attacks=[SQUARE], threats=LINF)
    run = run_study(given, tmp_path / "run")
    assert server.rows == run.endpoints()[0]["billed"] and run.endpoints()[0]["places"]["labels"]["billed"] == 30


def test_look_and_audit_are_counted_apart_and_nothing_is_asked_twice(
    server: Server, tiny_source: str, tmp_path: Path
) -> None:
    data = {"source": tiny_source, "limit": 6}
    given = study(asking(server), data, attacks=[SQUARE], threats=LINF)
    finished = Session(given, tmp_path / "run", audit=AuditSettings("quick")).run()
    (told,) = finished.run.endpoints()
    (cell,) = finished.run.cells
    places = told["places"]
    assert set(places) == {cell, "doctor", "audit"} and places[cell]["asked"] == queries(finished.run)
    assert told["billed"] == sum(one["billed"] for one in places.values()) == server.rows
    assert 6 <= places["doctor"]["billed"] <= 100
    requests = server.asked["infer"]
    assert Session(given, tmp_path / "run").run().was_done
    assert run_study(given, tmp_path / "run").status == "success" and server.asked["infer"] == requests


def test_an_audit_of_a_server_that_changed_is_refused(server: Server, tiny_source: str, tmp_path: Path) -> None:
    given = study(asking(server), {"source": tiny_source, "limit": 6}, attacks=[SQUARE], threats=LINF)
    run = run_study(given, tmp_path / "run")
    server.predict = lambda images: scores(images)[:, ::-1].copy()
    sent = server.rows
    with pytest.raises(BadInput, match="answers otherwise than earlier in this run"):
        audit_directory(run, AuditSettings("quick"), Loader())
    assert server.rows == sent + 2 and run.verdicts() == []


def test_exported_images_are_made_of_known_answers(server: Server, tiny_source: str, tmp_path: Path) -> None:
    run = run_study(study(asking(server), tiny_source, attacks=[SQUARE], threats=LINF), tmp_path / "run")
    sent = server.rows
    exported = export_images(run, tmp_path / "images", Choice("npy"))
    # what is written without loss was judged before
    assert exported.broken == exported.fooling > 0 and exported.differ == 0 and server.rows == sent


def test_a_plan_says_the_most_that_is_asked(server: Server, tiny_source: str, tmp_path: Path) -> None:
    given = study(
        asking(server, "batch=4&queries=500&price=0.5&per_second=10"), tiny_source, attacks=[SQUARE], threats=LINF
    )
    plan = make_plan(given, Loader())
    (most,) = demands(plan.units, plan.models)
    # one look at the image, and 12 at each of two budgets
    assert most.rows == 30 * (1 + 2 * 12) and most.cost == most.rows / 2 and most.too_much
    assert most.requests == (3 * 2 + 2) * 25 and most.seconds == most.requests / 10
    server.rows = 0
    run = run_study(study(asking(server, "batch=4"), tiny_source, attacks=[SQUARE], threats=LINF), tmp_path / "run")
    assert run.endpoints()[0]["asked"] <= most.rows and server.asked["infer"] <= most.requests
    assert demands([], plan.models) == []


def most_of(run: Run) -> Any:
    cells = [Cell.of(plain) for plain in run.manifest["cells"].values()]
    (most,) = demands([Unit(cell, at) for cell in cells for at in range(cell.chunks)], run.manifest["models"])
    return most


@pytest.mark.parametrize("goal", ["untargeted", "targeted least-likely"])
@pytest.mark.parametrize(
    "attack", ["square", "nes", "simba", "hop-skip-jump", "boundary", "spatial", "contrast-reduction"]
)
def test_nothing_is_asked_beside_the_records(tmp_path: Path, attack: str, goal: str) -> None:
    client, limited = fake(), {"queries": 60} if "queries" in ATTACKS[attack].all_options else {}
    norm = ATTACKS[attack].norms[0]
    threat = {"norm": norm, "eps": 1.0 if norm == "l2" else "32/255"}
    given = {"audit": "off", "doctor": False, "chunk": 4, "goal": goal, "out": tmp_path}
    run = assay.evaluate(classifier(client), tiny.data(6), {"attack": attack, **limited}, threat, **given).run
    (told,) = run.endpoints()
    assert told["asked"] == queries(run) <= most_of(run).rows and told["requests"] <= most_of(run).requests
    assert told["billed"] == len(client.sent) == len(set(client.sent)), "and nothing is sent twice"


@pytest.mark.parametrize("chain", ["median:size=3", "gaussian-noise:sigma=0.1", "crop-ensemble:crops=3"])
def test_defences_in_front_of_an_endpoint_are_counted(tmp_path: Path, chain: str) -> None:
    client = fake()
    model = assay.defend(classifier(client), chain)
    attack, given = {"attack": "square", "queries": 5}, {"audit": "off", "doctor": False, "out": tmp_path}
    run = assay.evaluate(model, tiny.data(6), attack, {"norm": "linf", "eps": "32/255"}, **given).run
    (told,) = run.endpoints()
    copies = 3 if "crops" in chain else 1
    assert told["asked"] == copies * queries(run) <= most_of(run).rows and told["requests"] <= most_of(run).requests
    assert told["billed"] == len(client.sent) == len(set(client.sent))


def test_images_made_elsewhere_cost_the_looks_at_the_endpoint(server: Server, tiny_source: str, tmp_path: Path) -> None:
    surrogate = write_model(tmp_path)
    attack = {"attack": "pgd", "steps": 5, "surrogate": surrogate}
    given = study(asking(server), tiny_source, attacks=[attack], threats=LINF)
    plan = make_plan(given, Loader())
    (most,) = demands(plan.units, plan.models)
    run = run_study(given, tmp_path / "run")
    assert most.rows == 30 * 3 >= run.endpoints()[0]["asked"] == queries(run) > 30


def test_progress_says_what_is_left(tmp_path: Path) -> None:
    seen: list[Progress] = []
    client = fake(price=0.5, currency="EUR", budget=1000.0)
    evaluated(client, tmp_path / "run", on_progress=seen.append)
    (first,), (last,) = seen[0].endpoints, seen[-1].endpoints
    assert first.spent == Spent() and last.spent.billed == len(client.sent) and last.left == 2000 - len(client.sent)
    assert last.written == f"{len(client.sent)} of 2,000 queries ({len(client.sent) / 2:.4g} of 1000 EUR)"


def test_a_warning_says_that_the_limit_may_not_suffice(server: Server, tiny_source: str, tmp_path: Path) -> None:
    said: list[str] = []

    class Heard(Unreported):
        say = note = warn = staticmethod(said.append)  # type: ignore[assignment]  # as a method

    given = study(asking(server, "batch=5&queries=60"), tiny_source, attacks=[SQUARE], threats=LINF)
    with pytest.raises(QueriesSpent):
        Session(given, tmp_path / "run").run(Heard())
    (doctor,) = [one.billed for (_, place), one in spent_in(tmp_path / "run").items() if place == "doctor"]
    left = f"and {60 - doctor} are left ({doctor} of 60 queries)"
    assert doctor <= 32 and any(f"may be asked up to 750 queries, {left}" in one for one in said)
    assert any(f"The look before the run took {doctor} queries" in one for one in said)
    # what the look found is in the manifest: going on, nothing but two rows is asked again
    given = study(asking(server, "batch=5&queries=6000"), tiny_source, attacks=[SQUARE], threats=LINF)
    run = Session(given, tmp_path / "run", audit=AuditSettings("off")).run().run
    places = run.endpoints()[0]["places"]
    assert places["doctor"]["billed"] == doctor and places["check"]["billed"] == 2


def test_of_a_run_that_lost_its_answers_the_manifest_knows_the_counts(tmp_path: Path) -> None:
    run = evaluated(fake(), tmp_path / "run")
    before = run.endpoints()
    shutil.rmtree(tmp_path / "run" / FOLDER)
    assert Run.open(tmp_path / "run").endpoints() == before


def test_cells_of_other_models_are_as_they_were(tiny_model: str, tiny_source: str) -> None:
    plan = make_plan(study(tiny_model, tiny_source), Loader())
    assert "endpoints" not in plan.models[tiny_model]
    for cell in plan.cells:
        assert Cell.of(cell.plain()).digest == cell.digest


def test_attacks_on_tensors_use_a_ledger_in_memory() -> None:
    client = fake(queries=500)
    model = classifier(client)
    x, y = tiny.images(6)
    first = assay.attack(Square(queries=10), model, x, y, assay.Linf("32/255"))
    sent = len(client.sent)
    again = assay.attack(Square(queries=10), model, x, y, assay.Linf("32/255"))
    assert torch.equal(first.queries, again.queries) and torch.equal(first.x_adv, again.x_adv)
    assert len(client.sent) == sent <= int(first.queries.sum()) + 1
