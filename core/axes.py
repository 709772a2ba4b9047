"""What a published model says about its named axes, as JSON in its config parameters: written by the builder, read by
the client. `trident.axes` has the range of each, `trident.buckets` the sizes that requests are padded to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from core.errors import InputError

Number = bool | int | float


class ServedAxis(BaseModel):
    """A named axis: the sizes that were proven, and where it lies: tensor -> positions, 0 being the batch axis."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int
    max: int
    at: dict[str, tuple[int, ...]]


class Buckets(BaseModel):
    """The sizes, ascending, that an axis is padded to, and with what: input -> value. Triton forms batches only of
    requests of equal shape; so that texts of all lengths meet in few."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: tuple[int, ...]
    pad: dict[str, Number]


AXES: TypeAdapter[dict[str, ServedAxis]] = TypeAdapter(dict[str, ServedAxis])
BUCKETS: TypeAdapter[dict[str, Buckets]] = TypeAdapter(dict[str, Buckets])


def parse_axes(axes: str, buckets: str) -> tuple[dict[str, ServedAxis], dict[str, Buckets]]:
    """Reads the JSON of both parameters. Raises InputError for what this version does not know."""
    try:
        return AXES.validate_json(axes), BUCKETS.validate_json(buckets)
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise InputError(f"the model's parameters trident.axes and trident.buckets cannot be read: {why}") from error
