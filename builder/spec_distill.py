"""What a spec may say of teachers: who they are, and what of theirs a student imitates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from builder.spec_base import SpecModel

Factory = Annotated[str, StringConstraints(pattern=r"^.+\.py:[A-Za-z_]\w*$")]
AnswerKind = Literal["scores", "likelihoods", "numbers", "huber", "embedding"]


class Hint(SpecModel):
    """What layers inside a teacher tell layers inside the student. Each pair adds its loss, which is 0 where they agree
    and about 1 where the student's layer gives nothing."""

    match: Annotated[
        Literal["features", "hidden", "attention"],
        Field(
            description="`features`: what the layers give, `[channels, ...]`; `hidden`: the same, `[..., channels]`, "
            "as in encoders of text; through a learned linear map where the student has fewer or more channels. "
            "`attention`: only where in `[channels, ...]` the layers are strong"
        ),
    ]
    layers: Annotated[
        dict[str, str],
        Field(min_length=1, description="the teacher's layer: the student's, such as `blocks.5: blocks.2`"),
    ]
    weight: Annotated[float, Field(gt=0, description="of these losses beside that of the answers")] = 1.0


class Teacher(SpecModel):
    """A trained network that takes and answers what the student does. Without any field but `weight` and `hints` it is
    the spec's own checkpoint, as it was before any compression."""

    state_dict: Annotated[Path | None, Field(description="another network's weights, with its `factory`")] = None
    factory: Annotated[Factory | None, Field(description="`file.py:function`, which makes that network")] = None
    spec: Annotated[
        Path | None, Field(description="another spec, whose checkpoint teaches; of the same inputs and outputs")
    ] = None
    weight: Annotated[float, Field(gt=0, description="of its answers in the mean over all teachers")] = 1.0
    hints: Annotated[tuple[Hint, ...], Field(description="what the student imitates beside its answers")] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Teacher:
        if (self.state_dict is None) != (self.factory is None):
            raise ValueError("a teacher's state_dict and factory (file.py:function) go together")
        if self.state_dict and self.spec:
            raise ValueError("a teacher is a state_dict with its factory, or a spec, not both")
        return self


Teachers = Annotated[
    tuple[Teacher, ...], Field(min_length=1, description="whose answers are averaged; unset: the spec's checkpoint")
]
Temperature = Annotated[float, Field(gt=0, description="of `scores`: the higher, the more the unlikely classes tell")]
Answers = Annotated[
    dict[str, AnswerKind],
    Field(
        description="what an output is: `scores` of classes before a softmax; `likelihoods`, each from 0 to 1; "
        "`numbers` (squared error); `huber`, numbers with outliers; an `embedding`. Unset: `scores` if the metric "
        "reads classes from it, else `numbers`"
    ),
]
