"""Which protocols `trident loadtest` tests, and where."""

from __future__ import annotations

import pytest

from core.errors import UsageError
from trident.commands.loadtest import _server
from trident.main import make_parser


def urls(*options: str) -> dict[str, str]:
    """The addresses that would be tested with these options."""
    with _server(make_parser().parse_args(["loadtest", *options]), ()) as place:
        assert place.read_memory() == {}  # another's server: its processes are not ours to read
        return dict(place.urls)


def test_a_running_server_is_tested_over_the_protocols_whose_address_is_known() -> None:
    assert urls("--url", "a:1") == {"http": "a:1"}
    assert urls("--url", "a:1", "--grpc-url", "a:2") == {"http": "a:1", "grpc": "a:2"}
    assert urls("--url", "a:1", "--grpc-url", "a:2", "--protocols", "grpc") == {"grpc": "a:2"}


def test_a_protocol_without_an_address_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no address was given for grpc; .*--grpc-url"):
        urls("--url", "a:1", "--protocols", "grpc")
