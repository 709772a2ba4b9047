"""INT8 weights, and activations quantized while running, by ranges that each batch gives: no calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from builder.artifact import Artifact, Format
from builder.step import Step


@dataclass(frozen=True)
class QuantizeOnnxDynamic(Step):
    """ONNX Runtime's dynamic quantization, for matrix products and convolutions.

    Weights are unsigned: ONNX Runtime's integer convolution takes no other, and its kernels for two unsigned operands
    do not saturate on CPUs without VNNI. The range is that of the whole batch, so an answer depends a little on which
    other samples came with it; and finding it costs a pass over each activation, which small convolutional networks do
    not earn back. It is made for transformers and recurrent networks.
    """

    name: ClassVar[str] = "quantize_onnx_dynamic"
    accepts: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(source.path, out_dir / "model.onnx", weight_type=QuantType.QUInt8)
