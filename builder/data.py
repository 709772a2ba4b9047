"""Calibration and evaluation samples: read, checked, preprocessed."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from builder.errors import DataError
from builder.spec import ModelSpec
from core.errors import InputError
from core.files import sha256_file, sha256_parts
from core.samples import read_arrays
from core.tensors import Arrays
from core.transforms import apply_to_array


@dataclass(frozen=True)
class Samples:
    """Preprocessed inputs by name, each `[n, ...]`, and labels `[n]`, zeros where none were asked for."""

    inputs: Arrays
    labels: NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.labels)


def data_sha256(spec: ModelSpec) -> tuple[str, str]:
    """The hashes of calibration and evaluation data, each with the preprocessing that is applied to it."""
    how = str(spec.preprocess)
    try:
        return (
            sha256_parts([sha256_file(spec.data.calibration), how]),
            sha256_parts([sha256_file(spec.data.evaluation), how, spec.data.label]),
        )
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}; correct `data` in the spec") from error


def load_samples(spec: ModelSpec, path: Path, labelled: bool = True) -> Samples:
    """Reads one data file. Calibration needs no labels: `labelled=False` neither asks for them nor reads them.

    Raises DataError if it is empty, lacks an array, does not fit the spec or holds NaN.
    """
    try:
        arrays = read_arrays(path)
    except InputError as error:
        raise DataError(f"{error}; correct `data` in the spec of {spec.name}") from error
    counted = spec.data.label if labelled else spec.inputs[0].name
    wanted = [tensor.name for tensor in spec.inputs] + [counted]
    if absent := [name for name in wanted if name not in arrays]:
        raise DataError(f"{path} has no array {absent[0]!r}; it holds {', '.join(arrays) or 'nothing'}")
    if scalar := [name for name in wanted if arrays[name].ndim == 0]:
        raise DataError(f"{path}: {scalar[0]!r} is a single number; its first axis must be that of the samples")
    labels = arrays[spec.data.label] if labelled else np.zeros(len(arrays[counted]), np.int64)
    if labels.ndim != 1 or len(labels) == 0:
        shape = list(arrays[counted].shape)
        raise DataError(
            f"{path}: {counted!r} must be {'[n]' if labelled else '[n, ...]'} with n > 0, but it is {shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path}: {counted!r} must hold whole numbers, but it is {labels.dtype}")
    inputs: Arrays = {}
    for tensor in spec.inputs:
        array = arrays[tensor.name]
        if len(array) != len(labels):
            raise DataError(f"{path}: {tensor.name!r} has {len(array)} samples, {counted!r} {len(labels)}")
        try:
            array = apply_to_array(spec.preprocess.get(tensor.name, ()), array)
        except InputError as error:
            raise DataError(f"{path}: {tensor.name!r}: {error}; correct the data or `preprocess`") from error
        try:
            tensor.check(array, f"{path}: {tensor.name!r} (after preprocess)")
        except InputError as error:
            raise DataError(str(error)) from error
        for dim, size in zip(tensor.dims, array.shape[1:], strict=True):
            limits = spec.axes[dim] if isinstance(dim, str) else None
            if limits and not limits.min <= size <= limits.max:
                raise DataError(
                    f"{path}: axis {dim} of {tensor.name!r} is {size}, and `axes` says {limits.min} to {limits.max}; "
                    f"correct the data or the range"
                )
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).reshape(len(array), -1).any(axis=1).sum())
            raise DataError(f"{path}: {tensor.name!r} holds NaN or infinity in {bad} samples; clean the data")
        inputs[tensor.name] = np.ascontiguousarray(array)
    return Samples(inputs, labels)


def check_data(spec: ModelSpec, calibration: Samples, evaluation: Samples) -> None:
    """Raises DataError if the two sets share samples (accuracy would be flattered) or a label has no class."""
    shared = _digests(calibration) & _digests(evaluation)
    if shared:
        raise DataError(
            f"{len(shared)} samples stand in both {spec.data.calibration.name} and {spec.data.evaluation.name}; "
            f"calibrate on training data that the evaluation does not hold"
        )
    output = next(tensor for tensor in spec.outputs if tensor.name == spec.metric.output)
    sizes = [dim for dim in output.dims if isinstance(dim, int)]
    if len(sizes) < len(output.dims):  # a named axis: the count of classes varies
        return
    classes = math.prod(sizes)
    if not 0 <= int(evaluation.labels.min()) <= int(evaluation.labels.max()) < classes:
        raise DataError(
            f"{spec.data.evaluation}: labels go from {evaluation.labels.min()} to {evaluation.labels.max()}, "
            f"but output {output.name!r} has {classes} classes"
        )


def _digests(samples: Samples) -> set[bytes]:
    return {
        hashlib.sha256(b"".join(array[row].tobytes() for array in samples.inputs.values())).digest()
        for row in range(len(samples))
    }
