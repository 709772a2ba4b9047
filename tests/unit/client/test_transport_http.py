"""What the HTTP transports, for threads and for asyncio, make of servers that misbehave. Real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from client import (
    AnswerError,
    AnswerTooLargeError,
    AsyncInferenceClient,
    AuthorizationError,
    DeadlineError,
    InferenceClient,
    InferenceError,
    Options,
    OverloadedError,
    RefusedError,
    Retry,
    Settings,
    UnknownModelError,
    UnreachableError,
    UnsupportedError,
)
from core.tensors import Arrays
from tests.support.clients import ROWS
from tests.support.stubs import Request, http_stub, inferring, plain_server, response

ONCE = Settings(retry=Retry(attempts=1, attempts_unmet=1), observers=())
Ask = Callable[[str, Settings, float], Arrays]


def by_thread(url: str, settings: Settings, timeout_s: float) -> Arrays:
    """One request by the client for threads."""
    with InferenceClient(url, timeout_s=timeout_s, settings=settings) as client:
        return client.infer("double", ROWS[:2])


def by_asyncio(url: str, settings: Settings, timeout_s: float) -> Arrays:
    """One request by the client for asyncio."""

    async def main() -> Arrays:
        async with AsyncInferenceClient(url, timeout_s=timeout_s, settings=settings) as client:
            return await client.infer("double", ROWS[:2])

    return asyncio.run(main())


@pytest.fixture(params=[by_thread, by_asyncio])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Each test runs with both."""
    found: Ask = request.param
    return found


def outputs(**changes: object) -> dict[str, object]:
    """A good answer in JSON, but for the changes of its output."""
    output = {"name": "y", "shape": [2, 2], "datatype": "FP32", "data": [0, 2, 4, 6]}
    return {"outputs": [output | changes]}


def test_a_server_without_extensions_is_spoken_to_in_json(ask: Ask) -> None:
    with http_stub(plain_server) as url:
        answer = ask(url, ONCE, 5)
    np.testing.assert_array_equal(answer["y"], ROWS[:2] * 2)
    assert answer["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (response(400, {"error": "wrong shape"}), RefusedError, r"refused a request for model 'double': wrong shape"),
        (response(500, b"boom\nat line 3"), RefusedError, r"refused a request for model 'double': boom$"),
        (response(401, {"error": "token expired"}), AuthorizationError, r"token expired \(HTTP 401\); give a valid"),
        (response(403, b""), AuthorizationError, r"HTTP status 403 \(HTTP 403\); this client may not do that"),
        (response(404, {"error": "unloaded"}), UnknownModelError, r"does not serve model 'double': unloaded; `trident"),
        (response(501, {"error": "no such thing"}), UnsupportedError, r"no such thing \(HTTP 501\)"),
        (response(503, {"error": "queue full"}), OverloadedError, r"queue full \(HTTP 503\); the server is busy"),
        (response(429, b"slow down"), OverloadedError, r"slow down \(HTTP 429\)"),
        (response(200, b"<html>hello</html>"), AnswerError, "cannot be read as JSON.*the port of an inference server"),
        (response(200, {"outputs": []}), AnswerError, "lacks the output 'y'"),
        (response(200, outputs(shape=[3, 2])), AnswerError, "cannot reshape"),
        (response(200, outputs(datatype="FP33")), AnswerError, "FP33"),
        (response(200, b"{}", Inference_Header_Content_Length="many"), AnswerError, "cannot be read"),
        (response(200, outputs(), Content_Length="9999"), UnreachableError, r"broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n{}", UnreachableError, r"broke|break|no server"),
        (b"", UnreachableError, r"no server answers at .*is this its HTTP port"),
        (b"HELLO\r\n\r\n", InferenceError, r"cannot be read|no server answers"),
        (response(200, b"x" * 5000, Content_Encoding="gzip"), AnswerError, "cannot be unpacked as gzip"),
        (response(200, gzip.compress(b"{}")[:-9], Content_Encoding="gzip"), AnswerError, "cut off"),
    ],
)
def test_a_bad_answer_is_a_typed_error_that_says_what_to_do(
    ask: Ask, bad: bytes, error: type[InferenceError], words: str
) -> None:
    def respond(request: Request) -> bytes:  # noqa: ARG001
        closing = bad.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        return closing if b"Content-Length: 9999" in bad or b"chunked" in bad else bad

    with http_stub(inferring(respond)) as url, pytest.raises(error, match=words):
        ask(url, ONCE, 5)


