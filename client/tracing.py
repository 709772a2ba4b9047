"""W3C trace context (https://www.w3.org/TR/trace-context/): each attempt is a span of its own below the caller's."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from core.errors import InputError

TRACEPARENT: Final = "traceparent"
_CURRENT: ContextVar[str | None] = ContextVar(TRACEPARENT, default=None)
_FORM: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@contextmanager
def trace(traceparent: str) -> Generator[None]:
    """Requests inside belong to this trace, a header such as `00-<32 hex digits>-<16 hex digits>-01` that came with the
    request being served. Raises InputError if it is none."""
    if not _FORM.fullmatch(traceparent):
        raise InputError(f"{traceparent!r} is no traceparent; it must be 00-<trace id>-<span id>-<flags> in hex")
    token = _CURRENT.set(traceparent)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_traceparent() -> str | None:
    """The trace set by `trace`, else OpenTelemetry's current span where the program uses that, else none."""
    if (set_here := _CURRENT.get()) or "opentelemetry.trace" not in sys.modules:
        return set_here
    context = sys.modules["opentelemetry.trace"].get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def child_of(traceparent: str) -> str:
    """The same trace with a new span id."""
    return f"{traceparent[:36]}{secrets.token_hex(8)}{traceparent[52:]}"


def trace_id_of(traceparent: str | None) -> str:
    """Its 32 hex digits; empty without a trace."""
    return traceparent[3:35] if traceparent else ""
