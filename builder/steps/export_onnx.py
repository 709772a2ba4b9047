"""PyTorch to ONNX, in one file, with the batch axis and the named axes dynamic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from builder.artifact import MAX_IR_VERSION, Artifact, Format
from builder.errors import StepError
from builder.source import load_torch
from builder.steps.trace_torchscript import example_inputs


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
        import onnx
        import torch

        spec = source.spec
        dynamic = torch.export.Dim.DYNAMIC
        shapes = tuple(
            {0: dynamic} | {axis + 1: dynamic for axis, dim in enumerate(tensor.dims) if isinstance(dim, str)}
            for tensor in spec.inputs
        )
        try:
            program = torch.onnx.export(
                load_torch(spec, source.path),
                example_inputs(spec),
                input_names=[tensor.name for tensor in spec.inputs],
                output_names=[tensor.name for tensor in spec.outputs],
                dynamic_shapes=shapes,
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
