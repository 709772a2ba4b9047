"""Activation outliers moved into the weights, so that both quantize well: SmoothQuant, for transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from builder.artifact import Artifact, Format
from builder.calibration import CalibrationRows
from builder.errors import StepError
from builder.ranges import channel_maxima
from builder.step import Step


@dataclass(frozen=True)
class SmoothOnnx(Step):
    """Divides each channel of a matrix product's activations by a factor and multiplies the weights' row by the same:
    the network computes what it did, and channels that are a hundred times larger than the others, which transformers
    have behind their normalizations, no longer decide the step of all. The factor of channel j is
    `max|X_j| ** alpha / max|W_j| ** (1 - alpha)`, over `samples` calibration samples; with `alpha` 0.5 the difficulty
    is shared evenly. Weights that have a scale for each output channel can take more of it than activations that have
    one for all, which speaks for a larger one.

    The division goes into the gamma and beta of a layer normalization where all that it feeds is smoothed; elsewhere it
    is one multiplication for all products that read the activation.

    Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models"
    (arXiv:2211.10438).
    """

    alpha: float = 0.5
    samples: int = 300

    name: ClassVar[str] = "smooth_onnx"
    accepts: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    calibrates: ClassVar[bool] = True

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`, still in FP32. Raises StepError if the network has no matrix product to smooth."""
        import onnx
        from onnx import numpy_helper

        model = onnx.load(source.path)
        weights = {
            tensor.name: tensor
            for tensor in model.graph.initializer
            if len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT
        }
        products: dict[str, list[Any]] = {}
        for node in model.graph.node:
            if _smoothable(node) and node.input[1] in weights and node.input[0] not in weights:
                products.setdefault(node.input[0], []).append(node)
        if not products:
            raise StepError(
                f"{source.spec.name} has no matrix product with constant weights to smooth; "
                f"leave this variant out of the spec"
            )
        maxima = channel_maxima(source.path, list(products), CalibrationRows(source.spec, self.samples))
        for activation, nodes in products.items():
            kernels = [_rows(node, numpy_helper.to_array(weights[node.input[1]])) for node in nodes]
            largest = np.max([np.abs(kernel).max(axis=1) for kernel in kernels], axis=0)
            factor = smoothing(maxima.get(activation, np.zeros_like(largest)), largest, self.alpha)
            for node, kernel in zip(nodes, kernels, strict=True):
                scaled = _rows(node, kernel * factor[:, None])
                node.input[1] = _constant(model.graph, f"{node.input[1]}/smooth/{activation}", scaled)
            if not _into_normalization(model.graph, activation, nodes, factor):
                _multiply(model.graph, activation, nodes, 1 / factor)
        _drop_unused(model.graph)
        onnx.save(model, out_dir / "model.onnx")


def smoothing(activations: NDArray[np.float32], weights: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """The factor of each channel, `[C]`, from the greatest magnitudes of its activations and weights, each `[C]`; 1
    where either is nothing but zero."""
    live = (activations > 0) & (weights > 0)
    ones = np.ones_like(activations)
    factor = np.where(live, activations, ones) ** alpha / np.where(live, weights, ones) ** (1 - alpha)
    smooth: NDArray[np.float32] = np.clip(factor, 1e-5, 1e5).astype(np.float32)
    return np.where(live, smooth, ones)


def _smoothable(node: Any) -> bool:
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not _flag(node, "transA"))


def _flag(node: Any, name: str) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), 0)


def _rows(node: Any, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """A product's weights with the input channels first, `[C_in, C_out]`, or back from there."""
    return np.ascontiguousarray(kernel.T) if node.op_type == "Gemm" and _flag(node, "transB") else kernel


def _constant(graph: Any, name: str, value: NDArray[np.float32]) -> str:
    """The name of a constant with this value; equal names are taken to mean equal values."""
    from onnx import numpy_helper

    if name not in {tensor.name for tensor in graph.initializer}:
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return name


def _into_normalization(graph: Any, activation: str, nodes: list[Any], factor: NDArray[np.float32]) -> bool:
    """Divides gamma and beta of the layer normalization that makes `activation`, if nothing else sees it."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers = [name for node in graph.node for name in node.input if name == activation]
    maker = next((node for node in graph.node if activation == node.output[0]), None)
    if maker is None or maker.op_type != "LayerNormalization" or activation in {out.name for out in graph.output}:
        return False
    if _subgraphs(graph) or len(readers) > len(nodes):
        return False
    scales = [name for name in maker.input[1:] if name]
    if any(name not in constants or list(constants[name].dims) != [len(factor)] for name in scales):
        return False
    for place, name in enumerate(maker.input[1:], start=1):
        if name:
            value = numpy_helper.to_array(constants[name]) / factor
            maker.input[place] = _constant(graph, f"{name}/smooth/{activation}", value)
    return True


def _multiply(graph: Any, activation: str, nodes: list[Any], factor: NDArray[np.float32]) -> None:
    """Lets the nodes read `activation * factor` instead."""
    from onnx import helper

    smooth = f"{activation}/smooth"
    inputs = [activation, _constant(graph, f"{smooth}/factor", factor)]
    readers = {node.output[0] for node in nodes}
    first = next(place for place, node in enumerate(graph.node) if node.output[0] in readers)
    for node in nodes:
        node.input[0] = smooth
    graph.node.insert(first, helper.make_node("Mul", inputs, [smooth], name=smooth))


def _drop_unused(graph: Any) -> None:
    """Removes the constants that nothing reads any more."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        if not _subgraphs(graph):
            graph.initializer.remove(tensor)


def _subgraphs(graph: Any) -> bool:
    """Whether an operator holds a graph of its own, which may read whatever is around it."""
    return any(attribute.HasField("g") for node in graph.node for attribute in node.attribute)
