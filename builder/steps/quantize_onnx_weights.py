"""Weights in 8 or 4 bits, activations in floating point: a small file that needs no calibration."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from builder.artifact import Artifact, Format
from builder.errors import StepError
from builder.step import Step

# Operator -> where its weights come in, and their axis of output channels ("B" of a Gemm depends on `transB`).
WEIGHTS: Final = {"MatMul": (1, -1), "Gemm": (1, 1), "Conv": (1, 0), "ConvTranspose": (1, 1), "Gather": (0, 0)}
FEWEST: Final = 64  # numbers that a constant must hold: below, a scale and a node cost more than they spare


@dataclass(frozen=True)
class QuantizeOnnxWeights(Step):
    """Rounds the weights of matrix products, convolutions and embeddings to signed 8-bit numbers around zero, with a
    scale for each output channel (for each row of an embedding), and leaves activations alone: outliers among these do
    no harm, and no samples are needed. The operators are ONNX's own: a `DequantizeLinear` behind each constant; behind
    an embedding's lookup, so that only the rows asked for are widened.

    With `bits` 4, matrix products get 4-bit weights instead, asymmetric, with a scale and a zero point for each `block`
    numbers of a column, and the rest 8 as above. They become `MatMulNBits`, an operator of ONNX Runtime's own domain
    `com.microsoft`: it widens blocks in the cache while it multiplies. The file then runs in ONNX Runtime (Triton's
    backend included) and where else its operators are known, as in OpenVINO.

    The arithmetic stays that of FP32, so this gains size and memory traffic: worthwhile where reading the weights is
    what takes the time, as in decoders that make one token at a time. Dettmers & Zettlemoyer, "The case for 4-bit
    precision: k-bit Inference Scaling Laws" (arXiv:2212.09720); blocks: Dettmers et al., "8-bit Optimizers via
    Block-wise Quantization" (arXiv:2110.02861).
    """

    bits: Literal[4, 8] = 8
    block: int = 32

    name: ClassVar[str] = "quantize_onnx_weights"
    accepts: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`. Raises StepError if the network has no such weights."""
        import onnx

        model = onnx.load(source.path)
        done = _in_four_bits(model, self.block) if self.bits == 4 else 0
        if self.bits == 4 and not done:
            raise StepError(
                f"{source.spec.name} has no matrix product with constant weights to store in 4 bits; "
                f"leave this variant out of the spec"
            )
        if not in_eight_bits(model.graph) and not done:
            raise StepError(
                f"{source.spec.name} has no matrix product, convolution or embedding with constant weights; "
                f"leave this variant out of the spec"
            )
        onnx.checker.check_model(model)
        onnx.save(model, out_dir / "model.onnx")


def in_eight_bits(graph: Any, operators: Collection[str] = WEIGHTS) -> int:
    """Rounds what WEIGHTS says of the `operators` in an onnx.GraphProto, and gives how many constants that were."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    axes: dict[str, int] = {}
    for node in graph.node:
        port, axis = WEIGHTS.get(node.op_type, (0, 0))
        if node.op_type in operators and not node.domain and _is_weight(constants.get(node.input[port])):
            axis = 0 if node.op_type == "Gemm" and _attribute(node, "transB") else axis
            axes.setdefault(node.input[port], axis)
    nested = any(attribute.HasField("g") for node in graph.node for attribute in node.attribute)  # may read anything
    for name, axis in axes.items():
        weights = numpy_helper.to_array(constants[name])
        rows_only = not nested and all(_is_lookup(node, name) for node in graph.node if name in node.input)
        graph.initializer.remove(constants[name])
        _as_rows(graph, name, weights) if rows_only else _dequantized(graph, name, weights, axis % weights.ndim)
    return len(axes)


def _is_weight(tensor: Any) -> bool:
    from onnx import TensorProto

    if tensor is None or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
        return False
    return int(np.prod(tensor.dims)) >= FEWEST


def _attribute(node: Any, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


def _is_lookup(node: Any, name: str) -> bool:
    return node.op_type == "Gather" and node.input[0] == name and not _attribute(node, "axis")


def round_symmetric(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights as -127 to 127 and the scale of each channel along `axis`, `[C]`: `weights` is about their product."""
    others = tuple(one for one in range(weights.ndim) if one != axis)
    scale = np.abs(weights).max(axis=others, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.round(weights / scale).astype(np.int8), scale.reshape(-1).astype(np.float32)


def _dequantized(graph: Any, name: str, weights: NDArray[np.float32], axis: int) -> None:
    """A node that makes the tensor `name` from 8-bit numbers, in place of the constant of that name."""
    from onnx import helper, numpy_helper

    rounded, scale = round_symmetric(weights, axis)
    parts = (rounded, scale, np.zeros(len(scale), np.int8))
    inputs = [f"{name}/int8", f"{name}/scale", f"{name}/zero"]
    graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in zip(inputs, parts, strict=True))
    graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], f"{name}/dequantize", axis=axis))


