"""The part of the spec that says what `trident optimize` may try."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from builder.spec_base import SpecModel
from builder.spec_compress import Training
from builder.spec_distill import Answers, Factory, Teacher, Teachers, Temperature

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
    teachers: Teachers = (Teacher(),)
    temperature: Temperature = 4.0
    answers: Answers = {}
    keep: Annotated[tuple[str, ...], Field(description="names or patterns of layers that are left whole")] = ()
    train: Annotated[
        Training, Field(description="how compressed networks are trained; fewer epochs where the budget asks for it")
    ] = Training(epochs=10)

    @model_validator(mode="after")
    def _no_hints(self) -> Search:
        if any(teacher.hints for teacher in self.teachers):
            raise ValueError(
                "teachers of a search are asked once, and hints are given by their layers in each epoch; leave the "
                "hints out, or write a `distill` of your own under compress"
            )
        return self
