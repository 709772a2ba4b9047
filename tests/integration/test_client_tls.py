"""Encryption and tokens: certificates made for each test, and TLS in front of the real Triton."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from client import (
    AsyncInferenceClient,
    AuthorizationError,
    InferenceClient,
    InferenceError,
    Retry,
    Settings,
    Tls,
    TlsError,
    UnreachableError,
)
from client.transport import ProtocolName
from core.errors import InputError
from core.tensors import Arrays
from server.supervisor import Server
from tests.integration.loadtest_fixtures import IMAGES, logits_of
from tests.support.stubs import tls_in_front_of

YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
ONCE = Settings(retry=Retry(attempts=1, attempts_unmet=1), observers=())
Ask = Callable[[str, Settings], Arrays]


def by_thread(url: str, settings: Settings) -> Arrays:
    """One request by the client for threads."""
    with InferenceClient(url, timeout_s=5, settings=settings) as client:
        return client.infer("digits", IMAGES[:2])


def by_asyncio(url: str, settings: Settings) -> Arrays:
    """One request by the client for asyncio."""

    async def main() -> Arrays:
        async with AsyncInferenceClient(url, timeout_s=5, settings=settings) as client:
            return await client.infer("digits", IMAGES[:2])

    return asyncio.run(main())


@pytest.fixture(params=[by_thread, by_asyncio])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Each test runs with both."""
    found: Ask = request.param
    return found


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> ProtocolName:
    """And once a protocol."""
    return "grpc" if request.param == "grpc" else "http"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the certificates."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """Its own certificate."""
    authority.cert_pem.write_to_path(str(path := tmp_path / "ca.pem"))
    return path


@contextmanager
def encrypted(
    talking: Server, protocol: ProtocolName, certificate: trustme.LeafCert, clients: trustme.CA | None = None
) -> Iterator[str]:
    """The address of the server behind TLS, which wants the clients' certificates signed by `clients`, if given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.set_alpn_protocols(["h2"] if protocol == "grpc" else ["http/1.1"])
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    target = talking.grpc_url if protocol == "grpc" else talking.http_url
    with tls_in_front_of(target, context) as address:
        yield f"{protocol}s://{address}"


def settings(**tls: object) -> Settings:
    """One attempt, with this TLS."""
    return Settings(retry=ONCE.retry, observers=(), tls=Tls(**tls))  # type: ignore[arg-type]


def test_a_trusted_server_is_spoken_to(
    talking: Server, protocol: ProtocolName, authority: trustme.CA, ca_file: Path, ask: Ask
) -> None:
    with encrypted(talking, protocol, authority.issue_cert("127.0.0.1")) as url:
        answer = ask(url, settings(ca_file=ca_file))
    np.testing.assert_array_equal(answer["logits"], logits_of(IMAGES[:2]))


def test_a_server_by_another_name_if_that_is_told(
    talking: Server, protocol: ProtocolName, authority: trustme.CA, ca_file: Path, ask: Ask
) -> None:
    with encrypted(talking, protocol, authority.issue_cert("triton.example")) as url:
        answer = ask(url, settings(ca_file=ca_file, server_name="triton.example"))
        np.testing.assert_array_equal(answer["logits"], logits_of(IMAGES[:2]))
        with pytest.raises(TlsError, match=f"{url.partition('://')[2]}.*see Settings.tls"):
            ask(url, settings(ca_file=ca_file))


@pytest.mark.parametrize("wrong", ["stranger", "expired", "system"])
def test_a_server_that_is_not_to_be_trusted_gets_nothing(
    talking: Server, protocol: ProtocolName, authority: trustme.CA, ca_file: Path, ask: Ask, wrong: str
) -> None:
    good = authority.issue_cert("127.0.0.1")
    expired = authority.issue_cert("127.0.0.1", not_before=YESTERDAY - datetime.timedelta(days=1), not_after=YESTERDAY)
    stranger = trustme.CA().issue_cert("127.0.0.1")
    certificate = {"stranger": stranger, "expired": expired, "system": good}[wrong]
    with (
        encrypted(talking, protocol, certificate) as url,
        pytest.raises(TlsError, match=r"certificate|handshake"),
    ):
        ask(url, settings(**({} if wrong == "system" else {"ca_file": ca_file})))


def test_a_client_shows_its_own_certificate_where_one_is_wanted(
    talking: Server, protocol: ProtocolName, authority: trustme.CA, ca_file: Path, ask: Ask, tmp_path: Path
) -> None:
    own = authority.issue_cert("me@example.org")
    own.private_key_pem.write_to_path(str(key := tmp_path / "key.pem"))
    own.cert_chain_pems[0].write_to_path(str(certificate := tmp_path / "certificate.pem"))
    with encrypted(talking, protocol, authority.issue_cert("127.0.0.1"), clients=authority) as url:
        answer = ask(url, settings(ca_file=ca_file, certificate_file=certificate, key_file=key))
        np.testing.assert_array_equal(answer["logits"], logits_of(IMAGES[:2]))
        with pytest.raises(UnreachableError):
            ask(url, settings(ca_file=ca_file))


def test_plain_text_where_tls_is_spoken_and_the_reverse(
    talking: Server, protocol: ProtocolName, authority: trustme.CA, ca_file: Path, ask: Ask
) -> None:
    with encrypted(talking, protocol, authority.issue_cert("127.0.0.1")) as url, pytest.raises(InferenceError):
        ask(url.replace("s://", "://"), ONCE)
    plain = talking.grpc_url if protocol == "grpc" else talking.http_url
    with pytest.raises(UnreachableError, match=r"no encrypted connection to|no server answers at"):
        ask(f"{protocol}s://{plain}", settings(ca_file=ca_file))


def test_files_that_cannot_be_are_refused_before_anything_is_sent(ca_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; Tls needs it as a PEM file"):
        Tls(ca_file=tmp_path / "no.pem")
    with pytest.raises(InputError, match="give both or neither"):
        Tls(certificate_file=ca_file)
    (tmp_path / "junk.pem").write_text("junk")
    for protocol in ("https", "grpcs"):
        with (
            pytest.raises(TlsError, match=r"Settings\.tls"),
            InferenceClient(
                f"{protocol}://127.0.0.1:1", timeout_s=5, settings=settings(ca_file=tmp_path / "junk.pem")
            ) as client,
        ):
            client.metadata("digits")
    with pytest.raises(InferenceError, match=r"is not encrypted, but Settings\.tls is given; write https://"):
        InferenceClient("http://127.0.0.1:1", settings=settings())


class Guarded(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated, without types
    """Takes the token `good` only."""

    def ServerMetadata(self, request: object, context: grpc.ServicerContext) -> object:  # noqa: ARG002, N802
        if dict(context.invocation_metadata()).get("authorization") != "Bearer good":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "token expired")
        return pb.ServerMetadataResponse(version="7")


def test_tokens_over_grpc() -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Guarded(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    url = f"grpc://127.0.0.1:{port}"
    with InferenceClient(url, settings=Settings(token="good")) as client:
        assert client.server_version() == "7"
    with (
        InferenceClient(url, settings=Settings(token=lambda: "old")) as client,
        pytest.raises(AuthorizationError, match=r"^token expired \(gRPC UNAUTHENTICATED\); give a valid one"),
    ):
        client.server_version()
    server.stop(None).wait()
