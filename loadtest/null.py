"""A server that does nothing, at once: `python -m loadtest.null http|grpc REQUEST_BYTES OUTPUT_BYTES`.

It answers every request with the same ready bytes, prints its port, and ends when its standard input does. On it the
load generator's ceiling is measured. A null model on Triton would not do: Triton answers fewer requests a second than
the generator can send, so the figure would be Triton's. And within the generator's own process its CPU time could not
be told from the generator's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

HOST: Final = "127.0.0.1"
SERVICE: Final = "inference.GRPCInferenceService"


def http_answer(output_bytes: int) -> bytes:
    """What Triton sends for one output of so many bytes."""
    output = {"name": "output", "datatype": "UINT8", "shape": [1, output_bytes]}
    tensors = [{**output, "parameters": {"binary_data_size": output_bytes}}]
    header = json.dumps(
        {"model_name": "null", "model_version": "1", "outputs": tensors}, separators=(",", ":")
    ).encode()
    lines = (
        "HTTP/1.1 200 OK",
        "Content-Type: application/octet-stream",
        f"Inference-Header-Content-Length: {len(header)}",
        f"Content-Length: {len(header) + output_bytes}",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + header + bytes(output_bytes)


class NullHttp(asyncio.Protocol):
    """One connection: an answer for every `request_bytes` bytes that came, whatever they say."""

    def __init__(self, request_bytes: int, answer: bytes) -> None:
        self._request_bytes, self._answer, self._received = request_bytes, answer, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remembers where answers go."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Counts, and answers what is whole."""
        whole, self._received = divmod(self._received + len(data), self._request_bytes)
        if whole:
            self._transport.write(self._answer * whole)


async def serve_http(request_bytes: int, answer: bytes) -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: NullHttp(request_bytes, answer), HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
    await ended.wait()


def serve_grpc(output_bytes: int) -> None:
    """Serves until standard input ends. Messages are not parsed."""
    import grpc
    from tritonclient.grpc import service_pb2

    response = service_pb2.ModelInferResponse(model_name="null", model_version="1")
    response.outputs.add(name="output", datatype="UINT8", shape=[1, output_bytes])
    response.raw_output_contents.append(bytes(output_bytes))
    answer = response.SerializeToString()

    handler = grpc.unary_unary_rpc_method_handler(lambda *_: answer)
    methods = grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler, "ServerLive": handler})
    server = grpc.server(ThreadPoolExecutor(4), (methods,), options=(("grpc.max_receive_message_length", -1),))
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


def main() -> None:
    """Serves what the command line says."""
    protocol, request_bytes, output_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if protocol == "grpc":
        serve_grpc(output_bytes)
    else:
        asyncio.run(serve_http(request_bytes, http_answer(output_bytes)))


if __name__ == "__main__":
    main()
