"""Where a server is."""

from __future__ import annotations

import re
from typing import NamedTuple

from core.errors import InferenceError

_ADDRESS = re.compile(r"(?:(?P<scheme>[a-z]+)://)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})/?")


class Address(NamedTuple):
    """A host and a port. An IPv6 host is without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(url: str, protocol: str) -> Address:
    """Reads `host:port`, with or without `<protocol>://` before it. Raises InferenceError if it is anything else."""
    match = _ADDRESS.fullmatch(url)
    if not match or match["scheme"] not in (None, protocol) or not 0 < int(match["port"]) < 1 << 16:
        raise InferenceError(f"{url!r} is not a server's address; write it as {protocol}://127.0.0.1:8000")
    return Address(match["host"].strip("[]"), int(match["port"]))
