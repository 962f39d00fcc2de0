"""Who may talk to the server: under which names it answers, to whose pages, and with which token."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import secrets

TOKEN_VARIABLE = "DCA_LABEL_TOKEN"  # carries the token to the server, and may bring it from the user
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")  # as RFC 6750 spells one
EVERYWHERE = "0.0.0.0"
OWN_NAMES = ("127.0.0.1", "localhost")
CHALLENGES = ("Bearer", 'Basic realm="MONAI Label: any name, and the token as password"')


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach a server at this address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may lead anywhere
        return False


def names(host: str) -> list[str]:
    """The names in the `Host` header that a server at this address answers to; "*" is any.

    A page that reaches this machine under a name of its own has no token, so that one at every address can do without.
    """
    return ["*"] if host == EVERYWHERE else list(dict.fromkeys([*OWN_NAMES, host]))


def origins(host: str, port: int) -> list[str]:
    """The origins of the pages that the server itself delivers."""
    return [f"http://{name}:{port}" for name in names(host) if name != "*"]


def is_own_page(origin: str | None, host: str | None, known: list[str]) -> bool:
    """Whether a request comes from no page, or from one of this server, be it through a tunnel or a proxy.

    Args:
        origin: its `Origin` header.
        host: its `Host` header, which has been found to be a name of this server.
        known: see `origins`.
    """
    return origin is None or origin in known or origin in (f"http://{host}", f"https://{host}")


def brings_token(authorization: str | None, token: str) -> bool:
    """Whether an `Authorization` header has the token: as Bearer, or as the password of Basic, as browsers ask for."""
    scheme, _, sent = (authorization or "").partition(" ")
    if scheme.lower() == "basic":
        try:
            sent = base64.b64decode(sent.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    elif scheme.lower() != "bearer":
        return False
    return is_token(sent.strip(), token)


def is_token(sent: str, token: str) -> bool:
    """Whether both are the same; how long it takes does not tell where they differ."""
    return secrets.compare_digest(sent.encode(errors="replace"), token.encode())
