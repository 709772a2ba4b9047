"""Inference by name for asyncio: `client.inference` with `await`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from client.address import ProtocolName, parse_endpoints
from client.calls import Ask
from client.counters import ModelStatistics, ServedVersion
from client.dialogue import Dialogue
from client.drive_async import AsyncDriver
from client.metadata import ModelMetadata
from client.sequence import SequenceState
from client.settings import DEFAULTS, Options, Settings
from client.transport import AsyncTransport, open_async_transport
from core.errors import InputError
from core.tensors import Arrays


class AsyncInferenceClient:
    """A client of one server, or of several that serve the same models, to be closed or used in a `with` statement.

    `url`: `host:port`, or with `http://`, `https://`, `grpc://` or `grpcs://` before it; or a list of them; without it,
    Triton's usual port on this machine. Nothing is
    sent before it must be. All requests must come from one event loop.

    A request has `timeout_s` for everything: connecting, waiting, trying again, the answer. What a model takes is asked
    once and remembered, until the server refuses a request. `transports`, one for each address, stand
    in for the network: see `client.fake`.
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        protocol: ProtocolName | None = None,
        timeout_s: float = 30.0,
        settings: Settings | None = None,
        transports: Sequence[AsyncTransport] = (),
    ) -> None:
        settings = settings or Settings()
        self._dialogue = Dialogue(parse_endpoints(url, protocol, settings.tls is not None), settings, timeout_s)
        if transports and len(transports) != len(self._dialogue.servers):
            raise InputError(f"{len(transports)} transports for {len(self._dialogue.servers)} addresses; give as many")
        servers = () if transports else self._dialogue.servers
        self._transports = [*transports, *(open_async_transport(server.endpoint, settings) for server in servers)]
        self._driver = AsyncDriver(self._transports, settings.clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives the connections back. The client cannot be used afterwards."""
        await self._driver.run(self._dialogue.close())
        for transport in self._transports:
            await transport.close()

    async def is_live(self) -> bool:
        """Whether a server is there. False, and no error, if not."""
        return await self._driver.run(self._dialogue.healthy(Ask("live"), DEFAULTS))

    async def is_ready(self, model: str | None = None) -> bool:
        """Whether a server (all of its models, unless it was told otherwise) or one model takes requests. False, and
        no error, if there is no server."""
        return await self._driver.run(self._dialogue.healthy(Ask("ready", model or ""), DEFAULTS))

    async def server_version(self) -> str:
        """The server's version, such as `2.51.0`."""
        return (await self._driver.run(self._dialogue.server(DEFAULTS))).version

    async def metadata(self, model: str, version: str = "") -> ModelMetadata:
        """What a model takes and gives. Raises UnknownModelError if the server does not have it, or cannot load it."""
        return await self._driver.run(self._dialogue.metadata(model, Options(version=version)))

    async def statistics(self, model: str) -> ModelStatistics:
        """The server's counters of a model, all versions together."""
        return await self._driver.run(self._dialogue.statistics(model, DEFAULTS))

    async def served(self) -> tuple[ServedVersion, ...]:
        """Every version of every model that a server has loaded, with its counters."""
        return await self._driver.run(self._dialogue.served(DEFAULTS))

    async def infer(
        self,
        model: str,
        inputs: Arrays | NDArray[np.generic],
        outputs: tuple[str, ...] | None = None,
        options: Options = DEFAULTS,
    ) -> Arrays:
        """The outputs by name (all, or those wanted), as read-only arrays.

        `inputs` are arrays by name, or the one array of a model with one input: `[N, ...]`. More than the model's
        `max_batch` are sent as several requests at the same time. Where the model has buckets, a request is padded to
        the next one, and its answer cut back. Raises SignatureError before anything is sent if they do not fit, else an
        error of `client.errors`.
        """
        return await self._driver.run(self._dialogue.infer(model, inputs, outputs, options))

    async def stream(
        self,
        model: str,
        inputs: Arrays | NDArray[np.generic],
        outputs: tuple[str, ...] | None = None,
        options: Options = DEFAULTS,
    ) -> AsyncIterator[Arrays]:
        """The answers of a model that gives any number of them, as they come. Over gRPC only; not tried again."""
        opening = self._dialogue.open_stream(model, inputs, outputs, options)
        server, call, attempt = await self._driver.run(opening)
        async for answer in self._transports[server].stream(call, attempt):
            yield answer.outputs

    def sequence(self, model: str, options: Options = DEFAULTS) -> AsyncInferenceSequence:
        """A sequence of requests to a model that keeps state between them."""
        return AsyncInferenceSequence(self._driver, SequenceState(self._dialogue, model, options))


class AsyncInferenceSequence:
    """Requests that belong together, all to the same server, none sent twice. Made by `InferenceClient.sequence`; one
    thread at a time. The model forgets a sequence at its last request, or when it has been idle for long."""

    def __init__(self, driver: AsyncDriver, state: SequenceState) -> None:
        self._driver = driver
        self._state = state

    async def infer(
        self, inputs: Arrays | NDArray[np.generic], outputs: tuple[str, ...] | None = None, last: bool = False
    ) -> Arrays:
        """The next request; `last` ends the sequence. Raises SequenceError if an earlier one failed."""
        return await self._driver.run(self._state.infer(inputs, outputs, last))
