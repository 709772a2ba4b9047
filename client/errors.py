"""What can go wrong with a request.

InferenceError (core)
 +-- SignatureError      the arrays do not fit the model; nothing was sent
 +-- UnknownModelError   the server does not serve that model or version
 +-- UnreachableError    nobody answers at that address, or the connection broke
 +-- DeadlineError       no answer in time
 +-- RefusedError        the server answered with an error
"""

from __future__ import annotations

from core.errors import InferenceError


class SignatureError(InferenceError):
    """Names, data types or shapes are not those that the model takes. The request was not sent."""


class UnknownModelError(InferenceError):
    """The server does not serve that model, or not that version of it."""


class UnreachableError(InferenceError):
    """There is no server at the address, or the connection to it broke."""


class DeadlineError(InferenceError):
    """The server did not answer within the time allowed. It may still be working on the request."""


class RefusedError(InferenceError):
    """The server took the request and answered with an error: its queue is full, the model failed, ..."""
