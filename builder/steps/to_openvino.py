"""ONNX to OpenVINO's intermediate representation, its weights in full or in half precision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from builder.artifact import Artifact, Format
from builder.errors import StepError
from builder.step import Step
from core.errors import one_line


@dataclass(frozen=True)
class ToOpenVino(Step):
    """Converts the graph. Left alone, OpenVINO compresses weights to FP16, and an "FP32" file would not be one.

    With `half` the file holds FP16 weights, rounded to 11 significant bits, and is half as large. CPUs without FP16
    arithmetic, which is nearly all of them, widen them while loading and compute in FP32: smaller, not faster.
    """

    half: bool = False

    name: ClassVar[str] = "to_openvino"
    accepts: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino",)

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.xml` and `model.bin`. Raises StepError if OpenVINO cannot convert the graph, naming the
        operators that it does not know."""
        import openvino

        try:
            model = openvino.convert_model(source.path)
        except Exception as error:  # its own kinds are derived from Exception alone
            raise StepError(f"{source.spec.name}: {_reason(error)}; leave the OpenVINO variants out") from error
        openvino.save_model(model, out_dir / "model.xml", compress_to_fp16=self.half)


def _reason(error: Exception) -> str:
    if operators := re.search(r"No conversion rule found for operations: (.+)", str(error)):
        return f"OpenVINO does not know {operators[1].strip()} (operator and opset)"
    return f"OpenVINO cannot convert this graph ({one_line(error)})"
