"""OpenVINO on the CPU: `model.xml` and `model.bin`. Parameter: `INFERENCE_NUM_THREADS`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

from core.tensors import Arrays
from server.backends.base import PythonBackend
from server.backends.config import ModelConfig, check_names

# With this package each import writes to the home folder and reports to its maker over the network, from a forked
# process; where it cannot be imported, OpenVINO does without.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402


class TritonPythonModel(PythonBackend):
    """Triton looks for this name."""

    default_file = "model.xml"
    failures: ClassVar = (RuntimeError, TypeError)

    def load(self, path: Path, config: ModelConfig) -> None:
        """Compiles the model for one request at a time: Triton forms the batches and runs one instance a process."""
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            # Left alone, FP32 models are computed in bfloat16 where the CPU can, and answer otherwise than when built.
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # each process would pin its threads to the same first cores
        }
        threads = config.count("INFERENCE_NUM_THREADS")
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(path, "CPU", settings)
        check_names("input", config.inputs, [name for port in compiled.inputs for name in port.names])
        check_names("output", config.outputs, [name for port in compiled.outputs for name in port.names])
        self._request = compiled.create_infer_request()
        self._ports = {name: compiled.output(name) for name in config.outputs}

    def run(self, inputs: Arrays) -> Arrays:
        """Runs one batch. Without copies: inputs are read where they lie, outputs are views of the request's own."""
        results = self._request.infer(inputs, share_inputs=True, share_outputs=True)
        return {name: results[port] for name, port in self._ports.items()}
