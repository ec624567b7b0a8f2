from __future__ import annotations

import copy
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import ModelError
from assay.core.oracle import Access
from assay.models import Classifier
from assay.models.deployed import Deployed
from assay.models.remote.client import EndpointError, Reply
from assay.models.remote.ledger import Ledger, QueriesSpent
from assay.models.remote.module import Endpoint, endpoints_of
from assay.models.remote.place import asking, fresh, key_of
from assay.spending import Spent
from tests.support.asked import FakeClient, scores_of


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger().used() as used:
        used.keep_in(tmp_path)
        yield used


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def expected(x: Tensor) -> Tensor:
    return torch.from_numpy(scores_of(x.numpy()))


def test_rows_go_out_once_in_requests_of_the_allowed_size(ledger: Ledger) -> None:
    client = FakeClient(batch=4)
    endpoint, x = Endpoint(client), images(10)
    twice = torch.cat([x, x[:3]])
    assert torch.equal(endpoint(twice), expected(twice))
    assert client.sizes == [4, 4, 2] and len(set(client.sent)) == 10
    assert torch.equal(endpoint(x.flip(0)), expected(x.flip(0))) and len(client.sent) == 10
    # nothing but the new row
    assert torch.equal(endpoint(torch.cat([x, images(1, 9)]))[:10], expected(x)) and client.sizes[3:] == [1]
    assert ledger.total("fake") == Spent(asked=13 + 10 + 11, billed=11, requests=4)


def test_answers_have_no_gradient_and_stay_where_the_images_are() -> None:
    given = images(2).double().requires_grad_()
    answer = Endpoint(FakeClient())(given)
    assert answer.dtype is torch.float32 and not answer.requires_grad and answer.device == given.device


def test_parallel_requests_give_the_same_in_the_same_order(ledger: Ledger) -> None:
    client, x = FakeClient(batch=3, parallel=4, slow=0.01), images(40)
    assert torch.equal(Endpoint(client)(x), expected(x))
    assert 2 <= client.most_at_once <= 4 and len(client.sent) == 40 and max(client.sizes) == 3


def test_without_a_run_the_endpoint_remembers_itself() -> None:
    one, two = FakeClient(), FakeClient()
    first, x = Endpoint(one), images(3)
    first(x)
    first(x)
    Endpoint(two)(x)
    assert len(one.sent) == len(two.sent) == 3 and copy.deepcopy(first) is first


@pytest.mark.parametrize("parallel", [1, 3])
def test_what_came_in_before_a_failure_is_kept(ledger: Ledger, parallel: int) -> None:
    def trouble(number: int, rows: Any) -> None:
        if number == 2:
            raise EndpointError("it is down", tries=3, doubtful=1)

    client, x = FakeClient(batch=2, parallel=parallel, trouble=trouble), images(12)
    endpoint = Endpoint(client)
    with pytest.raises(EndpointError, match="it is down"):
        endpoint(x)
    came = len(client.sent)
    # of the request that failed one try may have been billed
    assert came >= 4 and ledger.total("fake").billed == came + 2 and ledger.total("fake").retries == 2
    client.trouble = lambda number, rows: None
    assert torch.equal(endpoint(x), expected(x)) and len(client.sent) == 12 == len(set(client.sent))


def test_who_stops_does_not_wait_and_what_is_under_way_is_kept_all_the_same(ledger: Ledger) -> None:
    under_way, go_on = threading.Barrier(3), threading.Event()

    def trouble(number: int, rows: Any) -> None:
        under_way.wait(10)
        go_on.wait(10)

    client, x = FakeClient(batch=2, parallel=2, trouble=trouble), images(12)

    def stop() -> None:
        under_way.wait(10)
        # as a terminal does
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    with pytest.raises(KeyboardInterrupt):
        Endpoint(client)(x)
    assert client.sent == []
    go_on.set()
    until = time.monotonic() + 10
    while len(ledger.known([key_of("fake", row.numpy().tobytes()) for row in x])) < 4:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert len(client.sizes) == 2, "no other request began"


