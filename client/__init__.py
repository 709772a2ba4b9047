"""Inference against Triton, or any server of the Open Inference Protocol, over HTTP or gRPC."""

from client.cancellation import Cancellation
from client.counters import ModelStatistics, ServedVersion
from client.errors import (
    AbandonedError,
    AnswerError,
    AnswerTooLargeError,
    AuthorizationError,
    CircuitOpenError,
    DeadlineError,
    OverloadedError,
    RefusedError,
    SequenceError,
    SignatureError,
    TlsError,
    UnknownModelError,
    UnreachableError,
    UnsupportedError,
    WrongProtocolError,
)
from client.inference import InferenceClient, InferenceSequence
from client.inference_async import AsyncInferenceClient, AsyncInferenceSequence
from client.metadata import ModelMetadata, TensorInfo
from client.settings import Breaker, Clock, Hedge, Options, Retry, Settings, Tls
from client.tracing import trace
from core.errors import InferenceError

__all__ = [
    "InferenceClient",
    "AsyncInferenceClient",
    "InferenceSequence",
    "AsyncInferenceSequence",
    "Options",
    "Settings",
    "Breaker",
    "Clock",
    "Hedge",
    "Retry",
    "Tls",
    "Cancellation",
    "trace",
    "ModelMetadata",
    "ModelStatistics",
    "ServedVersion",
    "TensorInfo",
    "InferenceError",
    "AbandonedError",
    "AnswerError",
    "AnswerTooLargeError",
    "AuthorizationError",
    "CircuitOpenError",
    "DeadlineError",
    "OverloadedError",
    "RefusedError",
    "SequenceError",
    "SignatureError",
    "TlsError",
    "UnknownModelError",
    "UnreachableError",
    "UnsupportedError",
    "WrongProtocolError",
]
