"""What is inside an artifact: weights, zeros, arithmetic, and its operators as stored and as executed.

OpenVINO reads ONNX files and its own, so one walk over its graph serves both; TorchScript is described by its own.
A graph with recurrent layers, loops or branches is not counted at all: half a count misleads.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from builder.artifact import Artifact, Format
from builder.example_inputs import example_inputs
from builder.runtimes import openvino_settings
from builder.source import load_torch
from builder.spec import ModelSpec
from core.results import GraphFacts

# OpenVINO's operators that multiply by a constant: the port where it may come in, and the kernel's axes that hold one
# output value's share of it (the rest of the kernel belongs to other output channels).
CONVOLUTIONS: Final = {"Convolution": 1, "GroupConvolution": 2}  # [C_out, ...] and [groups, C_out / groups, ...]
TRANSPOSED: Final = {"ConvolutionBackpropData", "GroupConvolutionBackpropData"}
# What may lie between a stored weight and the operator that uses it.
PASSED: Final = {"Convert", "Multiply", "Subtract", "Reshape", "Transpose", "FakeQuantize"}
UNCOUNTED: Final = {
    "LSTMCell", "LSTMSequence", "GRUCell", "GRUSequence", "RNNCell", "RNNSequence", "TensorIterator", "Loop", "If",
}  # fmt: skip
RECURRENT: Final = {
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
    "lstm_cell",
    "gru_cell",
    "rnn_tanh_cell",
    "rnn_relu_cell",
    "prim::Loop",
    "prim::If",
}  # of TorchScript
MULTIPLIED: Final = {
    "_convolution", "conv1d", "conv2d", "conv3d", "linear", "matmul", "mm", "bmm", "addmm", "t", "transpose", "permute",
}  # fmt: skip  # of TorchScript
NO_LAYERS: Final = {"Const", "Input", "Output", "Parameter", "Constant", "Result"}


def graph_facts(artifact: Artifact, threads: int) -> GraphFacts:
    """Describes an artifact; it is loaded for that, as it will be on the server."""
    return _DESCRIBE[artifact.format](artifact, threads)


def parameter_count(spec: ModelSpec) -> int | None:
    """All trainable numbers of the original network; None for an ONNX file or a frozen script, which do not tell them
    from constants."""
    if spec.checkpoint.onnx:
        return None
    return sum(value.numel() for value in load_torch(spec).parameters()) or None  # none: frozen into constants


class _Kernel(NamedTuple):
    """A constant that an operator multiplies by; `zero` is the stored number that means zero."""

    data: NDArray[Any]
    zero: NDArray[Any]

    @property
    def zeros(self) -> int:
        return int((self.data == self.zero).sum())


def _torchscript(artifact: Artifact, threads: int) -> GraphFacts:  # noqa: ARG001
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    stored = torch.jit.load(artifact.path, map_location="cpu")  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        stored(*example_inputs(artifact.spec, batch=1))
    nodes = list(stored.inlined_graph.nodes())
    kernels = [_Kernel(value.numpy(), np.zeros(())) for value in _multiplied(nodes)]
    names = Counter(node.kind().removeprefix("aten::") for node in nodes)
    counted = bool(kernels) and not RECURRENT & names.keys()
    return _facts(
        kernels if counted else None,
        counter.get_total_flops() if counted else None,
        {name: count for name, count in names.items() if not name.startswith("prim::")},
        {},
    )


def _multiplied(nodes: list[Any]) -> Iterator[Any]:
    """The weights in a frozen graph that something is multiplied by, or that are transposed for it."""
    for node in nodes:
        users = {use.user.kind().removeprefix("aten::") for output in node.outputs() for use in output.uses()}
        stored = node.kind() == "prim::Constant" and "value" in node.attributeNames() and node.kindOf("value") == "t"
        if stored and users & MULTIPLIED and node.t("value").dim() > 1:
            yield node.t("value")


def _onnx(artifact: Artifact, threads: int) -> GraphFacts:
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        fused = Path(folder, "fused.onnx")
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(fused)  # at the default level, all: what the server executes
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        onnxruntime.InferenceSession(artifact.path, options, providers=["CPUExecutionProvider"])
        stored, executed = (
            Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
            for path in (artifact.path, fused)
        )
    kernels, flops = _walk(artifact)
    return _facts(kernels, flops, stored, executed)


def _openvino(artifact: Artifact, threads: int) -> GraphFacts:
    import openvino

    core = openvino.Core()
    stored = Counter(op.get_type_name() for op in core.read_model(artifact.path).get_ops())
    compiled = core.compile_model(artifact.path, "CPU", openvino_settings(threads))
    layers = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    # The kernel's precision ("brgconv_avx512_I8"), not `runtimePrecision`, which is that of the weights as stored.
    said = [
        (str(layer["layerType"].value), str(layer["primitiveType"].value).rpartition("_")[2].lower())
        for layer in layers
    ]
    said = [(kind, precision) for kind, precision in said if kind not in NO_LAYERS]
    computing = Counter(
        precision for kind, precision in said if kind != "Reshape"
    )  # which only looks at its input anew
    kernels, flops = _walk(artifact)
    return _facts(kernels, flops, stored, Counter(kind for kind, _ in said), computing)


def _facts(
    kernels: list[_Kernel] | None,
    flops: int | None,
    operators: dict[str, int],
    executed: dict[str, int],
    precisions: dict[str, int] | None = None,
) -> GraphFacts:
    weights = None if kernels is None else sum(kernel.data.size for kernel in kernels)

    def ordered(counts: dict[str, int]) -> dict[str, int]:
        left = {name: count for name, count in counts.items() if name not in NO_LAYERS}
        return dict(sorted(left.items(), key=lambda item: (-item[1], item[0])))

    return GraphFacts(
        weights=weights,
        sparsity=sum(kernel.zeros for kernel in kernels) / weights if kernels and weights else None,
        flops=flops,
        operators=ordered(operators),
        executed=ordered(executed),
        executed_precisions=ordered(precisions or {}),
    )


def _walk(artifact: Artifact) -> tuple[list[_Kernel] | None, int | None]:
    """The kernels of a graph, each counted once however often it is used, and the arithmetic of one sample. Nothing for
    an ONNX graph that OpenVINO cannot read: the variant is none the worse for that."""
    import openvino

    spec = artifact.spec
    try:
        model = openvino.Core().read_model(artifact.path)
    except RuntimeError:
        return None, None
    sizes = {
        tensor.name: [1, *(dim if isinstance(dim, int) else spec.axes[dim].opt for dim in tensor.dims)]
        for tensor in spec.inputs
    }
    model.reshape(sizes)
    operators = model.get_ops()
    if any(op.get_type_name() in UNCOUNTED for op in operators):
        return None, None
    kernels = dict(pair for op in operators for pair in _constants(op))
    flops = [_flops(op) for op in operators]
    return list(kernels.values()), None if None in flops else sum(one for one in flops if one)


def _constants(op: Any) -> Iterator[tuple[str, _Kernel]]:
    kind = op.get_type_name()
    ports = (1,) if kind in CONVOLUTIONS or kind in TRANSPOSED else {"MatMul": (0, 1), "Gather": (0,)}.get(kind, ())
    for port in ports:
        node, zero = op.input_value(port).get_node(), np.zeros(())
        while node.get_type_name() in PASSED:
            if node.get_type_name() == "Subtract":
                zero = _constant(node.input_value(1))
            node = node.input_value(0).get_node()
        if node.get_type_name() == "Constant" and len(node.get_output_shape(0)) > 1:
            yield node.get_friendly_name(), _Kernel(_numbers(node), zero)


def _constant(value: Any) -> NDArray[Any]:
    """A zero point, `[]` or as the weights are split into channels; 0 if it is computed while running."""
    node = value.get_node()
    while node.get_type_name() in ("Convert", "Reshape"):
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or value.get_partial_shape().is_dynamic:
        return np.zeros(())
    zero: NDArray[Any] = _numbers(node).reshape(value.get_shape())
    return zero


def _numbers(node: Any) -> NDArray[Any]:
    """A constant's numbers; OpenVINO hands those of 4 bits over in pairs, the first in a byte's lower half."""
    data: NDArray[Any] = node.get_data()
    kind = node.get_element_type().get_type_name()
    if kind not in ("i4", "u4"):
        return data
    shape = tuple(node.get_output_shape(0))
    pairs = data.reshape(-1).view(np.uint8)
    single = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)[: int(np.prod(shape))].reshape(shape)
    signed: NDArray[Any] = (single.astype(np.int8) ^ 8) - 8
    return single if kind == "u4" else signed


def _flops(op: Any) -> int | None:
    """Two for each multiply-accumulate; None where a size stays unknown."""
    kind = op.get_type_name()
    if kind not in CONVOLUTIONS and kind not in TRANSPOSED and kind != "MatMul":
        return 0
    if any(shape.is_dynamic for shape in (op.get_output_partial_shape(0), op.get_input_partial_shape(0))):
        return None
    given, made = op.get_input_shape(0), op.get_output_shape(0)
    if kind == "MatMul":
        inner = given[-2] if op.get_attributes()["transpose_a"] and len(given) > 1 else given[-1]
        return int(2 * np.prod(made) * inner)
    kernel = op.get_input_shape(1)
    if kind in TRANSPOSED:  # each input value is spread over the kernel of its channel
        return int(2 * np.prod(given) * np.prod(kernel[2 if kind.startswith("Group") else 1 :]))
    return int(2 * np.prod(made) * np.prod(kernel[CONVOLUTIONS[kind] :]))


_DESCRIBE: Final[dict[Format, Callable[[Artifact, int], GraphFacts]]] = {
    "torchscript": _torchscript,
    "onnx": _onnx,
    "openvino": _openvino,
}
