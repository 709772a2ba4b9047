"""Where a server is, and how it is spoken to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from core.errors import InferenceError

ProtocolName = Literal["http", "grpc"]

_ADDRESS = re.compile(r"(?:(?P<scheme>[a-z]+)://)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})/?")
_SCHEMES: Final[Mapping[str, tuple[ProtocolName, bool]]] = {
    "http": ("http", False),
    "https": ("http", True),
    "grpc": ("grpc", False),
    "grpcs": ("grpc", True),
}

DEFAULT_URLS: Final[Mapping[ProtocolName, str]] = {"http": "127.0.0.1:8000", "grpc": "127.0.0.1:8001"}


class Address(NamedTuple):
    """A host and a port. An IPv6 host is without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Endpoint(NamedTuple):
    """One server: its address, the protocol, and whether the connection is encrypted."""

    address: Address
    protocol: ProtocolName
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.protocol}{'s' * self.tls}://{self.address}"


def parse_address(url: str, protocol: str) -> Address:
    """Reads `host:port`, with or without `<protocol>://` before it. Raises InferenceError if it is anything else."""
    match = _ADDRESS.fullmatch(url)
    if not match or match["scheme"] not in (None, protocol) or not 0 < int(match["port"]) < 1 << 16:
        raise InferenceError(f"{url!r} is not a server's address; write it as {protocol}://127.0.0.1:8000")
    return Address(match["host"].strip("[]"), int(match["port"]))


def parse_endpoint(url: str, protocol: ProtocolName | None = None, tls: bool = False) -> Endpoint:
    """Reads `host:port`, or one of `http`, `https`, `grpc`, `grpcs` and `://` before it. Without that, the protocol is
    the one given, else HTTP, and encrypted if `tls`. Raises InferenceError for what it cannot read, or a contradiction.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        return Endpoint(parse_address(url, protocol or "http"), protocol or "http", tls)
    if scheme not in _SCHEMES:
        raise InferenceError(f"{url!r} is not a server's address; it may begin with {', '.join(_SCHEMES)}, and ://")
    spoken, encrypted = _SCHEMES[scheme]
    if protocol not in (None, spoken):
        raise InferenceError(f"{url!r} speaks {spoken}, but {protocol} was asked for; leave one of them out")
    if tls and not encrypted:
        raise InferenceError(f"{url!r} is not encrypted, but Settings.tls is given; write {scheme}s://{rest}")
    return Endpoint(parse_address(rest, spoken), spoken, encrypted)


def parse_endpoints(url: str | Sequence[str] | None, protocol: ProtocolName | None, tls: bool) -> list[Endpoint]:
    """One address, or several of the same protocol; None is the protocol's usual port on this machine. Raises
    InferenceError if they are none, or a mixture."""
    if url is None:
        url = DEFAULT_URLS[protocol or "http"]
    urls = [url] if isinstance(url, str) else list(url)
    endpoints = [parse_endpoint(each, protocol, tls) for each in urls]
    if len({endpoint.protocol for endpoint in endpoints}) != 1:
        raise InferenceError("the addresses of a client must be of one protocol, and at least one; give such a list")
    return endpoints
