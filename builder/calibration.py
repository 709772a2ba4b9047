"""The calibration samples one at a time, however many there are: what every step that calibrates reads."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.spec import ModelSpec
from core.tensors import Arrays
from core.transforms import prepare


@dataclass(frozen=True)
class CalibrationRows:
    """The first `most` calibration samples of a spec, to be read as often as one likes: preprocessed, each `[1, ...]`
    by input name, and one in memory at a time, since preprocessed images are many times the size of a model.

    The file is the one that the build has checked whole beforehand (`builder.worker.examine_original`).
    """

    spec: ModelSpec
    most: int

    def __len__(self) -> int:
        return min(self.most, _header(self.spec.data.calibration, self.spec.inputs[0].name)[0][0])

    def __iter__(self) -> Iterator[Arrays]:
        spec, path = self.spec, self.spec.data.calibration
        columns = [_stored_rows(path, tensor.name) for tensor in spec.inputs]
        # The range comes first: it must end before a column is read.
        for _, *row in zip(range(len(self)), *columns, strict=False):
            yield {
                tensor.name: np.ascontiguousarray(
                    prepare(spec.preprocess.get(tensor.name, ()), value, tensor.datatype.numpy)
                )
                for tensor, value in zip(spec.inputs, row, strict=True)
            }


def _header(path: Path, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        return _read_header(member)


def _read_header(member: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and data type; the member stands at its data afterwards."""
    formats: Any = np.lib.format  # its functions have no types
    read = formats.read_array_header_1_0 if formats.read_magic(member) == (1, 0) else formats.read_array_header_2_0
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(member)
    return header


def _stored_rows(path: Path, name: str) -> Iterator[NDArray[Any]]:
    """The rows of one array of an .npz file as they are stored, each `[1, ...]`, without reading it whole."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        shape, columns_first, dtype = _read_header(member)
        if columns_first:  # Fortran's order: a row is scattered over the file
            with np.load(path, allow_pickle=False) as arrays:
                yield from np.split(arrays[name], shape[0])
            return
        size = dtype.itemsize * math.prod(shape[1:])
        for _ in range(shape[0]):
            yield np.frombuffer(bytearray(member.read(size)), dtype).reshape(1, *shape[1:])
