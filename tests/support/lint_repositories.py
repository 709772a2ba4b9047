"""Small model repositories that `trident lint` finds nothing in, and what makes each of them bad: one fault, or two,
for each rule. Used by the tests of lint, by those that show the real server's own words, and by the benchmark."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Make = Callable[[Path], object]

HEAD: Final = """# A comment that --fix must keep.
name: "m"
backend: "onnxruntime"  # and this one
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""
REST: Final = """instance_group [ { kind: KIND_CPU count: 1 } ]
dynamic_batching {
  max_queue_delay_microseconds: 100
  default_queue_policy { max_queue_size: 64 }
}
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
"""
WARMUP: Final = """model_warmup [ {
  name: "one"
  batch_size: 1
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } }
} ]
"""
ONNX_CONFIG: Final = HEAD + REST + WARMUP
OPENVINO_CONFIG: Final = ONNX_CONFIG.replace("onnxruntime", "openvino").replace(
    'parameters { key: "intra_op_thread_count" value { string_value: "1" } }',
    'parameters { key: "INFERENCE_NUM_THREADS" value { string_value: "1" } }\n'
    'parameters { key: "ENABLE_BATCH_PADDING" value { string_value: "YES" } }',
)
TORCH_CONFIG: Final = (
    ONNX_CONFIG.replace("onnxruntime", "pytorch")
    .replace("intra_op", "INTRA_OP")
    .replace("OP_thread_count", "OP_THREAD_COUNT")
)
PYTHON_CONFIG: Final = (
    HEAD.replace("onnxruntime", "python")
    + "instance_group [ { kind: KIND_CPU } ]\ndynamic_batching {\n"
    + ("  default_queue_policy { max_queue_size: 64 }\n}\n")
)
TENSORRT_CONFIG: Final = (
    HEAD.replace("onnxruntime", "tensorrt") + "instance_group [ { kind: KIND_GPU } ]\n"
    "dynamic_batching { preferred_batch_size: [ 4 ] default_queue_policy { max_queue_size: 64 } }\n" + WARMUP
)
ENSEMBLE_CONFIG: Final = """name: "e"
platform: "ensemble"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "answer" data_type: TYPE_FP32 dims: [ 3 ] } ]
ensemble_scheduling {
  step [ {
    model_name: "m"
    model_version: -1
    input_map { key: "x" value: "x" }
    output_map { key: "y" value: "answer" }
  } ]
}
"""
TWO_STEPS: Final = ENSEMBLE_CONFIG.replace(
    'output_map { key: "y" value: "answer" }\n  } ]',
    """output_map { key: "y" value: "between" }
  }, {
    model_name: "last"
    model_version: -1
    input_map { key: "x" value: "between" }
    output_map { key: "y" value: "answer" }
  } ]""",
)
BETWEEN: Final = 'output [ { name: "between" data_type: TYPE_FP32 dims: [ 3 ] }, {'
SIDE_BY_SIDE: Final = TWO_STEPS.replace("output [ {", BETWEEN).replace(
    'key: "x" value: "between"', 'key: "x" value: "x"'
)
QUEUE: Final = "  default_queue_policy { max_queue_size: 64 }\n"
PYTHON_SOURCE: Final = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


