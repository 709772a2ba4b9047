"""The one seam between the load test and a protocol: how samples become bytes, and what sends them.

Requests are encoded once, before the load. Generator and server share the machine's cores, so what a request costs
here is taken from the server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from client.address import Address
from client.transport import ProtocolName
from core.samples import SamplePack
from core.scenario import Protocol as WireName
from core.tensors import Arrays


class Answer(NamedTuple):
    """What came back: the one output's bytes, or why there are none. `lost`: the connection failed."""

    data: bytes
    failure: str = ""
    lost: bool = False


class Connection(Protocol):
    """One connection to a server, kept alive and made again after a failure. For one greenlet."""

    def open(self) -> None:
        """Connects, if it can; if not, the first exchange says why."""
        ...

    def exchange(self, request: bytes, expected_bytes: int) -> Answer:
        """Sends one request and waits for its answer. Never raises for what the server or the network does; an output
        of another size than `expected_bytes` is a failure."""
        ...

    def close(self) -> None:
        """Disconnects."""
        ...


class Wire(NamedTuple):
    """A way to send. A request is `head(model)` and after it `encode(inputs, output)`: so variants share the long part.
    `connect(address, timeout_s)` makes a connection that is not open yet; `scheme` is the protocol on the line."""

    scheme: ProtocolName
    head: Callable[[str], bytes]
    encode: Callable[[Arrays, str], bytes]
    connect: Callable[[Address, float], Connection]

    def encode_pack(self, pack: SamplePack) -> tuple[bytes, ...]:
        """Each sample of a pack as a request of batch 1 for the output that is scored, without its head."""
        return tuple(
            self.encode({name: array[i : i + 1] for name, array in pack.inputs.items()}, pack.info.metric_output)
            for i in range(pack.info.count)
        )


def scheme(name: WireName) -> ProtocolName:
    """The protocol that a wire speaks."""
    return "grpc" if name == "grpc" else "http"


def open_wire(name: WireName) -> Wire:
    """The wire of that name, in the load test's own process. Call it before anything there speaks gRPC: for that, the
    whole process is told to wait by gevent. Imported late, as a run needs only one."""
    if name == "grpc":
        from grpc.experimental.gevent import init_gevent

        from loadtest import wire_grpc

        init_gevent()
        return Wire("grpc", wire_grpc.head, wire_grpc.encode, wire_grpc.GrpcConnection)
    from loadtest import wire_http, wire_raw

    connect = wire_raw.RawConnection if name == "raw" else wire_http.HttpConnection
    return Wire("http", wire_http.head, wire_http.encode, connect)
