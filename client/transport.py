"""The one seam between the client and the network. `client.fake.FakeServer` stands on it too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from client.address import Endpoint, ProtocolName
from client.calls import Answer, Ask, Attempt, Infer
from client.settings import Settings

__all__ = ["AsyncTransport", "ProtocolName", "Transport", "open_async_transport", "open_transport"]


class Transport(Protocol):
    """Speaks one protocol with one server: one call, one sending, no second try. All raise the errors of
    `client.errors`, never those of the library underneath. Safe for threads."""

    def ask(self, ask: Ask, attempt: Attempt) -> object:
        """The answer as decoded JSON; true or false to `live` and `ready`."""
        ...

    def infer(self, call: Infer, attempt: Attempt) -> Answer:
        """The answer to one request."""
        ...

    def stream(self, call: Infer, attempt: Attempt) -> Iterator[Answer]:
        """All answers to one request, as they come."""
        ...

    def close(self) -> None:
        """Gives the connections back."""
        ...


class AsyncTransport(Protocol):
    """The same for asyncio, in one event loop."""

    async def ask(self, ask: Ask, attempt: Attempt) -> object:
        """See `Transport.ask`."""
        ...

    async def infer(self, call: Infer, attempt: Attempt) -> Answer:
        """See `Transport.infer`."""
        ...

    def stream(self, call: Infer, attempt: Attempt) -> AsyncIterator[Answer]:
        """See `Transport.stream`."""
        ...

    async def close(self) -> None:
        """Gives the connections back."""
        ...


def open_transport(endpoint: Endpoint, settings: Settings) -> Transport:
    """The transport to an endpoint; connects when it is first used. Imported late: gRPC takes a fifth of a second."""
    if endpoint.protocol == "grpc":
        from client.transport_grpc import GrpcTransport

        return GrpcTransport(endpoint, settings)
    from client.transport_http import HttpTransport

    return HttpTransport(endpoint, settings)


def open_async_transport(endpoint: Endpoint, settings: Settings) -> AsyncTransport:
    """The same for asyncio."""
    if endpoint.protocol == "grpc":
        from client.transport_grpc_async import AsyncGrpcTransport

        return AsyncGrpcTransport(endpoint, settings)
    from client.transport_http_async import AsyncHttpTransport

    return AsyncHttpTransport(endpoint, settings)
