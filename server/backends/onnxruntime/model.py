"""ONNX Runtime on the CPU: `model.onnx`. Parameters: `intra_op_thread_count`, `inter_op_thread_count`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from core.tensors import Arrays
from server.backends.base import PythonBackend
from server.backends.config import ModelConfig, check_names

# Else it writes to the home folder and reports to its maker over the network.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state


class TritonPythonModel(PythonBackend):
    """Triton looks for this name."""

    default_file = "model.onnx"
    # ONNX Runtime's errors have no common base but Exception.
    failures: ClassVar = (
        RuntimeError,
        *(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    )

    def load(self, path: Path, config: ModelConfig) -> None:
        """Makes the session. The graph is optimized here, for this machine's CPU; the file is kept portable."""
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = config.count("intra_op_thread_count") or 0
        options.inter_op_num_threads = config.count("inter_op_thread_count") or 0
        # Idle threads that spin take the cores from the other models' processes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        check_names("input", config.inputs, [value.name for value in self._session.get_inputs()])
        check_names("output", config.outputs, [value.name for value in self._session.get_outputs()])

    def run(self, inputs: Arrays) -> Arrays:
        """Runs one batch."""
        names = self.config.outputs
        return dict(zip(names, self._session.run(names, inputs), strict=True))
