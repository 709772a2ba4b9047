"""Servers for the client's tests that do what a real one cannot be made to do on demand: answer 503, cut an answer off,
ask for a token, speak TLS, or be no server of the protocol at all. They are small, but real ones, on real sockets."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

METADATA = {
    "name": "double",
    "versions": ["1"],
    "platform": "stub",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


class Request(NamedTuple):
    """What a stub was asked. The names of the headers are in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Respond = Callable[[Request], bytes]
"""A request to all bytes of its response; empty hangs up without one."""


def response(status: int, body: bytes | object = b"", **headers: str) -> bytes:
    """A whole HTTP response; a body that is no bytes goes as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in names.items())]
    if "Content-Length" not in names and "Transfer-Encoding" not in names:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + data


def plain_server(request: Request) -> bytes:
    """A server of the Open Inference Protocol with none of its extensions: JSON tensors, no configuration."""
    if request.path == "/v2":
        return response(200, {"name": "plain", "version": "1", "extensions": []})
    if request.path == "/v2/models/double":
        return response(200, METADATA)
    if request.path == "/v2/models/double/infer":
        (tensor,) = json.loads(request.body)["inputs"]
        data = [2 * value for value in tensor["data"]]
        output = {"name": "y", "shape": tensor["shape"], "datatype": "FP32", "data": data}
        return response(200, {"model_name": "double", "outputs": [output]})
    return response(404, {"detail": "Not Found"})


def inferring(respond: Respond) -> Respond:
    """The plain server, but for what `respond` makes of requests for inference."""
    return lambda request: respond(request) if request.path.endswith("/infer") else plain_server(request)


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while (request := self._read()) is not None:
            answer = self.server.respond(request)  # type: ignore[attr-defined]
            if not answer:
                return
            try:
                for byte in [answer] if not self.server.drip_s else [bytes([b]) for b in answer]:  # type: ignore[attr-defined]
                    self.wfile.write(byte)
                    time.sleep(self.server.drip_s)  # type: ignore[attr-defined]
            except OSError:
                return
            if b"Connection: close" in answer:
                return

    def _read(self) -> Request | None:
        try:
            line = self.rfile.readline().decode("latin-1").split()
            if len(line) != 3:
                return None
            headers = {}
            while (header := self.rfile.readline().decode("latin-1").strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            return Request(line[0], line[1], headers, self.rfile.read(int(headers.get("content-length", 0))))
        except OSError:
            return None


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512


@contextmanager
def http_stub(respond: Respond, drip_s: float = 0.0) -> Iterator[str]:
    """Serves at the address that comes out, a byte every `drip_s` if that is given."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.respond, server.drip_s = respond, drip_s  # type: ignore[attr-defined]
        with _running(server):
            yield f"127.0.0.1:{server.server_address[1]}"


@contextmanager
def _running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


class _Pipe(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server: _TlsServer = self.server  # type: ignore[assignment]
        try:
            with (
                server.tls.wrap_socket(self.request, server_side=True) as inside,
                socket.create_connection(server.target) as outside,
            ):
                back = threading.Thread(target=_pump, args=(outside, inside))
                back.start()
                _pump(inside, outside)
                back.join()
        except OSError:
            return


class _TlsServer(_Server):
    tls: ssl.SSLContext
    target: tuple[str, int]


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@contextmanager
def tls_in_front_of(address: str, tls: ssl.SSLContext) -> Iterator[str]:
    """Speaks TLS at the address that comes out, and passes all on to a server that does not."""
    host, _, port = address.rpartition(":")
    with _TlsServer(("127.0.0.1", 0), _Pipe) as server:
        server.tls, server.target = tls, (host, int(port))
        with _running(server):
            yield f"127.0.0.1:{server.server_address[1]}"