def _as_rows(graph: Any, name: str, weights: NDArray[np.float32]) -> None:
    """Looks 8-bit rows `[V, ...]` up, and their scales `[V]` beside, wherever rows of the constant `name` were."""
    from onnx import TensorProto, helper, numpy_helper

    rounded, scale = round_symmetric(weights, 0)
    behind = np.arange(-1, -weights.ndim, -1)  # the axes of a row, for its scale to lie over
    parts = {f"{name}/int8": rounded, f"{name}/scale": scale, f"{name}/behind": behind}
    graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in parts.items())
    for place in [place for place, node in enumerate(graph.node) if name in node.input][::-1]:
        ids, out = graph.node[place].input[1], graph.node[place].output[0]
        del graph.node[place]
        nodes = (
            helper.make_node("Gather", [f"{name}/int8", ids], [f"{out}/int8"], f"{out}/rows"),
            helper.make_node("Gather", [f"{name}/scale", ids], [f"{out}/scales"], f"{out}/scales"),
            helper.make_node("Unsqueeze", [f"{out}/scales", f"{name}/behind"], [f"{out}/scale"], f"{out}/unsqueeze"),
            helper.make_node("Cast", [f"{out}/int8"], [f"{out}/whole"], f"{out}/cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{out}/whole", f"{out}/scale"], [out], f"{out}/dequantize"),
        )
        for node in nodes[::-1]:
            graph.node.insert(place, node)


def _in_four_bits(model: Any, block: int) -> int:
    """Makes `MatMulNBits` of the matrix products with constant weights, and gives how many there are."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    _gemms_to_matmuls(model.graph)
    quantizer = MatMulNBitsQuantizer(model, block_size=block, is_symmetric=False)
    quantizer.process()
    model.CopyFrom(quantizer.model.model)
    return sum(node.op_type == "MatMulNBits" for node in model.graph.node)


def _gemms_to_matmuls(graph: Any) -> None:
    """Splits `alpha * A @ B + C`, where alpha and beta are 1 and B is constant, into the product and the sum."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for place in [place for place, node in enumerate(graph.node) if node.op_type == "Gemm"][::-1]:
        node = graph.node[place]
        factors = [attribute.f for attribute in node.attribute if attribute.name in ("alpha", "beta")]
        if node.input[1] not in constants or _attribute(node, "transA") or any(factor != 1 for factor in factors):
            continue
        kernel, biased = node.input[1], len(node.input) > 2
        if _attribute(node, "transB"):
            kernel = f"{kernel}/transposed"
            if kernel not in constants:
                turned = np.ascontiguousarray(numpy_helper.to_array(constants[node.input[1]]).T)
                graph.initializer.append(numpy_helper.from_array(turned, kernel))
                constants[kernel] = graph.initializer[-1]
        out = node.output[0]
        product = helper.make_node("MatMul", [node.input[0], kernel], [f"{out}/product" if biased else out], out)
        total = helper.make_node("Add", [f"{out}/product", node.input[2]], [out], f"{out}/add") if biased else None
        del graph.node[place]
        for one in (total, product):
            if one is not None:
                graph.node.insert(place, one)
    used = {name for node in graph.node for name in node.input}
    for name in [name for name in constants if name.endswith("/transposed")]:
        if (before := name.removesuffix("/transposed")) not in used and before in constants:
            graph.initializer.remove(constants[before])
