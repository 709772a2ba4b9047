"""HTTP: requests as bytes, and the thinnest connection that sends them.

Locust's own HTTP session takes about 0.15 ms of CPU time a request; sending bytes that are ready, and leaving the
answer to geventhttpclient's C parser, takes about 0.06 ms.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from gevent import socket
from geventhttpclient.response import HTTPParseError, HTTPSocketResponse

from client.address import Address
from core.datatypes import BY_NAME
from core.tensors import Arrays
from loadtest.wire import Answer

HEADER_LENGTH = "inference-header-content-length"
RECEIVE_BYTES = 1 << 16


def head(model: str) -> bytes:
    """The first line of an HTTP request for one inference."""
    return f"POST /v2/models/{quote(model, safe='')}/infer HTTP/1.1\r\n".encode()


def encode(inputs: Arrays, output: str) -> bytes:
    """All of an HTTP request after its first line, which alone names the model: so variants share it. The tensors are
    binary, and one output is asked for in binary."""
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": BY_NAME[array.dtype.name].triton,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in inputs.items()
    ]
    wanted = [{"name": output, "parameters": {"binary_data": True}}]
    header = json.dumps({"inputs": tensors, "outputs": wanted}, separators=(",", ":")).encode()
    body = header + b"".join(array.tobytes() for array in inputs.values())
    lines = (
        "Host: triton",
        "Content-Type: application/octet-stream",
        f"Content-Length: {len(body)}",
        f"Inference-Header-Content-Length: {len(header)}",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + body


def read_answer(status: int, header_length: object, body: bytes, expected_bytes: int) -> Answer:
    """The output in a response's body. An answer of another size than `expected_bytes` is a failure."""
    if status != 200:
        return Answer(b"", f"HTTP {status}: {body[:200].decode(errors='replace')}")
    data = body[int(header_length) :] if isinstance(header_length, str) and header_length.isdigit() else b""
    if len(data) != expected_bytes:
        return Answer(b"", f"HTTP 200, but the output has {len(data)} bytes instead of {expected_bytes}")
    return Answer(data)


class HttpConnection:
    """One kept-alive connection, opened when it is first needed and again after a failure. See
    `loadtest.wire.Connection`."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Connects."""
        try:
            self._connected()
        except OSError:
            return  # the first request reports it

    def close(self) -> None:
        """Disconnects."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, request: bytes, expected_bytes: int) -> Answer:
        """Sends one request and waits for its answer. Never raises for what the server or the network does."""
        try:
            connection = self._connected()
            connection.sendall(request)
            response = HTTPSocketResponse(connection, RECEIVE_BYTES, "POST")
            body = response.read()
        except (OSError, HTTPParseError) as error:
            self.close()
            return Answer(b"", f"{type(error).__name__}: {error}", lost=True)
        if response.should_close():
            self.close()
        return read_answer(response.get_code(), response.get(HEADER_LENGTH), body, expected_bytes)

    def _connected(self) -> socket.socket:
        """The connection, made unless there is one. Raises OSError if nobody listens."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, self._timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket
