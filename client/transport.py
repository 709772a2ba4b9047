"""The one seam between the client and a protocol."""

from __future__ import annotations

from typing import Literal, Protocol

from client.address import Address
from core.tensors import Arrays

ProtocolName = Literal["http", "grpc"]


class Transport(Protocol):
    """Speaks one protocol with one server. Those that return `object` hand over the server's decoded JSON, spelled
    alike by both protocols. All raise the errors of `client.errors`, never those of the library underneath."""

    def is_ready(self, model: str | None) -> bool:
        """Whether the server, or one of its models, takes requests."""
        ...

    def server(self) -> object:
        """Name, version and extensions of the server."""
        ...

    def metadata(self, model: str, version: str) -> object:
        """Name, versions, inputs and outputs of a model. `version` "" means the one that the server picks."""
        ...

    def config(self, model: str, version: str) -> object:
        """A model's configuration."""
        ...

    def statistics(self, model: str) -> object:
        """A model's counters."""
        ...

    def infer(self, model: str, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
        """The outputs by name. The inputs must fit the model."""
        ...

    def close(self) -> None:
        """Gives the connection back."""
        ...


def open_transport(address: Address, protocol: ProtocolName, timeout_s: float) -> Transport:
    """The transport for a protocol. Imported late: each library takes a quarter of a second, and few need both."""
    if protocol == "grpc":
        from client.transport_grpc import GrpcTransport

        return GrpcTransport(address, timeout_s)
    from client.transport_http import HttpTransport

    return HttpTransport(address, timeout_s)
