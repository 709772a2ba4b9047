"""Requests as bytes against NVIDIA's own encoding, and the connection against a scripted server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from client.address import Address
from core.datatypes import DATA_TYPES
from loadtest.wire import Answer
from loadtest.wire_http import HttpConnection, encode, head, read_answer

GOOD = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 2\r\nContent-Length: 6\r\n\r\n{}\x01\x02\x03\x04"
CLOSING = GOOD.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")


def split(request: bytes) -> tuple[dict[str, str], bytes]:
    """Header fields and body."""
    head, _, body = request.partition(b"\r\n\r\n")
    return dict(line.split(": ") for line in head.decode().splitlines()), body


def test_a_request_is_what_nvidias_client_would_send() -> None:
    rng = np.random.default_rng(0)
    arrays = {row.name: rng.integers(0, 2, (1, 2, 3)).astype(row.numpy) for row in DATA_TYPES}
    fields, body = split(encode(arrays, "logits"))
    length = int(fields["Inference-Header-Content-Length"])
    theirs = [InferInput(row.name, [1, 2, 3], row.triton).set_data_from_numpy(arrays[row.name]) for row in DATA_TYPES]
    expected, expected_length = InferenceServerClient.generate_request_body(
        theirs, outputs=[InferRequestedOutput("logits")]
    )
    assert json.loads(body[:length]) == json.loads(expected[:expected_length])
    assert body[length:] == expected[expected_length:]
    assert int(fields["Content-Length"]) == len(body)


def test_the_model_is_named_in_the_first_line_only() -> None:
    assert head("a/b c") == b"POST /v2/models/a%2Fb%20c/infer HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("status", "length", "body", "answer"),
    [
        (200, "2", b"{}abcd", Answer(b"abcd")),
        (200, "2", b"{}abc", Answer(b"", "HTTP 200, but the output has 3 bytes instead of 4")),
        (200, "2", b"{}", Answer(b"", "HTTP 200, but the output has 0 bytes instead of 4")),
        (200, None, b"{}abcd", Answer(b"", "HTTP 200, but the output has 0 bytes instead of 4")),
        (503, None, b'{"error":"full"}', Answer(b"", 'HTTP 503: {"error":"full"}')),
    ],
)
def test_an_answer_counts_only_with_the_right_size(
    status: int, length: str | None, body: bytes, answer: Answer
) -> None:
    assert read_answer(status, length, body, 4) == answer


@contextmanager
def scripted(*answers: bytes) -> Iterator[tuple[Address, list[int]]]:
    """A server that gives one answer a request, on one connection until an answer is empty or says close. The list
    tells the number of requests of each connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    served: list[int] = []
    left = list(answers)

    def serve() -> None:
        while left:
            connection, _ = listener.accept()
            served.append(0)
            with connection:
                while left and connection.recv(1 << 16):
                    served[-1] += 1
                    answer = left.pop(0)
                    connection.sendall(answer)
                    if not answer or b"close" in answer:
                        break

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Address(*listener.getsockname()), served
    finally:
        thread.join(10)
        listener.close()
    assert not thread.is_alive()


def exchange(address: Address, count: int, timeout_s: float = 5.0) -> list[Answer]:
    connection = HttpConnection(address, timeout_s)
    try:
        return [connection.exchange(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 4) for _ in range(count)]
    finally:
        connection.close()


def test_a_connection_is_kept() -> None:
    with scripted(GOOD, GOOD, GOOD) as (address, served):
        assert exchange(address, 3) == [Answer(b"\x01\x02\x03\x04")] * 3
    assert served == [3]


def test_a_connection_that_the_server_closes_is_opened_again() -> None:
    with scripted(CLOSING, GOOD) as (address, served):
        assert exchange(address, 2) == [Answer(b"\x01\x02\x03\x04")] * 2
    assert served == [1, 1]


def test_a_lost_connection_is_one_failure_and_is_opened_again() -> None:
    with scripted(GOOD, b"", GOOD) as (address, served):
        first, second, third = exchange(address, 3)
    assert (first.failure, second.lost, third.failure) == ("", True, "")
    assert "closed" in second.failure
    assert served == [2, 1]


def test_an_answer_that_is_no_http_is_a_failure() -> None:
    with scripted(b"SSH-2.0-close\r\n\r\n") as (address, _):
        (answer,) = exchange(address, 1)
    assert answer.lost
    assert answer.failure


def test_a_server_that_says_nothing_is_a_failure_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (answer,) = exchange(Address(*listener.getsockname()), 1, timeout_s=0.2)
    assert answer.lost
    assert answer.failure.startswith("TimeoutError")


def test_nobody_listening_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname())
    (answer,) = exchange(address, 1)
    assert answer.lost
    assert answer.failure.startswith("ConnectionRefusedError")