def onnx_bytes(
    batch: int | str = "n",
    ir_version: int = 8,
    opset: int = 17,
    operator: str = "Gemm",
    domain: str = "",
    external: str = "",
) -> bytes:
    """A linear layer `x [batch, 4] -> y [batch, 3]` in FP32, with a second node of another kind if one is named."""
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    if external:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=external)
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y" if operator == "Gemm" else "z"])]
    if operator == "DynamicQuantizeLinear":
        nodes += [
            helper.make_node(operator, ["z"], ["q", "scale", "zero"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ]
    elif operator != "Gemm":
        nodes.append(helper.make_node(operator, ["z"], ["y"], domain=domain))
    graph = helper.make_graph(
        nodes, "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [weight],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return bytes(helper.make_model(graph, ir_version=ir_version, opset_imports=opsets).SerializeToString())


@cache
def openvino_bytes(free: bool = False) -> tuple[bytes, bytes]:
    """The same layer as an IR, `model.xml` and `model.bin`; with a free last axis of the output if asked for."""
    import sys
    import tempfile

    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would report this over the network
    import openvino

    model = onnx.load_from_string(onnx_bytes())
    if free:
        model.graph.node[0].output[0] = "z"
        model.graph.node.append(helper.make_node("NonZero", ["z"], ["y"]))
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.INT64, [2, "found"]))
    converted = openvino.convert_model(io.BytesIO(model.SerializeToString()))
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(converted, Path(folder, "model.xml"), compress_to_fp16=False)
        return Path(folder, "model.xml").read_bytes(), Path(folder, "model.bin").read_bytes()


@cache
def torchscript_bytes() -> bytes:
    """The same layer as TorchScript."""
    import warnings

    import torch

    class Layer(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :3]

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(Layer(), torch.zeros(2, 4)), file)
    return file.getvalue()


def write(root: Path, config: str, files: dict[str, bytes], name: str = "m") -> Path:
    """A model with a version 1. Returns its folder."""
    folder = root / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    for file_name, data in files.items():
        (folder / "1" / file_name).write_bytes(data)
    return folder


def good_onnx(root: Path) -> Path:
    return write(root, ONNX_CONFIG, {"model.onnx": onnx_bytes()})


def good_openvino(root: Path) -> Path:
    xml, weights = openvino_bytes()
    return write(root, OPENVINO_CONFIG, {"model.xml": xml, "model.bin": weights})


def good_torch(root: Path) -> Path:
    return write(root, TORCH_CONFIG, {"model.pt": torchscript_bytes()})


def good_python(root: Path) -> Path:
    return write(root, PYTHON_CONFIG, {"model.py": PYTHON_SOURCE.encode()})


def good_tensorrt(root: Path) -> Path:
    return write(root, TENSORRT_CONFIG, {"model.plan": b"ftrt" + bytes(60)})


def good_labels(root: Path) -> Path:
    config = ONNX_CONFIG.replace("dims: [ 3 ]", 'dims: [ 3 ] label_filename: "labels.txt"')
    folder = write(root, config, {"model.onnx": onnx_bytes()})
    (folder / "labels.txt").write_text("a\nb\nc\n")
    return folder


def good_ensemble(root: Path) -> Path:
    good_onnx(root)
    return write(root, ENSEMBLE_CONFIG, {}, "e")


def good_steps(root: Path) -> Path:
    good_onnx(root)
    last = PYTHON_CONFIG.replace('"m"', '"last"').replace("dims: [ 4 ]", "dims: [ 3 ]")
    write(root, last, {"model.py": PYTHON_SOURCE.encode()}, "last")
    return write(root, TWO_STEPS, {}, "e")


def side_by_side(root: Path) -> Path:
    """Two steps that both read the ensemble's input."""
    good_onnx(root)
    write(root, PYTHON_CONFIG.replace('"m"', '"last"'), {"model.py": PYTHON_SOURCE.encode()}, "last")
    return write(root, SIDE_BY_SIDE, {}, "e")


def decoupled(root: Path) -> None:
    """A chain whose first model answers as often as it likes."""
    good_steps(root)
    path = root / "m" / "config.pbtxt"
    path.write_text(path.read_text() + "model_transaction_policy { decoupled: true }\n")


GOOD: Final[dict[str, Make]] = {
    "onnx": good_onnx, "openvino": good_openvino, "torch": good_torch, "python": good_python, "tensorrt": good_tensorrt,
    "labels": good_labels, "ensemble": good_ensemble, "steps": good_steps, "side by side": side_by_side,
}  # fmt: skip
