"""One table of tensor data types, in the spelling of every party that we speak to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from core.errors import InputError


@dataclass(frozen=True)
class DataType:
    """One data type. `name` is the spelling in specs, and also numpy's and torch's; `triton` is the Open Inference
    Protocol's; `onnx` is the number in `onnx.TensorProto`."""

    name: str
    triton: str
    onnx: int

    @cached_property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype."""
        return np.dtype(self.name)

    @property
    def config(self) -> str:
        """The spelling in `config.pbtxt`."""
        return f"TYPE_{self.triton}"


DATA_TYPES: Final = (
    DataType("float32", "FP32", 1),
    DataType("uint8", "UINT8", 2),
    DataType("int8", "INT8", 3),
    DataType("uint16", "UINT16", 4),
    DataType("int16", "INT16", 5),
    DataType("int32", "INT32", 6),
    DataType("int64", "INT64", 7),
    DataType("bool", "BOOL", 9),
    DataType("float16", "FP16", 10),
    DataType("float64", "FP64", 11),
    DataType("uint32", "UINT32", 12),
    DataType("uint64", "UINT64", 13),
)
BY_NAME: Final = {row.name: row for row in DATA_TYPES}
BY_TRITON: Final = {row.triton: row for row in DATA_TYPES}
BY_ONNX: Final = {row.onnx: row for row in DATA_TYPES}


def from_triton(name: str) -> DataType:
    """The row of an Open Inference Protocol name such as `FP32`. Raises InputError for one that we do not carry."""
    if name not in BY_TRITON:
        raise InputError(f"data type {name} is not supported; supported are {', '.join(BY_TRITON)}")
    return BY_TRITON[name]
