"""Weights in 8 or 4 bits in OpenVINO's format, activations in floating point: NNCF's weight compression."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from builder.artifact import Artifact, Format
from builder.errors import StepError
from builder.step import Step


@dataclass(frozen=True)
class QuantizeOpenVinoWeights(Step):
    """Stores the weights of matrix products, convolutions and embeddings as signed 8-bit numbers around zero with a
    scale for each channel. With `bits` 4, those of matrix products get 4 bits and a scale for each `group` numbers of a
    channel (fewer where that does not divide it); embeddings and the last layer, which suffer most, keep 8.

    No samples are needed, and outliers among the activations do no harm. What is gained is size, and time where reading
    the weights is what takes it. Dettmers & Zettlemoyer, "The case for 4-bit precision: k-bit Inference Scaling Laws"
    (arXiv:2212.09720).
    """

    bits: Literal[4, 8] = 8
    group: int = 32

    name: ClassVar[str] = "quantize_openvino_weights"
    accepts: ClassVar[Format] = "openvino"
    produces: ClassVar[Format] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino", "nncf")

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.xml` and `model.bin`. Raises StepError if the network has no such weights."""
        import nncf
        import openvino

        model = openvino.Core().read_model(source.path)
        if self.bits == 8:
            compressed = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        else:
            from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

            compressed = nncf.compress_weights(
                model,
                mode=nncf.CompressWeightsMode.INT4_SYM,
                group_size=self.group,
                advanced_parameters=AdvancedCompressionParameters(
                    group_size_fallback_mode=GroupSizeFallbackMode.ADJUST
                ),
            )
        stored = {
            op.get_element_type().get_type_name() for op in compressed.get_ops() if op.get_type_name() == "Constant"
        }
        if f"i{self.bits}" not in stored:
            raise StepError(
                f"{source.spec.name} has no weights that can be stored in {self.bits} bits; "
                f"leave this variant out of the spec"
            )
        # Left alone, the CPU plug-in rounds the activations of such products to 8 bits too.
        compressed.set_rt_info("0", ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
        openvino.save_model(compressed, out_dir / "model.xml", compress_to_fp16=False)