@pytest.mark.parametrize("how", ["length", "chunks", "packed"])
def test_an_answer_that_is_too_large_is_not_read(ask: Ask, how: str) -> None:
    data = json.dumps(outputs(note="x" * 100_000)).encode()
    answers = {
        "length": response(200, data),
        "chunks": response(200, f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n", Transfer_Encoding="chunked"),
        "packed": response(200, gzip.compress(data), Content_Encoding="gzip"),
    }
    with (
        http_stub(inferring(lambda _: answers[how])) as url,
        pytest.raises(AnswerTooLargeError, match=r"this client takes 5000; .*raise Settings\.max_answer_bytes"),
    ):
        ask(url, replace(ONCE, max_answer_bytes=5000), 5)


@pytest.mark.parametrize("drip_s", [0.01, 0.05])
def test_a_server_that_drips_is_given_up_at_the_deadline(ask: Ask, drip_s: float) -> None:
    with http_stub(plain_server, drip_s) as url:
        began_s = time.monotonic()
        with pytest.raises(DeadlineError, match=r"did not answer within 0\.5 s"):
            ask(url, ONCE, 0.5)
        assert 0.45 <= time.monotonic() - began_s < 1.5


def test_no_connection_is_free_in_time(ask: Ask) -> None:
    """As many requests as there are connections hang; the next one is given up in time, and has sent nothing."""
    received = []

    def hang(request: Request) -> bytes:
        received.append(request)
        time.sleep(4)
        return response(503)

    async def main(url: str) -> None:
        settings = replace(ONCE, connections=2)
        async with AsyncInferenceClient(url, timeout_s=2, settings=settings) as client:
            await client.metadata("double")
            asked = [asyncio.ensure_future(client.infer("double", ROWS[:1])) for _ in range(5)]
            while len(received) < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            assert len(received) == 2
            errors = await asyncio.gather(*asked, return_exceptions=True)
            assert [type(error) for error in errors] == [DeadlineError] * 5

    def threads(url: str) -> None:
        with InferenceClient(url, timeout_s=0.5, settings=replace(ONCE, connections=2)) as client:
            client.metadata("double")
            with pytest.raises(DeadlineError):
                client.infer("double", np.concatenate([ROWS[:1]]), options=Options(timeout_s=0.3))

    with http_stub(inferring(hang)) as url:
        if ask is by_asyncio:
            asyncio.run(main(url))
        else:
            threads(url)
            assert len(received) == 1


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    opened = []

    def respond(request: Request) -> bytes:
        opened.append(request)
        return plain_server(request)

    with http_stub(respond) as url, InferenceClient(url, settings=ONCE) as client:
        client.infer("double", ROWS[:1])
        (connection,) = client._transports[0]._idle  # type: ignore[attr-defined]
        connection._socket.shutdown(socket.SHUT_RD)  # as it looks when the server has hung up
        client.infer("double", ROWS[:1])
        assert client._transports[0]._idle != [connection]  # type: ignore[attr-defined]


def test_a_retry_after_header_is_heeded() -> None:
    slept = []
    answers = [response(503, b"later", Retry_After="7")]

    def respond(request: Request) -> bytes:
        return answers.pop() if answers else plain_server(request)

    from tests.support.clients import Moments

    moments = Moments()
    with http_stub(inferring(respond)) as url, InferenceClient(url, settings=moments.settings()) as client:
        client.infer("double", ROWS[:1])
        slept = moments.slept_s
    assert slept == [7]
