"""Kinds of failed requests, by the words with which the wires tell of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

UNSENT: Final = "not sent"
OTHER: Final = "other"

# What a failure's text begins with -> its kind; the first that matches counts.
KINDS: Final = (
    (r"HTTP 503|gRPC UNAVAILABLE: .*(queue|[Tt]imeout expired)|gRPC RESOURCE_EXHAUSTED", "rejected"),
    (r"TimeoutError|timed out|gRPC DEADLINE_EXCEEDED", "timeout"),
    (r"(HTTP 200|gRPC OK), but", "wrong answer"),
    (r"HTTP 4\d\d|gRPC (INVALID_ARGUMENT|NOT_FOUND|UNIMPLEMENTED|PERMISSION_DENIED|UNAUTHENTICATED)", "refused"),
    (r"HTTP 5\d\d|gRPC (INTERNAL|UNKNOWN|ABORTED|DATA_LOSS)", "server error"),
    (r"gRPC (UNAVAILABLE|CANCELLED)|HTTP\w+: |\w*(Error|Exception)\b", "connection"),
)  # fmt: skip


def kind_of(failure: str) -> str:
    """The kind of a failure, `other` if it has none."""
    return next((kind for pattern, kind in KINDS if re.match(pattern, failure)), OTHER)


def count_kinds(failures: Iterable[str]) -> dict[str, int]:
    """How many failures there are of each kind, the most frequent first."""
    seen = Counter(failures)
    kinds: Counter[str] = Counter()
    for failure, count in seen.items():
        kinds[kind_of(failure)] += count
    return dict(kinds.most_common())
