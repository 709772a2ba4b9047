"""gRPC for asyncio: the same messages as `client.transport_grpc`, on gRPC's own asyncio channel."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from client.address import Endpoint
from client.calls import Answer, Ask, Attempt, Infer
from client.settings import Settings
from client.transport_grpc import grpc as grpc  # which prepares the environment for it
from client.wire_grpc import (
    COMPRESSION,
    answer_of,
    channel_options,
    credentials,
    decode,
    encode,
    error_of,
    message_of,
    stream_error,
)
from core.errors import InferenceError


class AsyncGrpcTransport:
    """See `client.transport.AsyncTransport`. The channel belongs to the event loop of the first request."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._compression = COMPRESSION[settings.compression]
        self._channel: Any = None
        self._stub: Any = None
        self._pid = 0

    async def ask(self, ask: Ask, attempt: Attempt) -> object:
        """See `AsyncTransport.ask`."""
        method, message = message_of(ask)
        return answer_of(ask, await self._send(method, message, attempt))

    async def infer(self, call: Infer, attempt: Attempt) -> Answer:
        """See `AsyncTransport.infer`."""
        return decode(call, await self._send("ModelInfer", encode(call, attempt.timeout_s), attempt))

    async def stream(self, call: Infer, attempt: Attempt) -> AsyncIterator[Answer]:
        """See `AsyncTransport.stream`."""
        calling = self._opened().ModelStreamInfer(
            iter([encode(call, attempt.timeout_s)]),
            timeout=attempt.timeout_s,
            metadata=attempt.headers or None,
            compression=self._compression,
        )
        try:
            async for message in calling:
                if message.error_message:
                    raise stream_error(message.error_message)
                yield decode(call, message.infer_response, partial=True)
        except grpc.RpcError as error:
            raise self._ours(error, attempt) from error
        finally:
            calling.cancel()

    async def close(self) -> None:
        """See `AsyncTransport.close`."""
        if self._channel is not None and self._pid == os.getpid():
            await self._channel.close()
        self._channel = None

    def _opened(self) -> Any:
        if self._channel is None or self._pid != os.getpid():
            options: list[tuple[str, Any]] = [*channel_options(self._settings.max_answer_bytes)]
            address, tls = str(self._endpoint.address), self._settings.tls
            if self._endpoint.tls:
                if tls and tls.server_name:
                    options.append(("grpc.ssl_target_name_override", tls.server_name))
                self._channel = grpc.aio.secure_channel(address, credentials(tls), options)
            else:
                self._channel = grpc.aio.insecure_channel(address, options)
            self._stub = GRPCInferenceServiceStub(self._channel)
            self._pid = os.getpid()
        return self._stub

    async def _send(self, method: str, message: Any, attempt: Attempt) -> Any:
        send = getattr(self._opened(), method)
        try:
            return await send(
                message, timeout=attempt.timeout_s, metadata=attempt.headers or None, compression=self._compression
            )
        except grpc.RpcError as error:
            raise self._ours(error, attempt) from error

    def _ours(self, error: Any, attempt: Attempt) -> InferenceError:
        return error_of(error.code(), error.details() or "", self._endpoint, attempt.timeout_s)
