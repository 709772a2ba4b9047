"""Inference against a Triton server, over HTTP or gRPC."""

from client.errors import DeadlineError, RefusedError, SignatureError, UnknownModelError, UnreachableError
from client.inference import InferenceClient
from client.metadata import ModelMetadata, TensorInfo
from core.errors import InferenceError

__all__ = [
    "InferenceClient",
    "ModelMetadata",
    "TensorInfo",
    "InferenceError",
    "DeadlineError",
    "RefusedError",
    "SignatureError",
    "UnknownModelError",
    "UnreachableError",
]
