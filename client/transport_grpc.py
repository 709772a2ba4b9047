"""gRPC: one channel, which all threads share, and tritonclient's messages."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Final, NoReturn

# Before gRPC is imported: without it, a forked child that uses gRPC hangs.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

import grpc as grpc
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from client.address import Endpoint
from client.calls import Answer, Ask, Attempt, Infer
from client.errors import AnswerError
from client.forking import gate, renew_after_fork
from client.settings import Settings
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

_LEFT_BEHIND: Final[list[grpc.Channel]] = []


class GrpcTransport:
    """See `client.transport.Transport`."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._compression = COMPRESSION[settings.compression]
        self._connect()
        renew_after_fork(self)

    def _connect(self) -> None:
        options = channel_options(self._settings.max_answer_bytes)
        address, tls = str(self._endpoint.address), self._settings.tls
        if self._endpoint.tls:
            if tls and tls.server_name:
                options.append(("grpc.ssl_target_name_override", tls.server_name))  # type: ignore[arg-type]
            self._channel = grpc.secure_channel(address, credentials(tls), options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._stub: Any = GRPCInferenceServiceStub(self._channel)

    def after_fork(self) -> None:
        """A channel of the child's own. The parent's is kept, since to free it here would hang."""
        _LEFT_BEHIND.append(self._channel)
        self._connect()

    def ask(self, ask: Ask, attempt: Attempt) -> object:
        """See `Transport.ask`."""
        method, message = message_of(ask)
        return answer_of(ask, self._send(method, message, attempt))

    def infer(self, call: Infer, attempt: Attempt) -> Answer:
        """See `Transport.infer`."""
        return decode(call, self._send("ModelInfer", encode(call, attempt.timeout_s), attempt))

    def stream(self, call: Infer, attempt: Attempt) -> Iterator[Answer]:
        """See `Transport.stream`."""
        calling = self._stub.ModelStreamInfer(
            iter([encode(call, attempt.timeout_s)]),
            timeout=attempt.timeout_s,
            metadata=attempt.headers or None,
            compression=self._compression,
        )
        cancelling = attempt.cancellation.calling(calling.cancel) if attempt.cancellation else contextlib.nullcontext()
        try:
            with cancelling:
                for message in calling:
                    if message.error_message:
                        raise stream_error(message.error_message)
                    yield decode(call, message.infer_response, partial=True)
        except grpc.RpcError as error:
            self._raise(error, attempt)
        finally:
            calling.cancel()

    def close(self) -> None:
        """See `Transport.close`."""
        self._channel.close()

    def _send(self, method: str, message: Any, attempt: Attempt) -> Any:
        send = getattr(self._stub, method)
        try:
            with gate:
                if attempt.cancellation is None:
                    return send(
                        message,
                        timeout=attempt.timeout_s,
                        metadata=attempt.headers or None,
                        compression=self._compression,
                    )
                future = send.future(
                    message, timeout=attempt.timeout_s, metadata=attempt.headers or None, compression=self._compression
                )
                with attempt.cancellation.calling(future.cancel):
                    return future.result()
        except grpc.FutureCancelledError:
            assert attempt.cancellation is not None
            attempt.cancellation.check()
            raise
        except grpc.RpcError as error:
            self._raise(error, attempt)
        except ValueError as error:  # the channel was closed
            raise AnswerError(f"the client is closed ({error}); open a new one") from error

    def _raise(self, error: grpc.RpcError, attempt: Attempt) -> NoReturn:
        raise error_of(error.code(), error.details() or "", self._endpoint, attempt.timeout_s) from error
