"""The raw HTTP connection reads what Triton answers, and calls everything else a failure."""

from __future__ import annotations

import pytest

from client.address import Address
from loadtest.wire import Answer
from loadtest.wire_raw import RawConnection
from tests.unit.loadtest.test_wire_http import CLOSING, GOOD, scripted

BODY = Answer(b"\x01\x02\x03\x04")
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"


def exchange(address: Address, count: int) -> list[Answer]:
    """The answers to so many requests on one connection."""
    connection = RawConnection(address, 5.0)
    try:
        return [connection.exchange(REQUEST, 4) for _ in range(count)]
    finally:
        connection.close()


def test_a_connection_is_kept_and_made_again_when_the_server_closes_it() -> None:
    with scripted(GOOD, GOOD, CLOSING, GOOD) as (address, served):
        assert exchange(address, 4) == [BODY] * 4
    assert served == [3, 1]


def test_names_of_fields_are_read_in_any_case() -> None:
    with scripted(GOOD.replace(b"Content-Length", b"content-LENGTH")) as (address, _):
        assert exchange(address, 1) == [BODY]


@pytest.mark.parametrize(
    ("answer", "failure", "lost"),
    [
        (b"HTTP/1.1 503 Full\r\nContent-Length: 4\r\n\r\nfull", "HTTP 503: full", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "no HTTP answer with a length", True),
        (b"SSH-2.0-close\r\n\r\n", "no HTTP answer with a length", True),
        (GOOD.replace(b"Length: 6", b"Length: 5")[:-1], "the output has 3 bytes instead of 4", False),
        (b"", "the server closed the connection", True),
    ],
)
def test_anything_else_is_a_failure(answer: bytes, failure: str, lost: bool) -> None:
    with scripted(answer) as (address, _):
        (got,) = exchange(address, 1)
    assert failure in got.failure
    assert (got.lost, got.data) == (lost, b"")


def test_an_answer_longer_than_one_packet_is_read_whole() -> None:
    body = bytes(range(256)) * 4096
    head = f"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 0\r\nContent-Length: {len(body)}\r\n\r\n"
    with scripted(head.encode() + body, GOOD) as (address, _):
        connection = RawConnection(address, 5.0)
        assert connection.exchange(REQUEST, len(body)).data == body
        assert connection.exchange(REQUEST, 4) == BODY
        connection.close()
