"""Kinds of failures, by the words of real ones."""

from __future__ import annotations

import pytest

from loadtest.reasons import count_kinds, kind_of


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ('HTTP 503: {"error":"[request id: <id_unknown>] Exceeds maximum queue size"}', "rejected"),
        ("gRPC UNAVAILABLE: [request id: <id_unknown>] Exceeds maximum queue size", "rejected"),
        ("gRPC UNAVAILABLE: Request timeout expired", "rejected"),
        ("gRPC UNAVAILABLE: failed to connect to all addresses", "connection"),
        ("gRPC DEADLINE_EXCEEDED: Deadline Exceeded", "timeout"),
        ("TimeoutError: timed out", "timeout"),
        ("ConnectionRefusedError: [Errno 111] Connection refused", "connection"),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", "connection"),
        ("HTTPConnectionClosed: connection closed.", "connection"),
        ("HTTP 400: unknown model", "refused"),
        ("gRPC INVALID_ARGUMENT: unexpected shape", "refused"),
        ('HTTP 500: {"error":"Stub process is not healthy"}', "server error"),
        ("gRPC INTERNAL: failed", "server error"),
        ("HTTP 200, but the output has 3 bytes instead of 4", "wrong answer"),
        ("gRPC OK, but the output has 3 bytes instead of 4", "wrong answer"),
        ("something new", "other"),
    ],
)
def test_a_failure_has_its_kind(failure: str, kind: str) -> None:
    assert kind_of(failure) == kind


def test_kinds_are_counted_the_most_frequent_first() -> None:
    failures = ["HTTP 503: full", "TimeoutError: timed out", "HTTP 503: also full"]
    assert list(count_kinds(failures).items()) == [("rejected", 2), ("timeout", 1)]
