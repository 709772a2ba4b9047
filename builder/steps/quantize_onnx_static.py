"""INT8 weights and activations with ranges found beforehand on calibration samples, as Q/DQ nodes in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from builder.artifact import Artifact, Format
from builder.calibration import CalibrationRows
from builder.errors import StepError
from builder.ranges import Method, find_ranges, float_tensors
from builder.step import Step
from builder.steps.quantize_onnx_weights import in_eight_bits

PRODUCTS: Final = ("Gemm", "MatMul")


@dataclass(frozen=True)
class QuantizeOnnxStatic(Step):
    """ONNX Runtime's static quantization on `samples` calibration samples, weights per channel, activations unsigned
    with a zero point of their own: what comes out of a ReLU, a GELU or a softmax lies on one side of zero, and a
    symmetric range would leave half of the steps unused.

    `method` says how ranges come from the samples: `builder.ranges.find_ranges` has the three. Whichever it is, memory
    does not grow with the samples. With `products_only`, only matrix products with constant weights are quantized, and
    their results stay in floating point: most of a transformer's time lies in them, and hardly any of the trouble. Its
    embeddings, half of a small one's size, are stored in 8 bits and looked up.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
    (arXiv:1712.05877). `reduce_range` keeps one bit of each weight unused: CPUs without VNNI add pairs of 8-bit
    products in 16 bits, which saturates silently at full range, and a repository built on one CPU is served on another.
    """

    samples: int = 300
    reduce_range: bool = True
    method: Method = "minmax"
    percentile: float = 99.99
    products_only: bool = False

    name: ClassVar[str] = "quantize_onnx_static"
    accepts: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    calibrates: ClassVar[bool] = True

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`. Raises StepError if the network has nothing to quantize."""
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

        model = onnx.shape_inference.infer_shapes(onnx.load(source.path))
        operators = list(PRODUCTS) if self.products_only else sorted({*QLinearOpsRegistry, *QDQRegistry})
        name_nodes(model)
        left = [*masking(model), *(unweighted(model) if self.products_only else ())]
        if not any(node.op_type in operators and node.name not in left for node in model.graph.node):
            wanted = "matrix product with constant weights" if self.products_only else "operator that can be quantized"
            raise StepError(f"{source.spec.name} has no {wanted}; leave this variant out of the spec")
        rows = CalibrationRows(source.spec, self.samples)
        found = find_ranges(source.path, float_tensors(model, operators), rows, self.method, self.percentile)
        ranges = {name: (np.float32(low), np.float32(high)) for name, (low, high) in found.items()}
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=self.reduce_range,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),  # its name for a pair of ends
            nodes_to_quantize=[],
            nodes_to_exclude=left,
            op_types_to_quantize=operators,
            extra_options={"OpTypesToExcludeOutputQuantization": list(PRODUCTS) if self.products_only else []},
        )
        quantizer.quantize_model()
        if self.products_only:
            in_eight_bits(quantizer.model.graph(), ["Gather"])
        quantizer.model.save_model_to_file(str(out_dir / "model.onnx"))  # sorts the nodes


def name_nodes(model: Any) -> None:
    """Gives every node of an onnx.ModelProto a name of its own, by which it can be pointed at; good names stay."""
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)


def masking(model: Any) -> list[str]:
    """The names of softmaxes and of what makes their inputs by adding or choosing. Attention masks are large negative
    numbers there (-1e4 to -3e38), and in 256 steps down to them nothing would be left of the scores."""
    makers = {output: node for node in model.graph.node for output in node.output}
    softmaxes = [node for node in model.graph.node if node.op_type == "Softmax"]
    before = [makers[node.input[0]] for node in softmaxes if node.input[0] in makers]
    return [node.name for node in (*softmaxes, *before) if node.op_type in ("Softmax", "Add", "Where", "Sub")]


def unweighted(model: Any) -> list[str]:
    """The names of matrix products of two activations, as in attention."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] not in constants]
