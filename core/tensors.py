"""What a tensor is called, holds and measures: shared by specs, passports and sample packs."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from core.datatypes import BY_NAME, DataType
from core.errors import InputError

Arrays = dict[str, NDArray[np.generic]]
"""Named arrays, the first axis of each being the batch."""

Axis = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Dim = Annotated[int, Field(ge=1)] | Axis


class TensorSpec(BaseModel):
    """A model's input or output: `dims` are sizes, or names of axes that vary; the batch axis stands before them and is
    not written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.\-/:]{0,127}$")]
    dtype: str = "float32"
    dims: Annotated[tuple[Dim, ...], Field(min_length=1)]

    @field_validator("dtype")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in BY_NAME:
            raise ValueError(f"unknown data type {value!r}; known are {', '.join(BY_NAME)}")
        return value

    @property
    def datatype(self) -> DataType:
        """The row of the data type table."""
        return BY_NAME[self.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        """`[-1, ...]` as servers write it: -1 for the batch and for each named axis."""
        return (-1, *(dim if isinstance(dim, int) else -1 for dim in self.dims))

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join(['N', *map(str, self.dims)])}]"

    def check(self, array: NDArray[np.generic], where: str) -> None:
        """Raises InputError unless `array` has this data type, rank and size (any batch)."""
        expected = f"{where} must hold {self}"
        if array.dtype != self.datatype.numpy:
            raise InputError(f"{expected}, but its data type is {array.dtype}")
        fits = array.ndim == len(self.dims) + 1 and all(
            not isinstance(dim, int) or dim == size for dim, size in zip(self.dims, array.shape[1:], strict=True)
        )
        if not fits:
            raise InputError(f"{expected}, but its shape is {list(array.shape)}")
