"""PyTorch to ONNX, in one file, with the batch axis and the named axes dynamic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from builder.artifact import MAX_IR_VERSION, Artifact, Format
from builder.errors import StepError
from builder.source import load_torch
from builder.steps.trace_torchscript import example_inputs

if TYPE_CHECKING:
    from torch import nn

    from builder.spec import ModelSpec


@dataclass(frozen=True)
class ExportOnnx:
    """Exports through `torch.export`. Opset 20 is the oldest that the exporter does not have to convert down to."""

    opset: int = 20

    name: ClassVar[str] = "export_onnx"
    accepts: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript")
    calibrates: ClassVar[bool] = False

    def unavailable(self) -> str | None:
        """Always available where the builder is."""
        return None

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`. Raises StepError if the exporter gives up."""
        self.export(load_torch(source.spec, source.path), source.spec, out_dir)

    def export(self, network: nn.Module, spec: ModelSpec, out_dir: Path) -> None:
        """The same for a network in memory."""
        import onnx
        import torch

        try:
            program = torch.onnx.export(
                network,
                example_inputs(spec),
                input_names=[tensor.name for tensor in spec.inputs],
                output_names=[tensor.name for tensor in spec.outputs],
                dynamic_shapes=dynamic_shapes(spec),
                opset_version=self.opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise StepError(f"{spec.name}: PyTorch's ONNX exporter gave up: {str(error).splitlines()[0]}") from error
        assert program is not None  # what the dynamo exporter returns; None is the legacy one's
        model = program.model_proto
        model.ir_version = min(model.ir_version, MAX_IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        (out_dir / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def dynamic_shapes(spec: ModelSpec) -> tuple[dict[int, Any], ...]:
    """Which axes of each input `torch.export` is to keep dynamic: the batch and the named ones."""
    import torch

    dynamic = torch.export.Dim.DYNAMIC
    return tuple(
        {0: dynamic} | {axis + 1: dynamic for axis, dim in enumerate(tensor.dims) if isinstance(dim, str)}
        for tensor in spec.inputs
    )
