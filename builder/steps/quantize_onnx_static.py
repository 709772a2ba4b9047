"""INT8 weights and activations with ranges found beforehand on calibration samples, as Q/DQ nodes in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from builder.artifact import Artifact, Format
from builder.data import load_samples
from core.tensors import Arrays


@dataclass(frozen=True)
class QuantizeOnnxStatic:
    """ONNX Runtime's static quantization on `samples` calibration samples, min-max ranges, weights per channel.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
    (arXiv:1712.05877). `reduce_range` keeps one bit of each weight unused: CPUs without VNNI add pairs of 8-bit
    products in 16 bits, which saturates silently at full range, and a repository built on one CPU is served on another.
    """

    samples: int = 300
    reduce_range: bool = True

    name: ClassVar[str] = "quantize_onnx_static"
    accepts: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")
    calibrates: ClassVar[bool] = True

    def unavailable(self) -> str | None:
        """Always available where the builder is."""
        return None

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`."""
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
            """One sample after the other, in the form that ONNX Runtime asks for."""

            def __init__(self, inputs: Arrays, count: int) -> None:
                self._rows = iter({name: array[i : i + 1] for name, array in inputs.items()} for i in range(count))

            def get_next(self) -> Arrays | None:
                """The next sample `[1, ...]` by input name, or None at the end."""
                return next(self._rows, None)

        calibration = load_samples(source.spec, source.spec.data.calibration, labelled=False)
        quantize_static(
            source.path,
            out_dir / "model.onnx",
            Reader(calibration.inputs, min(self.samples, len(calibration))),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=self.reduce_range,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )
