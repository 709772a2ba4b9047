"""What a client tells its observers, as values, and the observer that logs them.

The log's name is `trident.client`. Each record carries the event's fields as the attribute `trident`, for formatters
that write JSON.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

_LOG: Final = logging.getLogger("trident.client")
_LOG.addHandler(logging.NullHandler())  # silent, unless the program logs
OK: Final = "ok"


class Subject(NamedTuple):
    """Whom an event is about. `variant` is empty for a model that does not say."""

    model: str
    variant: str
    protocol: str


class AttemptEnded(NamedTuple):
    """One attempt is over. `outcome` is `ok` or the error's name, `reason` its text, `seconds` how long it took."""

    subject: Subject
    endpoint: str
    number: int
    outcome: str
    seconds: float
    reason: str = ""
    request_id: str = ""
    trace_id: str = ""


class RequestEnded(NamedTuple):
    """A request for inference is over, after all its attempts. `seconds` includes the waits."""

    subject: Subject
    outcome: str
    seconds: float
    reason: str = ""
    request_id: str = ""
    trace_id: str = ""


class BreakerChanged(NamedTuple):
    """The breaker of a model (empty: of questions about the server) is now `closed`, `open` or `half_open`."""

    endpoint: str
    model: str
    state: str


Event = AttemptEnded | RequestEnded | BreakerChanged


def describe(event: Event) -> str:
    """An event in words."""
    if isinstance(event, BreakerChanged):
        return f"breaker of {event.model or 'the server'} at {event.endpoint}: {event.state}"
    end = "" if event.outcome == OK else f": {event.reason}"
    if isinstance(event, RequestEnded):
        return f"{event.subject.model}: {event.outcome} after {event.seconds:.3f} s{end}"
    return f"{event.subject.model} at {event.endpoint}, attempt {event.number}: {event.outcome}{end}"


def log_event(event: Event) -> None:
    """Logs failures and breakers as warnings, all else, and what the caller gave up itself, for debugging."""
    fine = not isinstance(event, BreakerChanged) and event.outcome in (OK, "AbandonedError")
    level = logging.DEBUG if fine else logging.WARNING
    if _LOG.isEnabledFor(level):
        plain = event._asdict()
        if not isinstance(event, BreakerChanged):
            plain |= event.subject._asdict()
            del plain["subject"]
        _LOG.log(level, "%s", describe(event), extra={"trident": {"event": type(event).__name__, **plain}})
