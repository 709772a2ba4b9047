"""The part of the spec that says what `trident optimize` may try."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from builder.spec_base import SpecModel
from builder.spec_compress import Training
from builder.spec_distill import Factory

BASES: Final = (
    "onnx_fp32", "openvino_fp32", "openvino_fp16", "onnx_int8_dynamic", "onnx_int8_static", "openvino_int8",
)  # fmt: skip
SearchedTechnique = Literal["distill", "prune_channels", "low_rank"]


class Search(SpecModel):
    """What `trident optimize` may try. Nothing else reads it."""

    bases: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="variants that are tried alone and after each compression; unset: those of FP32, FP16 and "
            "plain INT8",
        ),
    ] = BASES
    techniques: Annotated[
        tuple[SearchedTechnique, ...],
        Field(description="`distill` into `students`, `prune_channels`, `low_rank`; docs/optimize.md has what follows"),
    ] = ("distill", "prune_channels", "low_rank")
    students: Annotated[
        tuple[Factory, ...],
        Field(description="`file.py:function` of each network that may learn from the original, the widest first"),
    ] = ()
    keep: Annotated[tuple[str, ...], Field(description="names or patterns of layers that are left whole")] = ()
    train: Annotated[
        Training, Field(description="how compressed networks are trained; fewer epochs where the budget asks for it")
    ] = Training(epochs=10)
