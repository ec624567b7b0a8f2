"""Where an endpoint is: what is read from a URL, what is refused, and that no secret of it is repeated."""

from __future__ import annotations

import pytest

import assay
from assay.cli import main
from assay.models.remote.address import Address, check_params, refuse_secrets


@pytest.mark.parametrize(
    ("url", "host", "path", "loopback"),
    [
        ("http://127.0.0.1:8080/net", "127.0.0.1:8080", "/net", True),
        ("http://localhost/v2/models/net/", "localhost", "/v2/models/net/", True),
        ("http://[::1]:90/a", "[::1]:90", "/a", True),
        ("https://api.example.com/a%20b", "api.example.com", "/a%20b", False),
        ("https://api.example.com:443", "api.example.com", "", False),
        ("https://127.0.0.1.example.com/x", "127.0.0.1.example.com", "/x", False),
        ("https://localhost.example.com/x", "localhost.example.com", "/x", False),
    ],
)
def test_addresses_are_taken_apart(url: str, host: str, path: str, loopback: bool) -> None:
    address = Address.of(url)
    assert (address.host, address.path, address.loopback) == (host, path, loopback)
    assert Address.of(address.url) == address
    assert address.under("/infer").url == f"{address.url.rstrip('/')}/infer"


@pytest.mark.parametrize(
    "url", ["net", "ftp://host/x", "http://", "https:///x", "http://host:port/x", "http://ho st/x", ""]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(assay.BadInput, match=r"http://127\.0\.0\.1:8080/model"):
        Address.of(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://user:hunter2@host/x", "headers"),
        ("https://hunter2@host/x", "headers"),
        ("https://host/x?key=hunter2", "params"),
        ("https://host/x#hunter2", "params"),
        ("ftp://user:hunter2@host/x", "is no address"),
        ("https://user:hunter2@host:port/x", "is no URL"),
    ],
)
def test_secrets_in_an_address_are_refused_and_not_repeated(url: str, told: str) -> None:
    with pytest.raises(assay.BadInput, match=told) as caught:
        Address.of(url)
    assert "hunter2" not in str(caught.value)


def test_plain_http_to_another_machine_has_to_be_meant() -> None:
    with pytest.raises(assay.BadInput, match="plain_http=yes"):
        Address.of("http://host/x")
    assert Address.of("http://host/x", plain_http=True).url == "http://host/x"


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "X-Amz-Signature", "password", "sig"])
def test_a_parameter_that_looks_like_a_secret_is_refused(name: str) -> None:
    with pytest.raises(assay.BadInput, match="headers") as caught:
        check_params({name: "hunter2"})
    assert "hunter2" not in str(caught.value)
    check_params({"api-version": "2024-06-01", "top": "5"})


@pytest.mark.parametrize(
    "name",
    [
        "v2:https://user:hunter2@models.example.com/net?queries=5",
        "v2:https://models.example.com/net?queries=5&key=hunter2",
        "v1:https://models.example.com/net?access_token=hunter2|median:size=2",
        "remote:https://hunter2@models.example.com/x",
    ],
)
@pytest.mark.parametrize("command", ["run", "doctor", "plan"])
def test_no_command_repeats_a_secret_in_a_name(name: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = [] if command == "doctor" else ["--eps", "4/255", "--attack", "square"]
    with pytest.raises(SystemExit) as left:
        main([command, "--model", name, "--data", "folder:pictures", *more])
    said = "".join(capsys.readouterr())
    assert left.value.code == 2
    assert "headers" in said
    assert "hunter2" not in said
    with pytest.raises(assay.BadInput, match="headers") as caught:
        assay.load_model(name)
    assert "hunter2" not in str(caught.value)


def test_names_of_other_models_are_not_taken_for_secrets() -> None:
    for name in ("file:a@b.pt?arch=x", "hf:owner/name@main", "v2:https://host/net?timeout=3|smoothed:sigma=.5"):
        refuse_secrets(name)
