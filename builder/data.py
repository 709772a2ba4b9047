"""Calibration and evaluation samples: read, checked, preprocessed."""

from __future__ import annotations

import hashlib
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
    """Preprocessed inputs by name, each `[n, ...]`, and labels `[n]`."""

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


def load_samples(spec: ModelSpec, path: Path) -> Samples:
    """Reads one data file. Raises DataError if it is empty, lacks an array, does not fit the spec or holds NaN."""
    try:
        arrays = read_arrays(path)
    except InputError as error:
        raise DataError(f"{error}; correct `data` in the spec of {spec.name}") from error
    wanted = [tensor.name for tensor in spec.inputs] + [spec.data.label]
    if absent := [name for name in wanted if name not in arrays]:
        raise DataError(f"{path} has no array {absent[0]!r}; it holds {', '.join(arrays) or 'nothing'}")
    labels = arrays[spec.data.label]
    if labels.ndim != 1 or len(labels) == 0:
        raise DataError(f"{path}: {spec.data.label!r} must be [n] with n > 0, but it is {list(labels.shape)}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path}: {spec.data.label!r} must hold whole numbers, but it is {labels.dtype}")
    inputs: Arrays = {}
    for tensor in spec.inputs:
        array = apply_to_array(spec.preprocess.get(tensor.name, ()), arrays[tensor.name])
        if len(array) != len(labels):
            raise DataError(f"{path}: {tensor.name!r} has {len(array)} samples, {spec.data.label!r} {len(labels)}")
        try:
            tensor.check(array, f"{path}: {tensor.name!r} (after preprocess)")
        except InputError as error:
            raise DataError(str(error)) from error
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
    classes = output.dims[-1] if output.dims else None
    if isinstance(classes, int) and not 0 <= int(evaluation.labels.min()) <= int(evaluation.labels.max()) < classes:
        raise DataError(
            f"{spec.data.evaluation}: labels go from {evaluation.labels.min()} to {evaluation.labels.max()}, "
            f"but output {output.name!r} has {classes} classes"
        )


def _digests(samples: Samples) -> set[bytes]:
    return {
        hashlib.sha256(b"".join(array[row].tobytes() for array in samples.inputs.values())).digest()
        for row in range(len(samples))
    }