@pytest.mark.parametrize("parallel", [1, 3])
def test_the_last_allowed_row_is_asked_and_none_beyond(ledger: Ledger, parallel: int) -> None:
    client, x = FakeClient(batch=4, queries=10, parallel=parallel), images(30)
    with pytest.raises(QueriesSpent, match=r"fake:80 may be asked no more: queries=10 allows 10 queries, and 10 are"):
        Endpoint(client)(x)
    assert len(client.sent) == 10
    known = torch.stack([row for row in x if row.numpy().tobytes() in client.sent])
    assert torch.equal(Endpoint(client)(known), expected(known)), "what is known is free"
    with pytest.raises(QueriesSpent, match="the same command with a higher limit goes on"):
        Endpoint(client)(x)
    more = FakeClient(batch=4, queries=30)
    assert torch.equal(Endpoint(more)(x), expected(x)) and len(more.sent) == 20


def test_money_is_a_limit_too() -> None:
    client = FakeClient(batch=4, queries=100, price=0.5, budget=3.2, currency="EUR")
    with pytest.raises(QueriesSpent, match=r"budget=3\.2 allows 6 queries, and 6 are spent, which cost 3 EUR \(9 rows"):
        Endpoint(client)(images(9))
    assert len(client.sent) == 6


def test_retries_that_may_have_been_answered_are_billed(ledger: Ledger) -> None:
    def trouble(number: int, rows: Any) -> Reply:
        return Reply(scores_of(rows), retries=2, doubtful=1, extra=1)

    Endpoint(FakeClient(trouble=trouble))(images(5))
    assert ledger.total("fake") == Spent(asked=5, billed=5 + 5 + 1, requests=3, retries=2)


def test_an_answer_that_is_none_is_billed_and_not_kept(ledger: Ledger) -> None:
    client = FakeClient(lambda rows: np.zeros((len(rows) + 1, 2), np.float32))
    with pytest.raises(ModelError, match=r"answered \[4, 2\] for 3 images, expected \[3, K\]"):
        Endpoint(client)(images(3))
    assert ledger.total("fake") == Spent(asked=3, billed=3, requests=1)
    client.answer = scores_of
    Endpoint(client)(images(3))
    assert len(client.sent) == 6


def test_another_number_of_scores_than_before_is_refused(ledger: Ledger) -> None:
    client, x = FakeClient(), images(4)
    Endpoint(client)(x[:2])
    client.answer = lambda rows: np.zeros((len(rows), 5), np.float32)
    with pytest.raises(ModelError, match="answers with 2 scores and with 5"):
        Endpoint(client)(x)


def test_endpoints_of_other_names_share_nothing(ledger: Ledger) -> None:
    one, two = FakeClient(), FakeClient(lambda rows: -scores_of(rows), identity="fake, version 2")
    x = images(3)
    assert torch.equal(Endpoint(one)(x), expected(x)) and torch.equal(Endpoint(two)(x), -expected(x))
    assert len(two.sent) == 3


def test_labels_become_one_score_of_1_among_minus_1() -> None:
    client = FakeClient(lambda rows: np.array([[2], [0]], np.float32)[: len(rows)])
    endpoint = Endpoint(client, 3)
    assert endpoint(images(2)).tolist() == [[-1, -1, 1], [1, -1, -1]] and endpoint.classes == 3
    for wrong in (3, -1, 0.5, np.nan):
        client = FakeClient(lambda rows, wrong=wrong: np.full((len(rows), 1), wrong, np.float32))
        with pytest.raises(ModelError, match="expected one class number from 0 to 2"):
            Endpoint(client, 3)(images(1))


