"""Addresses: free ones found, taken ones named."""

from __future__ import annotations

import socket

import pytest

from server.errors import PortError
from server.ports import reachable, reserve


def test_zeros_become_different_free_ports() -> None:
    assert len({0, *reserve("127.0.0.1", (0, 0, 0))}) == 4


def test_given_ports_are_kept() -> None:
    wanted = reserve("127.0.0.1", (0, 0, 0))
    assert reserve("127.0.0.1", wanted) == wanted


@pytest.mark.parametrize(("which", "name"), [(0, "HTTP"), (1, "gRPC"), (2, "metrics")])
def test_a_busy_port_is_named(which: int, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        wanted = tuple(port if place == which else 0 for place in range(3))
        with pytest.raises(PortError, match=f"{name} port {port} on 127.0.0.1 cannot be used: another process listens"):
            reserve("127.0.0.1", wanted)  # type: ignore[arg-type]


def test_the_same_port_twice_is_refused() -> None:
    port = reserve("127.0.0.1", (0, 0, 0))[0]
    with pytest.raises(PortError, match=f"gRPC port {port}"):
        reserve("127.0.0.1", (port, port, 0))


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [("192.0.2.1", 0, "this machine has no such address"), ("127.0.0.1", 70000, "must be 0-65535")],
)
def test_impossible_addresses_are_refused(host: str, port: int, why: str) -> None:
    with pytest.raises(PortError, match=why):
        reserve(host, (port, 0, 0))


def test_a_server_on_all_addresses_is_reached_by_loopback() -> None:
    assert [reachable(host) for host in ("0.0.0.0", "127.0.0.1")] == ["127.0.0.1", "127.0.0.1"]
