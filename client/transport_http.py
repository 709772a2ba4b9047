"""HTTP on kept-alive connections, one for each request under way."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from typing import NoReturn, cast

import httptools

from client.address import Endpoint
from client.calls import Answer, Ask, Attempt, Call, Infer
from client.errors import (
    AnswerError,
    DeadlineError,
    TlsError,
    UnreachableError,
    UnsupportedError,
    WrongProtocolError,
)
from client.forking import renew_after_fork
from client.http_connection import Connection, CutOffError, SpeaksHttp2Error
from client.settings import Settings
from client.tls import tls_context
from client.wire_http import HttpRequest, HttpResponse, decode, encode


class HttpTransport:
    """See `client.transport.Transport`. A connection that the server closed while it was idle is not used again."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._tls = tls_context(settings.tls) if endpoint.tls else None
        self._server_name = settings.tls.server_name if settings.tls else ""
        self._idle: list[Connection] = []
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Leaves the parent its connections: to close them here does not close them there."""
        for connection in self._idle:
            connection.close()
        self._lock = threading.Lock()
        self._idle = []
        self._free = threading.BoundedSemaphore(self._settings.connections)

    def ask(self, ask: Ask, attempt: Attempt) -> object:
        """See `Transport.ask`."""
        return self._send(ask, attempt)

    def infer(self, call: Infer, attempt: Attempt) -> Answer:
        """See `Transport.infer`."""
        return cast(Answer, self._send(call, attempt))

    def stream(self, call: Infer, attempt: Attempt) -> Iterator[Answer]:  # noqa: ARG002
        """Not over HTTP, where Triton streams texts only."""
        raise no_stream(call)

    def close(self) -> None:
        """See `Transport.close`."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _send(self, call: Call, attempt: Attempt) -> object:
        request = encode(call, attempt.timeout_s, self._settings.compression)
        request.headers.update(attempt.headers)
        deadline_s = time.monotonic() + attempt.timeout_s
        if not self._free.acquire(timeout=attempt.timeout_s):
            raise_ours(TimeoutError(), self._endpoint, attempt.timeout_s, False)
        try:
            response = self._exchange(request, attempt, deadline_s)
        finally:
            self._free.release()
        return decode(call, response, self._settings.max_answer_bytes)

    def _exchange(self, request: HttpRequest, attempt: Attempt, deadline_s: float) -> HttpResponse:
        connection = self._take()
        cancellation = attempt.cancellation
        try:
            with cancellation.calling(connection.abort) if cancellation else contextlib.nullcontext():
                response = connection.exchange(request, deadline_s, self._settings.max_answer_bytes)
        except BaseException as error:
            connection.close()
            if cancellation:
                cancellation.check()
            if not isinstance(error, OSError | httptools.HttpParserError):
                raise
            raise_ours(error, self._endpoint, attempt.timeout_s, connection.sent)
        if connection.reusable:
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()
        return response

    def _take(self) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return Connection(self._endpoint.address, self._tls, self._server_name)
            if not connection.stale():
                return connection
            connection.close()


def no_stream(call: Infer) -> UnsupportedError:
    """The error for streaming over HTTP."""
    return UnsupportedError(f"model {call.model!r} cannot be streamed over HTTP; open the client with grpc://")


def not_http(endpoint: Endpoint) -> str:
    """What to say of a gRPC port that was asked in HTTP."""
    what = f"what listens at {endpoint.address} speaks gRPC, not HTTP"
    return f"{what}; write grpc://{endpoint.address}, or is this its HTTP port (Triton's is 8000)?"


def raise_ours(error: Exception, endpoint: Endpoint, timeout_s: float, sent: bool) -> NoReturn:
    """Turns what the network did into an error of `client.errors`."""
    address = endpoint.address
    hint = "is it running, and is this its HTTP port?"
    if isinstance(error, TimeoutError):
        raise DeadlineError(f"the server at {address} did not answer within {timeout_s:g} s") from error
    if isinstance(error, ssl.SSLCertVerificationError):
        why = "see Settings.tls.ca_file, and whether the certificate is valid and for this host"
        raise TlsError(f"the certificate of {address} is not to be trusted: {error.verify_message}; {why}") from error
    if isinstance(error, ssl.SSLError):
        why = "does it speak TLS, and does it want a certificate from us (Settings.tls.certificate_file)?"
        raise TlsError(f"no encrypted connection to {address}: {error.reason or error}; {why}") from error
    if isinstance(error, SpeaksHttp2Error):
        raise WrongProtocolError(not_http(endpoint)) from error
    if isinstance(error, CutOffError) and error.begun:
        raise UnreachableError(f"the answer of {address} broke off", sent=True) from error
    if isinstance(error, OSError):
        what = str(error) or type(error).__name__
        raise UnreachableError(f"no server answers at {address} ({what}); {hint}", sent) from error
    raise AnswerError(f"the answer of {address} cannot be read: {error}; {hint}") from error
