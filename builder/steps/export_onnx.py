"""PyTorch to ONNX, in one file, with the batch axis and the named axes dynamic."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from builder.artifact import MAX_IR_VERSION, Artifact, Format
from builder.errors import StepError
from builder.example_inputs import example_inputs
from builder.onnx_names import rename_ends
from builder.source import load_torch
from builder.step import Step

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from builder.spec import ModelSpec
    from core.tensors import TensorSpec


@dataclass(frozen=True)
class ExportOnnx(Step):
    """Exports through `torch.export`. Opset 20 is the oldest that the exporter does not have to convert down to.

    A TorchScript file has no way there: it goes through PyTorch's older exporter, whose newest opset is 20 as well. So
    do recurrent layers of dynamic length, if they can: the newer one fails on the second such network in a process.
    """

    opset: int = 20

    name: ClassVar[str] = "export_onnx"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript")

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`. Raises StepError if the exporter gives up, naming the operator that is to blame."""
        self.export(load_torch(source.spec, source.path), source.spec, out_dir)

    def export(self, network: nn.Module, spec: ModelSpec, out_dir: Path) -> None:
        """The same for a network in memory."""
        import onnx
        import torch

        ways = [_export_older] if isinstance(network, torch.jit.ScriptModule) else [_export]
        if _recurrent(network):
            ways.insert(0, _export_older)
        model = _first_that_works(ways, network, spec, self.opset)
        rename_ends(model, [tensor.name for tensor in spec.inputs], [tensor.name for tensor in spec.outputs])
        model.ir_version = min(model.ir_version, MAX_IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        (out_dir / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def dynamic_shapes(spec: ModelSpec) -> tuple[dict[int, Any], ...]:
    """Which axes of each input `torch.export` is to keep dynamic: the batch and the named ones."""
    import torch

    return tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in _dynamic_axes(spec.inputs))


def _first_that_works(
    ways: Sequence[Callable[[nn.Module, ModelSpec, int], onnx.ModelProto]],
    network: nn.Module,
    spec: ModelSpec,
    opset: int,
) -> onnx.ModelProto:
    import torch

    for way in ways:
        try:
            with torch.no_grad():
                return way(network, spec, opset)
        except Exception as error:  # what tracing meets in the network comes through as it is
            if way is ways[-1]:
                raise StepError(f"{spec.name}: PyTorch's ONNX exporter gave up: {_reason(error)}") from error
            print(f"the older exporter gave up, the newer is tried: {_reason(error)}")
    raise AssertionError("no way was given")


def _export(network: nn.Module, spec: ModelSpec, opset: int) -> onnx.ModelProto:
    import torch

    program = torch.onnx.export(
        network,
        example_inputs(spec),
        input_names=_ends("input", spec.inputs),
        output_names=_ends("output", spec.outputs),
        dynamic_shapes=dynamic_shapes(spec),
        opset_version=opset,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None  # what the dynamo exporter returns; None is the older one's
    return program.model_proto


def _export_older(network: nn.Module, spec: ModelSpec, opset: int) -> onnx.ModelProto:
    import onnx
    import torch

    buffer, fast = io.BytesIO(), torch.backends.mha.get_fastpath_enabled()
    inputs, outputs = _ends("input", spec.inputs), _ends("output", spec.outputs)
    torch.backends.mha.set_fastpath_enabled(False)  # a fused operator that it does not know
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the older exporter itself; what it gets wrong, the proof finds
            torch.onnx.export(
                network,
                example_inputs(spec),
                buffer,  # type: ignore[arg-type]  # it takes files, too
                input_names=inputs,
                output_names=outputs,
                dynamic_axes=dict(zip(inputs + outputs, _dynamic_axes((*spec.inputs, *spec.outputs)), strict=True)),
                opset_version=opset,
                dynamo=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return onnx.load_model_from_string(buffer.getvalue())


def _ends(kind: str, tensors: tuple[TensorSpec, ...]) -> list[str]:
    """Names for the export alone, that nothing else has."""
    return [f"trident.{kind}.{number}" for number in range(len(tensors))]


def _dynamic_axes(tensors: tuple[TensorSpec, ...]) -> list[list[int]]:
    """The axes of each that vary, the batch axis first."""
    return [[0, *(at for at, dim in enumerate(tensor.dims, start=1) if isinstance(dim, str))] for tensor in tensors]


def _recurrent(network: nn.Module) -> bool:
    from torch.nn import RNNBase

    return any(isinstance(module, RNNBase) for module in network.modules())


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause, or the operator that has no ONNX."""
    while error.__cause__ is not None:
        error = error.__cause__
    if operator := re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error)):
        return f"the operator {operator[1]} has no counterpart in ONNX; replace it in the network"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