class Drawing:
    """Other scores each time."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, rows: Any) -> Any:
        return self.rng.standard_normal((len(rows), 2)).astype(np.float32)


def test_drawn_answers_are_kept_for_their_moment_alone(ledger: Ledger) -> None:
    client = FakeClient(Drawing(), batch=2)
    endpoint, x = Endpoint(client, random=True), images(2)
    pair = torch.cat([x, x])

    def unit(cell: str, chunk: int) -> list[Tensor]:
        with asking(cell, chunk):
            return [endpoint(pair), endpoint(x)]

    first = unit("a", 0)
    assert len(client.sent) == 6, "equal rows are drawn one by one, and so are later looks"
    assert not torch.equal(first[0][:2], first[0][2:]) and not torch.equal(first[0][:2], first[1])
    again = unit("a", 0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)) and len(client.sent) == 6
    assert not torch.equal(unit("a", 1)[0], first[0]) and not torch.equal(unit("b", 0)[0], first[0])
    assert len(client.sent) == 18
    # outside of any unit, each look is new
    assert not torch.equal(endpoint(x), endpoint(x))


def test_fresh_looks_send_everything_and_change_nothing(ledger: Ledger) -> None:
    client, x = FakeClient(batch=4), images(3)
    endpoint = Endpoint(client)
    known = endpoint(x)
    client.answer = lambda rows: scores_of(rows) + 1
    with fresh():
        five = endpoint(x[:1].expand(5, -1, -1, -1))
    assert torch.equal(five, expected(x[:1]).expand(5, -1) + 1) and client.sizes == [3, 4, 1]
    assert torch.equal(endpoint(x), known) and ledger.total("fake").billed == 8


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (scores_of, ""),
        (lambda rows: scores_of(rows) * (1 + 1e-5), ""),
        (lambda rows: scores_of(rows) + 0.5, "scores that differ by 0.5"),
        (lambda rows: scores_of(rows) * np.nan, "scores that differ by nan"),
        (lambda rows: np.zeros((len(rows), 3), np.float32), "3 scores, 2 before"),
    ],
)
def test_a_changed_model_is_found_by_asking_again(ledger: Ledger, now: Any, told: str) -> None:
    client = FakeClient()
    Endpoint(client)(images(5))
    client.answer = now
    assert Endpoint(client).recheck().startswith(told) and (told or not Endpoint(client).recheck())
    assert set(client.sent[5:]) <= set(client.sent[:5]) and ("fake", "check") in ledger.spent()


def test_nothing_is_asked_again_of_who_was_asked_nothing_or_draws_or_has_nothing_left(ledger: Ledger) -> None:
    for client, random in ((FakeClient(), False), (FakeClient(identity="drawn"), True)):
        endpoint = Endpoint(client, random=random)
        if random:
            endpoint(images(2))
        assert endpoint.recheck() == "" and len(client.sent) == (2 if random else 0)
    poor = FakeClient(queries=3, identity="poor")
    Endpoint(poor)(images(2))
    assert Endpoint(poor).recheck() == "" and len(poor.sent) == 2


def test_it_stands_for_the_answer_of_a_deployed_model() -> None:
    client = FakeClient(lambda rows: rows.reshape(len(rows), -1)[:, :2].copy())
    twin = nn.Sequential(nn.Flatten(), nn.Linear(48, 2, bias=False))
    model = Deployed(Endpoint(client), twin)
    x = images(2).requires_grad_()
    answer = model(x)
    assert torch.equal(answer, x.flatten(1)[:, :2]) and len(endpoints_of(model)) == 1
    (grad,) = torch.autograd.grad(answer[:, 0].sum(), x)
    assert torch.allclose(grad.flatten(1), twin[1].weight[0].expand(2, -1))  # type: ignore[union-attr, index]  # the linear layer


def test_nothing_is_tried_out_on_an_endpoint() -> None:
    client = FakeClient(batch=100)
    client.classes = 2
    classifier = Classifier(Endpoint(client), access=Access.SCORES)
    assert classifier.outside and classifier.classes_outside == 2
    oracle = classifier.oracle()
    assert oracle.form(images(4)).written == "float32" and client.sent == []
    from assay.core.draws import Draws
    from assay.core.goal import Untargeted
    from assay.core.objective import margin

    x = torch.rand(300, 3, 40, 40)
    goal = Untargeted(torch.zeros(300, dtype=torch.int64))
    seen = oracle.look(x, goal, margin, Access.SCORES, Draws(torch.arange(300)))
    assert client.sizes == [100, 100, 100] and seen.cost.queries.tolist() == [1] * 300
