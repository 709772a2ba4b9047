"""Requests as bytes, made once before the load; and the thinnest connection that sends them.

Generator and server share the machine's cores, so what a request costs here is taken from the server. Locust's own
HTTP session takes about 0.15 ms of CPU time a request; sending bytes that are ready, and leaving the answer to
geventhttpclient's C parser, takes about 0.06 ms.
"""

from __future__ import annotations

import json
from typing import NamedTuple
from urllib.parse import quote

from gevent import socket
from geventhttpclient.response import HTTPParseError, HTTPSocketResponse

from client.address import Address
from core.datatypes import BY_NAME
from core.samples import SamplePack
from core.tensors import Arrays

_HEADER_LENGTH = "inference-header-content-length"
_RECEIVE_BYTES = 1 << 16


class Answer(NamedTuple):
    """What came back: the one output's bytes, or why there are none. `lost`: the connection failed."""

    data: bytes
    failure: str = ""
    lost: bool = False


def request_line(model: str) -> bytes:
    """The first line of an HTTP request for one inference."""
    return f"POST /v2/models/{quote(model, safe='')}/infer HTTP/1.1\r\n".encode()


def encode_request(inputs: Arrays, output: str) -> bytes:
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


def encode_pack(pack: SamplePack) -> tuple[bytes, ...]:
    """Each sample of a pack as a request of batch 1 for the output that is scored."""
    return tuple(
        encode_request({name: array[i : i + 1] for name, array in pack.inputs.items()}, pack.info.metric_output)
        for i in range(pack.info.count)
    )


def read_answer(status: int, header_length: object, body: bytes, expected_bytes: int) -> Answer:
    """The output in a response's body. An answer of another size than `expected_bytes` is a failure."""
    if status != 200:
        return Answer(b"", f"HTTP {status}: {body[:200].decode(errors='replace')}")
    data = body[int(header_length) :] if isinstance(header_length, str) and header_length.isdigit() else b""
    if len(data) != expected_bytes:
        return Answer(b"", f"HTTP 200, but the output has {len(data)} bytes instead of {expected_bytes}")
    return Answer(data)


class Connection:
    """One kept-alive connection, opened when it is first needed and again after a failure. For one greenlet."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def open(self) -> socket.socket:
        """Connects, unless that is done already. Raises OSError if nobody listens."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, self._timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def close(self) -> None:
        """Disconnects."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, request: bytes, expected_bytes: int) -> Answer:
        """Sends one request and waits for its answer. Never raises for what the server or the network does."""
        try:
            connection = self.open()
            connection.sendall(request)
            response = HTTPSocketResponse(connection, _RECEIVE_BYTES, "POST")
            body = response.read()
        except (OSError, HTTPParseError) as error:
            self.close()
            return Answer(b"", f"{type(error).__name__}: {error}", lost=True)
        if response.should_close():
            self.close()
        return read_answer(response.get_code(), response.get(_HEADER_LENGTH), body, expected_bytes)
