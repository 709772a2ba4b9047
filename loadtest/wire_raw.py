"""HTTP with the least work an answer: for where the load generator would be the limit.

Only what Triton's answers need is read: status, the two lengths, whether the connection is kept. An answer in another
form (chunked, say) is a failure; the usual connection of `loadtest.wire_http` takes any.
"""

from __future__ import annotations

from gevent import socket

from loadtest.wire import Answer
from loadtest.wire_http import RECEIVE_BYTES, HttpConnection, read_answer

_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length: "
_HEADER_LENGTH = b"\r\ninference-header-content-length: "
_CLOSE = b"\r\nconnection: close"


class RawConnection(HttpConnection):
    """One kept-alive connection. See `loadtest.wire.Connection`."""

    def exchange(self, request: bytes, expected_bytes: int) -> Answer:
        """Sends one request and waits for its answer. Never raises for what the server or the network does."""
        try:
            connection = self._connected()
            connection.sendall(request)
            head, body = _receive(connection)
        except (OSError, ValueError) as error:
            self.close()
            return Answer(b"", f"{type(error).__name__}: {error}", lost=True)
        if _CLOSE in head:
            self.close()
        return self.read(int(head[9:12]), head, body, expected_bytes)

    def read(self, status: int, head: bytes, body: bytes, expected_bytes: int) -> Answer:
        """The output in an answer whose head is in small letters. For servers that put it otherwise to override."""
        return read_answer(status, _field(head, _HEADER_LENGTH).decode(), body, expected_bytes)


def _receive(connection: socket.socket) -> tuple[bytes, bytes]:
    """An answer's head in small letters, and its body. Raises OSError if the connection ends, ValueError if it is not
    an answer that says how long it is."""
    received = _some(connection)
    while (end := received.find(_END)) < 0:
        received += _some(connection)
    head = received[:end].lower()
    length = _field(head, _LENGTH)
    if not head.startswith(b"http/1.1 ") or not head[9:12].isdigit() or not length.isdigit():
        raise ValueError(f"this is no HTTP answer with a length: {received[:80]!r}")
    begin = end + len(_END)
    missing = begin + int(length) - len(received)
    if missing <= 0:
        return head, received[begin:]
    parts = [received[begin:]]
    while missing > 0:
        parts.append(_some(connection))
        missing -= len(parts[-1])
    return head, b"".join(parts)


def _field(head: bytes, name: bytes) -> bytes:
    return head.partition(name)[2].partition(b"\r")[0]


def _some(connection: socket.socket) -> bytes:
    received: bytes = connection.recv(RECEIVE_BYTES)
    if not received:
        raise ConnectionError("the server closed the connection")
    return received
