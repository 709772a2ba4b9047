"""Small ONNX graphs as checkpoints, with the spec and the calibration samples that a step needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from builder.artifact import Artifact
from builder.runtimes import predictor
from builder.source import source_artifact
from builder.spec_file import load_spec
from builder.verify import sqnr_db
from core.tensors import Arrays

TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def graph_artifact(
    folder: Path,
    nodes: Sequence[NodeProto],
    constants: Arrays,
    calibration: Arrays,
    out_dims: str = "[3]",
    opset: int = 20,
) -> Artifact:
    """A graph from the arrays of `calibration` (its inputs, `[n, ...]`) to `y` `[n, *out_dims]`, as an artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    given = [
        helper.make_tensor_value_info(name, TYPES[str(value.dtype)], ["N", *value.shape[1:]])
        for name, value in calibration.items()
    ]
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", given, [made], initializers)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])
    model = onnx.shape_inference.infer_shapes(model)
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "calibration.npz", **calibration)  # type: ignore[arg-type]
    inputs = "".join(
        f"  - {{name: {name}, dtype: {value.dtype}, dims: {list(value.shape[1:])}}}\n"
        for name, value in calibration.items()
    )
    (folder / "model.yaml").write_text(
        f"name: small\ncheckpoint: {{onnx: model.onnx}}\ninputs:\n{inputs}"
        f"outputs:\n  - {{name: y, dtype: float32, dims: {out_dims}}}\n"
        "data: {calibration: calibration.npz, evaluation: calibration.npz}\nmetric: {name: top1, output: y}\n"
    )
    return source_artifact(load_spec(folder / "model.yaml"), folder / "cache")


def answers(artifact: Artifact, inputs: Arrays) -> NDArray[np.float64]:
    """What an artifact's runtime makes of the inputs in its first output."""
    found = predictor(artifact, 1)(inputs)
    return found[artifact.spec.outputs[0].name].astype(np.float64)


def noise_db(original: Artifact, other: Artifact, inputs: Arrays) -> float:
    """SQNR of the first output over all the inputs together, in dB."""
    return sqnr_db(answers(original, inputs), answers(other, inputs))
