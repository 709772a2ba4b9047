"""The data types of the wire: those of `core.datatypes`, and texts, which no checkpoint of ours has."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.errors import AnswerError
from core.datatypes import DATA_TYPES, DataType, from_triton

BYTES: Final = DataType("object", "BYTES", 8)
_WIRE_NAMES: Final = {row.numpy: row.triton for row in DATA_TYPES}
_TEXT_KINDS: Final = "OSU"  # numpy's arrays of objects, bytes and texts


def from_wire(name: str) -> DataType:
    """The row of a name such as `FP32` or `BYTES`. Raises InputError for one that we do not carry."""
    return BYTES if name == BYTES.triton else from_triton(name)


def fits_type(array: NDArray[np.generic], datatype: DataType) -> bool:
    """Whether an array may be sent as this data type. Texts may be bytes, str, or objects of both."""
    return array.dtype.kind in _TEXT_KINDS if datatype is BYTES else array.dtype == datatype.numpy


def wire_name(array: NDArray[np.generic]) -> str:
    """What the protocol calls the data type of an array that fits some input."""
    return _WIRE_NAMES.get(array.dtype, BYTES.triton)


def to_wire(array: NDArray[np.generic]) -> bytes | memoryview:
    """An array's bytes in the order of the wire, without a copy where it lies in that order already."""
    if array.dtype.kind in _TEXT_KINDS:
        from tritonclient.utils import serialize_byte_tensor

        if array.size == 0:
            return b""
        return bytes(serialize_byte_tensor(array.astype(object)).item())
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""


def from_wire_bytes(
    name: str, data: bytes | memoryview, datatype: DataType, shape: tuple[int, ...]
) -> NDArray[np.generic]:
    """The array that lies in `data`, read-only. Raises AnswerError if its bytes do not fill its shape."""
    try:
        if datatype is BYTES:
            from tritonclient.utils import deserialize_bytes_tensor

            return np.asarray(deserialize_bytes_tensor(bytes(data)), object).reshape(shape)
        return np.frombuffer(data, datatype.numpy).reshape(shape)
    except (ValueError, IndexError) as error:
        raise AnswerError(
            f"the answer cannot be read: {name} is not {datatype.triton} {list(shape)} ({error})"
        ) from error
