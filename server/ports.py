"""Choosing and checking the addresses that the server will listen on."""

from __future__ import annotations

import contextlib
import errno
import socket

from server.errors import PortError

Ports = tuple[int, int, int]
"""HTTP, gRPC, metrics."""
NAMES = ("HTTP", "gRPC", "metrics")


def reachable(host: str) -> str:
    """The address under which this machine reaches a server that listens on `host`."""
    return "127.0.0.1" if host == "0.0.0.0" else host


def reserve(host: str, wanted: Ports) -> Ports:
    """The wanted ports, free ones in place of zeros. All are bound at once and let go, so that they differ and are
    known to be free now. Raises PortError, which names the port."""
    with contextlib.ExitStack() as stack:
        return tuple(_bind(stack, host, port, name) for port, name in zip(wanted, NAMES, strict=True))  # type: ignore[return-value]


def _bind(stack: contextlib.ExitStack, host: str, port: int, name: str) -> int:
    listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    # As the server does: connections that a former server has just closed do not count.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1)
    except (OSError, OverflowError) as error:
        raise PortError(f"{name} port {port} on {host} cannot be used: {_why(error)}") from error
    return int(listener.getsockname()[1])


def _why(error: OSError | OverflowError) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "another process listens on it; stop that one, or choose another port (0 for any)"
    if isinstance(error, OSError) and error.errno == errno.EACCES:
        return "only root may use ports below 1024; choose another port (0 for any)"
    if isinstance(error, OSError) and error.errno in (errno.EADDRNOTAVAIL, socket.EAI_NONAME):
        return "this machine has no such address; use 127.0.0.1"
    return f"{error}; choose another address"
