"""One kept-alive HTTP connection, for one request at a time.

Our own, around the parser of httptools (Node's llhttp): the standard library's `http.client` takes 0.08 ms longer for
each answer, and gives each read a timeout of its own instead of one to all.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from typing import Final

import httptools

from client.address import Address
from client.errors import AnswerTooLargeError
from client.wire_http import HttpRequest, HttpResponse, too_large

_RECEIVE_BYTES: Final = 1 << 18
_HTTP2_GREETING: Final = b"\x00\x00"  # the length of its first frame


class CutOffError(OSError):
    """The server hung up before the end of its answer, or before its beginning (`begun` False)."""

    def __init__(self, begun: bool) -> None:
        super().__init__("the answer broke off" if begun else "the server hung up without an answer")
        self.begun = begun


class SpeaksHttp2Error(OSError):
    """What came is how a gRPC server greets."""


class Reader:
    """Makes a response of bytes as they come. Once it is `complete`, `keeps_alive` says whether the connection may be
    used again; `error` says why it cannot be taken."""

    def __init__(self, max_bytes: int) -> None:
        self.complete = False
        self.keeps_alive = False
        self.error: AnswerTooLargeError | None = None
        self._max_bytes = max_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._size = 0
        self._begun = False

    def feed(self, data: bytes) -> None:
        """The next bytes. Raises HttpParserError or SpeaksHttp2Error for what is no HTTP, and CutOffError if they are
        none before the end."""
        if data:
            if not self._begun and data.startswith(_HTTP2_GREETING):
                raise SpeaksHttp2Error
            self._begun = True
            self._parser.feed_data(data)
        elif self._open_ended():
            self.complete = True
        else:
            raise CutOffError(self._begun)

    def response(self) -> HttpResponse:
        """The whole response."""
        return HttpResponse(self._parser.get_status_code(), self._headers, b"".join(self._parts))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        length = self._headers.get("content-length", "")
        if length.isdecimal():
            self._check(int(length))

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._size += len(body)
        self._check(self._size)
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.complete, self.keeps_alive = True, self._parser.should_keep_alive()

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            self.error = too_large(size, self._max_bytes)

    def _open_ended(self) -> bool:
        """Whether only hanging up tells the end of the answer."""
        return bool(self._headers) and not {"content-length", "transfer-encoding"} & self._headers.keys()


class Connection:
    """To one server. `sent`: whether something of the last request may have got there; `reusable`: whether another one
    may follow."""

    def __init__(self, address: Address, tls: ssl.SSLContext | None, server_name: str) -> None:
        self._address = address
        self._tls = tls
        self._server_name = server_name or address.host
        self._socket: socket.socket | None = None
        self.sent = False
        self.reusable = False

    def exchange(self, request: HttpRequest, deadline_s: float, max_bytes: int) -> HttpResponse:
        """Sends a request and reads the answer by a time of `time.monotonic`, however little each step brings. Raises
        OSError, HttpParserError or AnswerTooLargeError."""
        self.sent = self.reusable = False
        if self._socket is None:
            self._socket = self._connect(deadline_s)
        self._socket.settimeout(_left_s(deadline_s))
        self.sent = True
        self._socket.sendall(_message(request, self._address))
        reader = Reader(max_bytes)
        while not reader.complete:
            self._socket.settimeout(_left_s(deadline_s))
            reader.feed(self._socket.recv(_RECEIVE_BYTES))
            if reader.error:
                raise reader.error
        self.reusable = reader.keeps_alive
        return reader.response()

    def stale(self) -> bool:
        """Whether the server has hung up, or sent what nobody asked for."""
        if self._socket is None:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def abort(self) -> None:
        """Ends an exchange that another thread is in."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hangs up."""
        if self._socket is not None:
            self._socket.close()

    def _connect(self, deadline_s: float) -> socket.socket:
        connected = socket.create_connection(self._address, _left_s(deadline_s))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return connected
        try:
            return self._tls.wrap_socket(connected, server_hostname=self._server_name)
        except BaseException:
            connected.close()
            raise


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _message(request: HttpRequest, address: Address) -> bytes:
    """The bytes of a request."""
    lines = [f"{request.method} {request.path} HTTP/1.1"]
    if "host" not in request.headers:
        lines.append(f"Host: {address}")
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    head = "\r\n".join((*lines, f"Content-Length: {len(request.body)}", "", "")).encode("latin-1")
    return head + request.body
