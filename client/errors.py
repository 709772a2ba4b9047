"""What can go wrong with a request.

InferenceError (core)
 +-- SignatureError         the arrays do not fit the model; nothing was sent
 +-- UnknownModelError      the server does not serve that model or version
 +-- UnsupportedError       the server, or the protocol, cannot do that
 +-- SequenceError          a sequence broke off; it must be begun anew
 +-- UnreachableError       nobody answers at that address, or the connection broke
 |    +-- WrongProtocolError    something answers there, in another protocol
 |    +-- TlsError              no trust: a certificate is wrong, missing or expired
 |    +-- CircuitOpenError      not sent, since the last requests there failed
 +-- DeadlineError          no answer in time
 +-- AbandonedError         the caller cancelled the request
 +-- AnswerError            the answer cannot be read
 |    +-- AnswerTooLargeError   it is larger than this client takes
 +-- RefusedError           the server answered with an error
      +-- OverloadedError       it is too busy now, or not ready yet
      +-- AuthorizationError    it wants a token, or takes this one no more
"""

from __future__ import annotations

from core.errors import InferenceError


class SignatureError(InferenceError):
    """Names, data types or shapes are not those that the model takes. The request was not sent."""


class UnknownModelError(InferenceError):
    """The server does not serve that model, or not that version of it."""


class UnsupportedError(InferenceError):
    """The server does not know this part of the protocol, or the protocol does not have it."""


class SequenceError(InferenceError):
    """A request of a sequence failed, so that nobody knows what the model has seen. Begin a new sequence."""


class UnreachableError(InferenceError):
    """There is no server at the address, or the connection to it broke. `sent` is False if it surely never got the
    request."""

    def __init__(self, text: str, sent: bool = False) -> None:
        super().__init__(text)
        self.sent = sent


class WrongProtocolError(UnreachableError):
    """Something listens at the address, but does not speak this protocol: most likely it is the other one's port."""


class TlsError(UnreachableError):
    """No encrypted connection: one side does not trust the other's certificate, or one of them speaks plain text."""


class CircuitOpenError(UnreachableError):
    """The request was not sent: the last ones to this model there all failed, and `Breaker(wait=False)` says not to
    wait for better times."""


class DeadlineError(InferenceError):
    """The server did not answer within the time allowed. It may still be working on the request."""


class AbandonedError(InferenceError):
    """The caller cancelled the request. Over HTTP the server may still be working on it."""


class AnswerError(InferenceError):
    """What came back is no answer of the protocol: cut off, not JSON, or with bytes that do not fill its shapes."""


class AnswerTooLargeError(AnswerError):
    """The answer is larger than `Settings.max_answer_bytes`."""


class RefusedError(InferenceError):
    """The server took the request and answered with an error: the model failed, a parameter is wrong, ..."""


class OverloadedError(RefusedError):
    """The server is too busy or not ready (HTTP 429, 502, 503, 504; gRPC UNAVAILABLE). `retry_after_s` is what it asked
    to wait, 0 if nothing."""

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class AuthorizationError(RefusedError):
    """The server wants a token that was not given, does not take the one that was, or restricts this to others."""
