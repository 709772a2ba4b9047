"""INT8 where the network can bear it: static Q/DQ quantization, the layers that INT8 hurts most left in float."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from builder.artifact import Artifact, Format
from builder.doctor import Parts, Plan, split_calibration, treat
from builder.ranges import find_ranges, float_tensors
from builder.step import Step

if TYPE_CHECKING:
    import onnx

MULTIPLY: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What reads a convolution's result directly. ONNX Runtime computes a convolution in integers only if its result is
# quantized again, so these take part, though they gain little themselves.
FOLLOW: Final = ("Add", "Mul", "Concat", "Sigmoid", "LeakyRelu", "GlobalAveragePool", "ReduceMean")
# What may lie between: ONNX Runtime fuses it into the quantization, or moves the quantization across.
PASSED: Final = {"Relu", "Clip", "MaxPool", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}


@dataclass(frozen=True)
class QuantizeOnnxMixed(Step):
    """As `QuantizeOnnxStatic` (arXiv:1712.05877), in mixed precision found by the doctor (`builder/doctor.py`).

    A *layer* is one operator with its weights and the activations that it reads; only what INT8 layers read is
    quantized, so that a layer in float sees floats, also where an INT8 neighbour reads the same activation. Ranges are
    found, and weights quantized, once; each trial only leaves out the Q/DQ pairs of some layers.
    """

    plan: Plan = field(default_factory=Plan)
    reduce_range: bool = True

    name: ClassVar[str] = "quantize_onnx_mixed"
    accepts: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    calibrates: ClassVar[bool] = True
    judges: ClassVar[bool] = True

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx` and `layers.json`. Raises StepError as `treat` does."""
        import onnx

        parts = split_calibration(source.spec, self.plan)
        original = _prepared(onnx.load(source.path))
        layers = _layers(original)
        quantized = _quantized(original, layers, parts, self.reduce_range) if layers else None

        def write(floats: AbstractSet[str], folder: Path) -> None:
            model = _only(quantized, original, layers.keys() - floats)
            (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))

        treat(source, out_dir, self.plan, parts, layers, write)


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each node with a name of its own, and no output of the graph read inside it: ONNX Runtime's quantizer would
    quantize the output too."""
    import onnx

    graph, taken = model.graph, set[str]()
    made, read = ({name for node in graph.node for name in getattr(node, side)} for side in ("output", "input"))
    outputs = {output.name for output in graph.output} & made & read
    for node in graph.node:
        node.name = node.name if node.name and node.name not in taken else f"{node.op_type}_{node.output[0]}"
        taken.add(node.name)
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name in outputs:
                    names[place] = f"{name}_inside"
    graph.node.extend(onnx.helper.make_node("Identity", [f"{name}_inside"], [name]) for name in sorted(outputs))
    return model


def _layers(model: onnx.ModelProto) -> dict[str, str]:
    """The operators that INT8 applies to, name -> type, in the graph's order."""
    graph, found = model.graph, dict[str, str]()
    constants = {tensor.name for tensor in graph.initializer}
    convolved = set[str]()  # tensors that come from a convolution with nothing between that ends its chain
    for node in graph.node:
        # A parameter beside the data (the axes of a mean) is no activation; a constant summand or factor is left alone.
        data = node.input if node.op_type in ("Add", "Mul", "Concat") else node.input[:1]
        follows = not convolved.isdisjoint(data)
        if node.op_type in MULTIPLY:  # a kernel that is computed while running has no place in ONNX Runtime's INT8
            taken = node.op_type == "MatMul" or node.input[1] in constants
        else:
            taken = node.op_type in FOLLOW and follows and constants.isdisjoint(data)
        if taken:
            found[node.name] = node.op_type
        if node.op_type in ("Conv", "ConvTranspose") or (follows and (taken or node.op_type in PASSED)):
            convolved.update(node.output)
    return found


def _ranges(model: onnx.ModelProto, parts: Parts, kinds: list[str]) -> Any:
    """The smallest and largest value of each activation around these kinds of operators (TensorsData)."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import TensorsData

    inferred = onnx.shape_inference.infer_shapes(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "original.onnx")
        onnx.save(model, path)
        found = find_ranges(path, float_tensors(inferred, kinds), parts.rows)
    ranges = {name: (np.float32(low), np.float32(high)) for name, (low, high) in found.items()}
    return TensorsData(CalibrationMethod.MinMax, ranges)


def _quantized(original: onnx.ModelProto, layers: dict[str, str], parts: Parts, reduce_range: bool) -> onnx.ModelProto:
    """The network with all layers in INT8: Q/DQ pairs before what they read, none behind."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    kinds = sorted(set(layers.values()))
    ranges = _ranges(original, parts, kinds)
    model = onnx.ModelProto()
    model.CopyFrom(original)
    quantizer = QDQQuantizer(
        model, True, reduce_range, QuantType.QInt8, QuantType.QUInt8, ranges, list(layers), [], kinds,
        {"OpTypesToExcludeOutputQuantization": kinds},
    )  # fmt: skip
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    found: onnx.ModelProto = quantizer.model.model
    # A dequantized bias gets the name that the bias had, which a layer in float still needs for its own.
    names = {tensor.name: f"{tensor.name}_dequantized" for tensor in original.graph.initializer}
    names = {name: names[name] for node in found.graph.node for name in node.output if name in names}
    for node in found.graph.node:
        for side in (node.input, node.output):
            for place, name in enumerate(side):
                side[place] = names.get(name, name)
    return found


def _only(quantized: onnx.ModelProto | None, original: onnx.ModelProto, int8: AbstractSet[str]) -> onnx.ModelProto:
    """A copy of `quantized` in which all but these layers read what they read in `original`; Q/DQ nodes and constants
    that nobody reads any more are gone."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(quantized)
    graph, inputs = model.graph, {node.name: list(node.input) for node in original.graph.node if node.name not in int8}
    for node in graph.node:
        if node.name in inputs:
            del node.input[:]
            node.input.extend(inputs[node.name])
    for kind in ("DequantizeLinear", "QuantizeLinear"):
        used = set(_used(graph))
        kept = [node for node in graph.node if node.op_type != kind or node.output[0] in used]
        graph.ClearField("node")
        graph.node.extend(kept)
    used = set(_used(graph))
    constants = {one.name: one for one in (*original.graph.initializer, *graph.initializer) if one.name in used}
    kept_constants = list(constants.values())
    graph.ClearField("initializer")
    graph.initializer.extend(kept_constants)
    return model


def _used(graph: onnx.GraphProto) -> Iterator[str]:
    """Every tensor that is read: by nodes, in inner graphs too, and as output."""
    yield from (output.name for output in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _used(inner)
