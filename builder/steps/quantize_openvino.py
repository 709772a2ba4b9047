"""INT8 weights and activations by post-training quantization (NNCF): calibrated, per channel, bias-corrected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from builder.artifact import Artifact, Format
from builder.calibration import CalibrationRows
from builder.errors import StepError
from builder.step import Step
from core.errors import one_line


@dataclass(frozen=True)
class QuantizeOpenVino(Step):
    """Quantizes with `samples` calibration samples.

    With `headroom`, every weight keeps one bit unused (`OverflowFix.ENABLE`): a CPU without VNNI instructions adds
    products in 16 bits and saturates otherwise, and a repository that was built on one CPU is served on another.

    `smooth` is for transformers: NNCF then takes the graph for one, which leaves in floating point what suffers most in
    attention, and moves outliers of the activations into the weights of matrix products by SmoothQuant (Xiao et al.,
    arXiv:2211.10438) with this alpha, 0 to 1; the larger, the more of them.
    """

    samples: int = 300
    headroom: bool = True
    smooth: float | None = None

    name: ClassVar[str] = "quantize_openvino"
    accepts: ClassVar[Format] = "openvino"
    produces: ClassVar[Format] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    calibrates: ClassVar[bool] = True

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.xml` and `model.bin`."""
        import nncf
        import openvino
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            AdvancedSmoothQuantParameters,
            OverflowFix,
        )

        rows = CalibrationRows(source.spec, self.samples)
        model = openvino.Core().read_model(source.path)
        try:
            quantized = nncf.quantize(
                model,
                nncf.Dataset(rows),
                subset_size=len(rows),
                model_type=None if self.smooth is None else nncf.ModelType.TRANSFORMER,
                advanced_parameters=AdvancedQuantizationParameters(
                    overflow_fix=OverflowFix.ENABLE if self.headroom else OverflowFix.DISABLE,
                    # Without a transformer nothing is smoothed, whatever the alpha.
                    smooth_quant_alphas=AdvancedSmoothQuantParameters(
                        matmul=0.5 if self.smooth is None else self.smooth
                    ),
                ),
            )
        except Exception as error:  # NNCF's passes raise kinds of their own, and bare ones
            why = f"{type(error).__name__}: {one_line(error)}"
            raise StepError(
                f"{source.spec.name}: NNCF cannot quantize this graph ({why}); leave this variant out"
            ) from error
        openvino.save_model(quantized, out_dir / "model.xml", compress_to_fp16=False)
