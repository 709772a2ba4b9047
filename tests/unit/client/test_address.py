"""Where a server is, as users write it."""

from __future__ import annotations

import pytest

from client.address import Address, parse_address
from core.errors import InferenceError


@pytest.mark.parametrize(
    ("url", "protocol", "address"),
    [
        ("127.0.0.1:8000", "http", Address("127.0.0.1", 8000)),
        ("http://localhost:8000/", "http", Address("localhost", 8000)),
        ("grpc://triton.internal:8001", "grpc", Address("triton.internal", 8001)),
        ("[::1]:8000", "http", Address("::1", 8000)),
    ],
)
def test_an_address_is_read_with_and_without_scheme(url: str, protocol: str, address: Address) -> None:
    assert parse_address(url, protocol) == address


@pytest.mark.parametrize(
    "url",
    ["", "localhost", "localhost:", "https://localhost:1", "http://localhost", "a:0", "a:65536", "a:1/v2", "a b:1"],
)
def test_anything_else_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(InferenceError, match=r"write it as http://127\.0\.0\.1:8000"):
        parse_address(url, "http")


def test_a_scheme_of_the_other_protocol_is_refused() -> None:
    with pytest.raises(InferenceError, match="write it as grpc://"):
        parse_address("http://127.0.0.1:8001", "grpc")


@pytest.mark.parametrize("text", ["127.0.0.1:8000", "[::1]:8000"])
def test_an_address_prints_as_it_was_written(text: str) -> None:
    assert str(parse_address(text, "http")) == text
