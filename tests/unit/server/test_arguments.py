"""The server's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.arguments import Launch, arguments

LAUNCH = Launch(
    Path("/r"), Path("/c"), Path("/b"), "127.0.0.1", 1, 2, 3, exit_timeout_s=8, control_key="k", shm_prefix="p_"
)


def test_the_wheels_server() -> None:
    words = arguments(LAUNCH, (2, 51))
    assert {"--model-repository=/r", "--model-repository=/c", "--backend-directory=/b"} <= set(words)
    assert "--exit-timeout-secs=8" in words
    assert {"--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1"} <= set(words)
    assert "--backend-config=python,shm-region-prefix-name=p_" in words
    assert not any("{" in word for word in words)


@pytest.mark.parametrize(("version", "expected"), [((2, 51), False), ((2, 58), False), ((2, 59), True), ((3, 0), True)])
def test_newer_servers_get_newer_arguments(version: tuple[int, int], expected: bool) -> None:
    assert any(word.startswith("--http-max-input-size=") for word in arguments(LAUNCH, version)) is expected


@pytest.mark.parametrize("flag", ["--http-restricted-api", "--grpc-restricted-protocol"])
def test_model_control_needs_the_key_over_both_protocols(flag: str) -> None:
    assert f"{flag}=model-repository,logging,trace:trident-control-key=k" in arguments(LAUNCH, (2, 51))
