"""Headers: secrets come from the environment, and go nowhere but to the endpoint."""

from __future__ import annotations

import pickle

import pytest

import assay
from assay.models.remote.secrets import Headers


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_TEST_TOKEN", "hunter2hunter2")
    monkeypatch.setenv("ASSAY_TEST_EMPTY", "")
    monkeypatch.setenv("ASSAY_TEST_LINES", "hunter2\nx: y")
    monkeypatch.delenv("ASSAY_TEST_NONE", raising=False)


def test_a_variable_becomes_its_value_and_is_not_printed() -> None:
    headers = Headers({"authorization": "Bearer ${ASSAY_TEST_TOKEN}", "x-variant": "b"})
    assert headers.sent == {"authorization": "Bearer hunter2hunter2", "x-variant": "b"}
    assert repr(headers) == "Headers(authorization, x-variant)"
    assert headers.redacted("you sent hunter2hunter2, and Bearer hunter2hunter2.") == "you sent ***, and ***."
    assert "hunter2" not in str(headers.template)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("authorization", "Bearer ${ASSAY_TEST_NONE}", "ASSAY_TEST_NONE, which is not set"),
        ("authorization", "Bearer ${ASSAY_TEST_EMPTY}", "ASSAY_TEST_EMPTY, which is empty"),
        ("authorization", "Bearer hunter2", "environment"),
        ("x-api-key", "hunter2", "environment"),
        ("Cookie", "session=hunter2", "environment"),
        ("authorization", "${ASSAY_TEST_LINES}", "line break"),
        ("x-variant", "${ASSAY_TEST_TOKEN} ${hunter2", "names no variable"),
        ("x-variant", "${1}", "names no variable"),
        ("Host", "elsewhere.example", "cannot be given"),
        ("Content-Length", "3", "cannot be given"),
        ("a b", "c", "cannot be given"),
        ("a\r\nb", "c", "cannot be given"),
    ],
)
def test_what_cannot_be_sent_is_refused(name: str, text: str, told: str) -> None:
    with pytest.raises(assay.BadInput, match=told) as caught:
        Headers({name: text})
    assert "hunter2" not in str(caught.value)


def test_headers_go_to_another_process() -> None:
    headers = Headers({"authorization": "Bearer ${ASSAY_TEST_TOKEN}"})
    assert pickle.loads(pickle.dumps(headers)).sent == headers.sent
