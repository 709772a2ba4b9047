"""What importing the client costs, and what it brings along."""

from __future__ import annotations

import subprocess
import sys

import client

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "tritonclient", "gevent", "grpc", "PIL", "locust")
LIMIT_S = 0.5  # of CPU time, which a busy machine stretches least
CODE = f"""
import sys, time
began_s = time.process_time()
import client
print(time.process_time() - began_s)
import client.inputs, client.outputs
print([name for name in {HEAVY} if name in sys.modules])
"""


def test_importing_the_client_is_quick_and_light() -> None:
    took_s = []
    for _ in range(3):
        result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60)
        seconds, heavy = result.stdout.splitlines()
        assert heavy == "[]"
        took_s.append(float(seconds))
    assert min(took_s) < LIMIT_S


def test_every_public_name_is_there() -> None:
    assert all(hasattr(client, name) for name in client.__all__)


def test_all_errors_of_the_client_are_inference_errors_with_exit_code_7() -> None:
    errors = [value for name in client.__all__ if isinstance(value := getattr(client, name), type) and "Error" in name]
    assert len(errors) == 16
    assert all(issubclass(error, client.InferenceError) and error.exit_code == 7 for error in errors)
