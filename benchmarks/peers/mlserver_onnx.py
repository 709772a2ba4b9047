"""MLServer before ONNX Runtime, over the Open Inference Protocol: `python mlserver_onnx.py MODEL.onnx HTTP GRPC WORKERS
BATCH FOLDER`, which writes its settings into FOLDER.

As its own pages advise: adaptive batching on ("Adaptive Batching": `max_batch_size`, `max_batch_time`), a pool of
`parallel_workers` ("Parallel Inference") or, with 0, the model in the server's own process, gRPC with raw contents.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Onnx(MLModel):
    """One model."""

    async def load(self) -> bool:
        """Loads it, with the worker's share of the cores."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """A batch, joined by MLServer."""
        [asked] = payload.inputs
        x = NumpyCodec.decode_input(asked).astype(np.float32, copy=False)
        [logits] = self.session.run(None, {asked.name: x})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("logits", logits)])


if __name__ == "__main__":
    model, http, grpc, workers, batch, folder = sys.argv[1:]
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, int(workers)))
    here = Path(__file__).parent
    os.environ |= {"PEER_MODEL": model, "PEER_THREADS": str(threads), "PYTHONPATH": str(here)}
    settings = {
        "host": "127.0.0.1", "http_port": int(http), "grpc_port": int(grpc), "parallel_workers": int(workers),
        "metrics_endpoint": None, "debug": False, "use_structured_logging": False,
    }  # fmt: skip
    batching = {"max_batch_size": int(batch), "max_batch_time": 0.001} if int(batch) > 1 else {}
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "settings.json").write_text(json.dumps(settings))
    described = {"name": "model", "implementation": "mlserver_onnx.Onnx", **batching}
    Path(folder, "model-settings.json").write_text(json.dumps(described))
    command = str(Path(sys.executable).with_name("mlserver"))
    os.execv(command, [command, "start", folder])
