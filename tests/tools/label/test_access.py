"""Who may talk to the server of `label`."""

from __future__ import annotations

import base64

import pytest

from tools.label.serving.access import brings_token, is_loopback, is_own_page, names, origins

TOKEN = "0123456789abcdef"


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(f"reader:{TOKEN}"), basic(f":{TOKEN}"), f"Bearer  {TOKEN}"]
)
def test_token_is_taken_as_bearer_or_as_the_password_of_basic(header: str) -> None:
    assert brings_token(header, TOKEN)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer x {TOKEN}",
        f"Digest {TOKEN}",
        basic(TOKEN),
        basic(f"{TOKEN}:"),
        basic(f"reader:{TOKEN}x"),
        f"Basic {TOKEN}!",
        "Basic /w==",
        "Bearer \udcff",
        f"Bearer {TOKEN}é",
    ],
)
def test_everything_else_is_no_token(header: str | None) -> None:
    assert not brings_token(header, TOKEN)


def test_only_addresses_of_this_machine_are_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.0.0.2", "::1", "localhost")))
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "localhost.example.org", "", "127.1", "workstation"))
    )


def test_server_answers_to_its_own_names_and_at_every_address_to_any() -> None:
    assert names("192.0.2.1") == ["127.0.0.1", "localhost", "192.0.2.1"]
    assert names("0.0.0.0") == ["*"]
    assert origins("127.0.0.1", 8000) == ["http://127.0.0.1:8000", "http://localhost:8000"]
    assert origins("0.0.0.0", 8000) == []


def test_own_pages_are_those_of_the_same_host_and_port() -> None:
    known = origins("127.0.0.1", 8000)
    assert is_own_page(None, "127.0.0.1:8000", known)
    assert is_own_page("http://localhost:8000", "127.0.0.1:8000", known)
    assert is_own_page("http://127.0.0.1:9000", "127.0.0.1:9000", known)  # through a tunnel
    assert is_own_page("https://scans.example.org", "scans.example.org", [])  # behind a proxy
    for origin in ("http://127.0.0.1:9000", "http://127.0.0.1", "https://elsewhere.example", "null", ""):
        assert not is_own_page(origin, "127.0.0.1:8000", known)
