"""An ONNX model for an older runtime: a lower opset by onnx's own version converter, a lower IR version where nothing
in the model needs the higher one; and the proof that it still computes the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, version_converter

from builder.errors import StepError
from core.files import write_atomically

# Data types by the IR version that brought them (onnx.proto's history).
TYPE_SINCE: Final = {
    9: ("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"),
    10: ("UINT4", "INT4"),
    11: ("FLOAT4E2M1",),
    12: ("FLOAT8E8M0",),
    13: ("UINT2", "INT2"),
}
TOLERANCE: Final = 1e-5  # of the largest value of an output: other kernels for the same operators may round otherwise
BATCHES: Final = (1, 3)


@dataclass(frozen=True)
class Proof:
    """The largest difference between the original's answers and the lowered model's, over the largest value, and on how
    many samples."""

    relative_error: float
    samples: int


def lower_onnx(source: Path, target: Path, ir_version: int, opset: int, seed: int = 0) -> Proof:
    """Writes `source` to `target` in one file, at this IR version and, unless it is 0, this opset. Raises StepError if
    it cannot be lowered, or does not compute the same; then nothing is written."""
    try:
        model = onnx.load(source)
        lowered = version_converter.convert_version(model, opset) if opset else onnx.load(source)
    except (RuntimeError, ValueError, OSError) as error:
        raise StepError(
            f"{source} cannot be lowered to opset {opset}: {_first_line(error)}; export it at that opset"
        ) from error
    needed = _needed_ir(lowered)
    if needed > ir_version:
        raise StepError(f"{source} holds a data type of IR version {needed}, and cannot be lowered to {ir_version}")
    lowered.ir_version = ir_version
    try:
        onnx.checker.check_model(lowered)
        data = lowered.SerializeToString()
    except (onnx.checker.ValidationError, ValueError) as error:
        raise StepError(f"{source}, lowered, is not valid: {_first_line(error)}; export it at that opset") from error
    proof = prove(source, data, seed)
    if proof.relative_error > TOLERANCE:
        raise StepError(
            f"{source}, lowered, answers otherwise (by {proof.relative_error:.2g}); export it at that opset"
        )
    write_atomically(target, data)
    return proof


def prove(source: Path, lowered: bytes, seed: int) -> Proof:
    """Runs both on the same random inputs, at a batch of one and of three where it is free. Raises StepError."""
    try:
        sessions = [
            onnxruntime.InferenceSession(what, providers=["CPUExecutionProvider"]) for what in (str(source), lowered)
        ]
        generator, worst, samples = np.random.default_rng(seed), 0.0, 0
        for batch in BATCHES:
            inputs = {port.name: _random(port, batch, generator) for port in sessions[0].get_inputs()}
            old, new = (session.run(None, inputs) for session in sessions)
            worst = max([worst, *(_difference(a, b) for a, b in zip(old, new, strict=True))])
            samples += batch
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise StepError(f"{source} cannot be run to prove it: {_first_line(error)}") from error
    return Proof(worst, samples)


def _random(port: Any, batch: int, generator: np.random.Generator) -> Any:
    shape = [
        size if isinstance(size, int) and size > 0 else (batch if axis == 0 else 4)
        for axis, size in enumerate(port.shape)
    ]
    name = port.type.removeprefix("tensor(").rstrip(")")
    if name == "string":
        return np.full(shape, "text", dtype=object)
    dtype = np.dtype({"float": "float32", "double": "float64"}.get(name, name))
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)  # 0 and 1 are valid tokens, indices and truths


def _difference(old: Any, new: Any) -> float:
    if old.dtype.kind not in "fiub" or old.size == 0:
        return 0.0 if old.shape == new.shape and bool((old == new).all()) else float("inf")
    if old.shape != new.shape:
        return float("inf")
    a, b = old.astype(np.float64), new.astype(np.float64)
    scale = max(float(np.abs(a).max()), 1e-12)
    return float(np.abs(a - b).max()) / scale


def _needed_ir(model: onnx.ModelProto) -> int:
    """The least IR version that has all data types of a model, by its text: they stand in tensors, attributes and
    types."""
    held = {tensor.data_type for tensor in model.graph.initializer}
    held |= {
        value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output, *model.graph.value_info)
    }
    held |= {
        attribute.t.data_type for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")
    }
    held |= {attribute.i for node in model.graph.node if node.op_type == "Cast" for attribute in node.attribute}
    names = {TensorProto.DataType.Name(number) for number in held if number in TensorProto.DataType.values()}
    return max((since for since, types in TYPE_SINCE.items() if names & set(types)), default=3)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
