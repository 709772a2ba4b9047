"""The table of variants: an id, and the steps that lead there from the checkpoint. A new technique is one row here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from builder.artifact import Format
from builder.step import Step
from builder.steps.export_onnx import ExportOnnx
from builder.steps.quantize_openvino import QuantizeOpenVino
from builder.steps.to_openvino import ToOpenVino
from builder.steps.trace_torchscript import TraceTorchScript


@dataclass(frozen=True)
class Recipe:
    """`tolerance`: how far an answer may lie from another of the same variant (other batch, other machine), relative to
    the output's largest value: rounding in floating point; in INT8 now and then a step of the quantizer."""

    variant: str
    steps: tuple[Step, ...]
    tolerance: float

    def steps_from(self, source: Format) -> tuple[Step, ...] | None:
        """The steps still to do for a checkpoint of this format, or None if the recipe does not pass through it."""
        if self.steps[0].accepts == source:
            return self.steps
        reached = [index for index, step in enumerate(self.steps) if step.produces == source]
        return self.steps[reached[0] + 1 :] if reached else None


FP32, INT8 = 1e-3, 5e-2

RECIPES: Final = {
    recipe.variant: recipe
    for recipe in (
        Recipe("torch_fp32", (TraceTorchScript(),), FP32),
        Recipe("onnx_fp32", (ExportOnnx(),), FP32),
        Recipe("openvino_int8", (ExportOnnx(), ToOpenVino(), QuantizeOpenVino()), INT8),
    )
}
