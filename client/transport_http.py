"""HTTP on kept-alive connections of the standard library, one for each request under way."""

from __future__ import annotations

import contextlib
import http.client
import io
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, NoReturn, cast

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
from client.settings import Settings
from client.tls import tls_context
from client.wire_http import HttpRequest, HttpResponse, decode, encode, too_large

_HTTP2_SETTINGS: Final = "\x00\x00"  # how a gRPC server begins, where a status line should be


class HttpTransport:
    """See `client.transport.Transport`. A connection that the server closed while it was idle is not used again."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._tls = tls_context(settings.tls) if endpoint.tls else None
        self._server_name = settings.tls.server_name if settings.tls else ""
        self._idle: list[_Connection] = []
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
        request = encode(call, self._settings.compression)
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
            if not isinstance(error, OSError | http.client.HTTPException | ValueError):
                raise
            raise_ours(error, self._endpoint, attempt.timeout_s, connection.sent)
        if connection.reusable:
            with self._lock:
                self._idle.append(connection)
        return response

    def _take(self) -> _Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return _Connection(self._endpoint, self._tls, self._server_name)
            if not connection.stale():
                return connection
            connection.close()


class _Connection:
    """One connection, for one request at a time."""

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None, server_name: str) -> None:
        self._address = endpoint.address
        self._tls = tls
        self._server_name = server_name or endpoint.address.host
        self._connection: Any = http.client.HTTPConnection(*endpoint.address)
        self._socket: _TimedSocket | None = None
        self.sent = False
        self.reusable = False

    def exchange(self, request: HttpRequest, deadline_s: float, max_bytes: int) -> HttpResponse:
        """Sends a request and reads the answer by a time of `time.monotonic`. Raises what the standard library does."""
        connection = self._connection
        self.sent = self.reusable = False
        if self._socket is None:
            self._socket = connection.sock = _TimedSocket(self._connect(deadline_s))
        self._socket.deadline_s = deadline_s
        self.sent = True
        connection.request(request.method, request.path, request.body or None, request.headers)
        response = connection.getresponse()
        if (response.length or 0) > max_bytes:
            raise too_large(response.length or 0, max_bytes)
        body = response.read() if response.length is not None else response.read(max_bytes + 1)
        if len(body) > max_bytes:
            raise too_large(len(body), max_bytes)
        self.reusable = response.isclosed() and connection.sock is not None
        return HttpResponse(response.status, {name.lower(): value for name, value in response.getheaders()}, body)

    def _connect(self, deadline_s: float) -> socket.socket:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connected = socket.create_connection(self._address, left_s)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return connected
        try:
            return self._tls.wrap_socket(connected, server_hostname=self._server_name)
        except BaseException:
            connected.close()
            raise

    def stale(self) -> bool:
        """Whether the server has hung up, or sent what nobody asked for."""
        poll = select.poll()
        poll.register(self._connection.sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def abort(self) -> None:
        """Ends an exchange that another thread is in."""
        if self._socket is not None:
            self._socket.shutdown()

    def close(self) -> None:
        """Hangs up."""
        if self._socket is not None:
            self._socket.hang_up()


class _TimedSocket:
    """A socket whose operations must all be done by `deadline_s` (of `time.monotonic`), however little each one brings.
    What `http.client` needs of a socket, and no more."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.deadline_s = 0.0

    def sendall(self, data: Any) -> None:
        self._arm()
        self._socket.sendall(data)

    def recv_into(self, buffer: Any) -> int:
        self._arm()
        return self._socket.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_Receiver(self), 1 << 16)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """What `http.client` does when the server is going to, while the answer is still to be read."""

    def shutdown(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def hang_up(self) -> None:
        self._socket.close()

    def _arm(self) -> None:
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)


class _Receiver(io.RawIOBase):
    """The reading side of a `_TimedSocket` as a file, which does not close it."""

    def __init__(self, source: _TimedSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.recv_into(buffer)


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
    if isinstance(error, http.client.BadStatusLine) and str(error.args[0]).startswith(_HTTP2_SETTINGS):
        raise WrongProtocolError(not_http(endpoint)) from error
    if isinstance(error, http.client.IncompleteRead):
        what = f"the answer of {address} broke off after {len(error.partial)} bytes, {error.expected} before its end"
        raise UnreachableError(what, sent=True) from error
    if isinstance(error, OSError | http.client.RemoteDisconnected):
        what = str(error) or type(error).__name__
        raise UnreachableError(f"no server answers at {address} ({what}); {hint}", sent) from error
    raise AnswerError(f"the answer of {address} cannot be read: {error}; {hint}") from error
