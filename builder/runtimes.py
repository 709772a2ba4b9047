"""One way to run an artifact, whatever its format: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from builder.artifact import Artifact, Format
from builder.errors import CheckpointError
from builder.source import load_torch
from core.tensors import Arrays

Predictor = Callable[[Arrays], Arrays]
"""Inputs `[N, ...]` by name to outputs `[N, ...]` by name."""


def predictor(artifact: Artifact, threads: int) -> Predictor:
    """Loads the artifact into its runtime with so many threads. Its tensors have the spec's names."""
    return _LOADERS[artifact.format](artifact, threads)


def _torch(artifact: Artifact, threads: int) -> Predictor:
    return _torch_module(load_torch(artifact.spec, artifact.path), artifact, threads)


def _torchscript(artifact: Artifact, threads: int) -> Predictor:
    import torch

    return _torch_module(torch.jit.load(artifact.path, map_location="cpu"), artifact, threads)  # type: ignore[no-untyped-call]


def _torch_module(module: Any, artifact: Artifact, threads: int) -> Predictor:
    import torch

    torch.set_num_threads(threads)
    names = [tensor.name for tensor in artifact.spec.inputs]
    outputs = [tensor.name for tensor in artifact.spec.outputs]

    def predict(inputs: Arrays) -> Arrays:
        if torch.get_num_threads() != threads:  # one number for the whole process: another predictor may have set it
            torch.set_num_threads(threads)
        with torch.inference_mode():
            # Copies: some networks write into what they are given, and the caller's arrays are used again.
            result = module(*(torch.from_numpy(inputs[name].copy()) for name in names))
        values = (
            result.values() if isinstance(result, dict) else result if isinstance(result, tuple | list) else [result]
        )
        if len(values) != len(outputs):
            raise CheckpointError(
                f"the network gives {len(values)} outputs, and the spec has {', '.join(outputs)}; write all of them"
            )
        # Copies here, too: others give the same memory out again and write their next answer there.
        return {name: np.array(value.numpy()) for name, value in zip(outputs, values, strict=True)}

    return predict


def _onnx(artifact: Artifact, threads: int) -> Predictor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would slow whatever runs next to them, here and on the server.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(artifact.path, options, providers=["CPUExecutionProvider"])
    outputs = [tensor.name for tensor in artifact.spec.outputs]
    return lambda inputs: dict(zip(outputs, session.run(outputs, inputs), strict=True))


def openvino_settings(threads: int) -> dict[str, Any]:
    """How a model is compiled for the CPU, here and in the same way on the server. The precision hint: left alone,
    OpenVINO computes an FP32 model in bfloat16 on every CPU that can, and it would not be one."""
    return {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


def _openvino(artifact: Artifact, threads: int) -> Predictor:
    import openvino

    compiled = openvino.Core().compile_model(artifact.path, "CPU", openvino_settings(threads))
    request = compiled.create_infer_request()
    ports = {tensor.name: compiled.output(tensor.name) for tensor in artifact.spec.outputs}

    def predict(inputs: Arrays) -> Arrays:
        results = request.infer(inputs, share_inputs=True)
        return {name: np.array(results[port]) for name, port in ports.items()}

    return predict


_LOADERS: Final[dict[Format, Callable[[Artifact, int], Predictor]]] = {
    "torch": _torch,
    "torchscript": _torchscript,
    "onnx": _onnx,
    "openvino": _openvino,
}
