"""HTTP for asyncio, on aiohttp's pool of connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import NoReturn, cast

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from client.address import Endpoint
from client.calls import Answer, Ask, Attempt, Call, Infer
from client.errors import AnswerError, DeadlineError, TlsError, UnreachableError, WrongProtocolError
from client.settings import Settings
from client.tls import tls_context
from client.transport_http import no_stream, not_http, raise_ours
from client.wire_http import HttpRequest, HttpResponse, decode, encode, too_large


class AsyncHttpTransport:
    """See `client.transport.AsyncTransport`. The connections belong to the event loop of the first request."""

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._tls = tls_context(settings.tls) if endpoint.tls else None
        self._server_name = settings.tls.server_name or None if settings.tls else None
        self._session: aiohttp.ClientSession | None = None
        self._pid = 0

    async def ask(self, ask: Ask, attempt: Attempt) -> object:
        """See `AsyncTransport.ask`."""
        return await self._send(ask, attempt)

    async def infer(self, call: Infer, attempt: Attempt) -> Answer:
        """See `AsyncTransport.infer`."""
        return cast(Answer, await self._send(call, attempt))

    def stream(self, call: Infer, attempt: Attempt) -> AsyncIterator[Answer]:  # noqa: ARG002
        """Not over HTTP, where Triton streams texts only."""
        raise no_stream(call)

    async def close(self) -> None:
        """See `AsyncTransport.close`."""
        if self._session is not None and self._pid == os.getpid():
            await self._session.close()
        self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._pid != os.getpid():
            connector = aiohttp.TCPConnector(limit=self._settings.connections, ssl=self._tls or False)
            timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
            self._pid = os.getpid()
        return self._session

    async def _send(self, call: Call, attempt: Attempt) -> object:
        request = encode(call, attempt.timeout_s, self._settings.compression)
        request.headers.update(attempt.headers)
        try:
            async with asyncio.timeout(attempt.timeout_s):
                response = await self._exchange(request)
        except (OSError, aiohttp.ClientError, http_exceptions.HttpProcessingError) as error:
            self._raise(error, attempt.timeout_s)
        return decode(call, response, self._settings.max_answer_bytes)

    async def _exchange(self, request: HttpRequest) -> HttpResponse:
        scheme = "https" if self._endpoint.tls else "http"
        url = URL(f"{scheme}://{self._endpoint.address}{request.path}", encoded=True)
        most = self._settings.max_answer_bytes
        async with self._opened().request(
            request.method,
            url,
            data=request.body or None,
            headers=request.headers,
            server_hostname=self._server_name,
            allow_redirects=False,
        ) as response:
            if (response.content_length or 0) > most:
                response.close()
                raise too_large(response.content_length or 0, most)
            parts, size = [], 0
            async for part in response.content.iter_any():
                parts.append(part)
                if (size := size + len(part)) > most:
                    response.close()
                    raise too_large(size, most)
            headers = {name.lower(): value for name, value in response.headers.items()}
            return HttpResponse(response.status, headers, b"".join(parts))

    def _raise(self, error: Exception, timeout_s: float) -> NoReturn:
        """Turns aiohttp's own errors into ours; what it hands through from below goes the way of the sync transport."""
        address = self._endpoint.address
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            raise_ours(error.certificate_error, self._endpoint, timeout_s, False)
        if isinstance(error, aiohttp.ClientConnectorSSLError):
            raise_ours(error.os_error, self._endpoint, timeout_s, False)
        if isinstance(error, aiohttp.ClientConnectorError):
            raise_ours(error.os_error, self._endpoint, timeout_s, False)
        if isinstance(error, TimeoutError):
            raise DeadlineError(f"the server at {address} did not answer within {timeout_s:g} s") from error
        if isinstance(error, aiohttp.ClientPayloadError):
            raise UnreachableError(f"the answer of {address} broke off: {error}", sent=True) from error
        if isinstance(error, aiohttp.ClientResponseError):
            if "\\x00\\x00" in error.message or "\x00\x00" in error.message:
                raise WrongProtocolError(not_http(self._endpoint)) from error
            raise AnswerError(f"the answer of {address} cannot be read: {error.message}") from error
        if "ssl" in type(error).__name__.lower():
            raise TlsError(f"no encrypted connection to {address}: {error}; see Settings.tls") from error
        hint = "is it running, and is this its HTTP port?"
        raise UnreachableError(f"no server answers at {address} ({error}); {hint}", sent=True) from error
