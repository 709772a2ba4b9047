"""LitServe before ONNX Runtime: `python litserve_onnx.py MODEL.onnx PORT WORKERS BATCH`.

As its own pages advise: batching on, with `max_batch_size` and a short `batch_timeout` ("Batching"), several workers a
device where one leaves cores idle ("Workers"), `fast_queue` for many small requests, and an image as base64 inside of
JSON, which is how its examples send one (its requests are JSON or forms).
"""

from __future__ import annotations

import base64
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import litserve
import numpy as np
import onnxruntime

MODEL, PORT, WORKERS, BATCH = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


class Api(litserve.LitAPI):
    """One model."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # LitServe's own signature
        """Loads it, with the worker's share of the cores."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) // WORKERS)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        [self.taken] = self.session.get_inputs()

    def decode_request(self, request: dict[str, str]) -> np.ndarray:
        """base64 to the sample."""
        return np.frombuffer(base64.b64decode(request["image"]), np.float32).reshape(self.taken.shape[1:])

    def predict(self, x: np.ndarray) -> np.ndarray:
        """A batch, stacked by LitServe; a single sample where it forms none."""
        batch = x if x.ndim == len(self.taken.shape) else x[None]
        return self.session.run(None, {self.taken.name: batch})[0]

    def encode_response(self, output: np.ndarray) -> dict[str, str]:
        """One row to base64."""
        return {"logits": base64.b64encode(output.tobytes()).decode()}


if __name__ == "__main__":
    batching = {"max_batch_size": BATCH, "batch_timeout": 0.001} if BATCH > 1 else {}
    server = litserve.LitServer(
        Api(**batching), accelerator="cpu", workers_per_device=WORKERS, fast_queue=True, timeout=60
    )
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="error", access_log=False)
