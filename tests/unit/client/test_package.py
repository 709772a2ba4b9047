"""What importing the client costs, and what it brings along."""

from __future__ import annotations

import subprocess
import sys
import time

import client

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "tritonclient", "gevent", "grpc", "PIL", "locust")
LIMIT_S = 2.0  # half a second and an interpreter's start, with room for a busy machine


def test_importing_the_client_is_quick_and_light() -> None:
    code = f"import sys, client, client.inputs, client.outputs; print([m for m in {HEAVY} if m in sys.modules])"
    start_s = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    took_s = time.monotonic() - start_s
    assert result.stdout.strip() == "[]"
    assert took_s < LIMIT_S


def test_every_public_name_is_there() -> None:
    assert all(hasattr(client, name) for name in client.__all__)


def test_all_errors_of_the_client_are_inference_errors_with_exit_code_7() -> None:
    errors = [value for name in client.__all__ if isinstance(value := getattr(client, name), type) and "Error" in name]
    assert len(errors) == 16
    assert all(issubclass(error, client.InferenceError) and error.exit_code == 7 for error in errors)
