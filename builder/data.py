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
from core.results import MetricValue
from core.samples import read_arrays
from core.tensors import Arrays
from core.transforms import prepare

FEW = 100  # calibration samples
BLOCK = 32  # samples that are preprocessed at a time where none is kept


@dataclass(frozen=True)
class Samples:
    """Preprocessed inputs by name, each `[n, ...]`, and labels `[n]`, zeros where none were asked for."""

    inputs: Arrays
    labels: NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def digests(self) -> tuple[bytes, ...]:
        """One for each sample's inputs."""
        return tuple(
            hashlib.sha256(b"".join(array[row].tobytes() for array in self.inputs.values())).digest()
            for row in range(len(self))
        )


@dataclass(frozen=True)
class Examined:
    """Samples that were checked and are not kept: preprocessed images are many times as large as in their file."""

    digests: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.digests)


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


def training_sha256(spec: ModelSpec) -> str:
    """The hash of the training data with its preprocessing; empty where the spec names none."""
    if spec.data.training is None:
        return ""
    try:
        return sha256_parts([sha256_file(spec.data.training), str(spec.preprocess), spec.data.label])
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}; correct `data` in the spec") from error


def metric_key(spec: ModelSpec) -> str:
    """The metric; of the user's own function its name and its file's content instead of the path. Raises InputError if
    it cannot be loaded."""
    file, _, function = spec.metric.name.rpartition(":")
    if not file:
        return spec.metric.model_dump_json()
    spec.metric.function  # noqa: B018  # raises, before anything is built, if it cannot be loaded
    return f"{function} {sha256_file(Path(file))} {spec.metric.output} {spec.metric.higher_is_better}"


def load_samples(spec: ModelSpec, path: Path, labelled: bool = True) -> Samples:
    """Reads one data file. Calibration needs no labels: `labelled=False` neither asks for them nor reads them.

    Raises DataError if it is empty, lacks an array, does not fit the spec or holds NaN.
    """
    arrays, labels = _read(spec, path, labelled)
    return Samples(_prepared(spec, path, arrays), labels)


def examine_samples(spec: ModelSpec, path: Path) -> Examined:
    """Reads and checks a file without labels as `load_samples` does, and preprocesses few of its samples at a time."""
    arrays, labels = _read(spec, path, labelled=False)
    digests: list[bytes] = []
    for at in range(0, len(labels), BLOCK):
        rows = slice(at, at + BLOCK)
        part = _prepared(spec, path, {name: array[rows] for name, array in arrays.items()})
        digests += Samples(part, labels[rows]).digests
    return Examined(tuple(digests))


def _read(spec: ModelSpec, path: Path, labelled: bool) -> tuple[Arrays, NDArray[np.generic]]:
    """The inputs as they are stored, and the labels `[n]`, zeros where none are asked for."""
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
    if labelled:
        _check_labels(spec, path, labels)
    for tensor in spec.inputs:
        if len(arrays[tensor.name]) != len(labels):
            count = len(arrays[tensor.name])
            raise DataError(f"{path}: {tensor.name!r} has {count} samples, {counted!r} {len(labels)}")
    return {tensor.name: arrays[tensor.name] for tensor in spec.inputs}, labels


def _prepared(spec: ModelSpec, path: Path, arrays: Arrays) -> Arrays:
    """Inputs as they are stored, preprocessed and checked."""
    inputs: Arrays = {}
    for tensor in spec.inputs:
        try:
            array = prepare(spec.preprocess.get(tensor.name, ()), arrays[tensor.name], tensor.datatype.numpy)
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
    return inputs


def _check_labels(spec: ModelSpec, path: Path, labels: NDArray[np.generic]) -> None:
    """Raises DataError unless the labels are what the metric compares with."""
    name, kind = spec.data.label, spec.metric.function.labels
    if kind == "class" and not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path}: {name!r} must hold whole numbers for {spec.metric.name}, but it is {labels.dtype}")
    if not np.issubdtype(labels.dtype, np.number) or not np.isfinite(labels.astype(np.float64)).all():
        raise DataError(f"{path}: {name!r} is {labels.dtype}, or holds NaN or infinity; it must hold finite numbers")


def check_data(
    spec: ModelSpec, calibration: Samples | Examined, evaluation: Samples, training: Samples | Examined | None = None
) -> None:
    """Raises DataError if the evaluation shares samples with another set (accuracy would be flattered) or a label has
    no class."""
    judging = set(evaluation.digests)
    for path, samples in ((spec.data.calibration, calibration), (spec.data.training, training)):
        if path and samples and (shared := judging.intersection(samples.digests)):
            raise DataError(
                f"{len(shared)} samples stand in both {path.name} and {spec.data.evaluation.name}; "
                f"calibrate and train on data that the evaluation does not hold"
            )
    if (classes := class_count(spec)) is None:
        return
    if not 0 <= int(evaluation.labels.min()) <= int(evaluation.labels.max()) < classes:
        raise DataError(
            f"{spec.data.evaluation}: labels go from {evaluation.labels.min()} to {evaluation.labels.max()}, "
            f"but output {spec.metric.output!r} has {classes} classes"
        )


def class_count(spec: ModelSpec) -> int | None:
    """How many classes the labels may name; None where the metric takes numbers, or the count varies with an axis."""
    values = value_count(spec)
    if spec.metric.function.labels == "number" or values is None:
        return None
    return max(2, values)  # a single score tells two classes apart


def value_count(spec: ModelSpec) -> int | None:
    """How many values of a sample the metric is given; None where that varies with an axis."""
    output = next(tensor for tensor in spec.outputs if tensor.name == spec.metric.output)
    sizes = [dim for dim in output.dims if isinstance(dim, int)]
    return math.prod(sizes) if len(sizes) == len(output.dims) else None


def warnings(spec: ModelSpec, calibration: Samples | Examined, original: MetricValue) -> tuple[str, ...]:
    """What is allowed, and most likely a mistake: an original that only guesses, hardly any calibration samples."""
    found = []
    metric = spec.metric.function
    output = next(tensor for tensor in spec.outputs if tensor.name == spec.metric.output)
    classes = max(2, math.prod(dim for dim in output.dims if isinstance(dim, int)))
    chance = {"top1": 1 / classes, "top5": min(1.0, 5 / classes), "auc": 0.5}.get(metric.name)
    if chance is not None and chance < 1 and original.ci95[0] <= chance:
        found.append(
            f"the original itself scores {original.value:.1%}, and guessing scores {chance:.1%}: check `preprocess` "
            f"(only uint8 is preprocessed, any other array is taken as ready), the order of the "
            f"classes, and the checkpoint"
        )
    if len(calibration) < FEW:
        found.append(
            f"{spec.data.calibration.name} holds {len(calibration)} samples; static INT8 guesses its ranges from so "
            f"few: give 300 or more"
        )
    return tuple(found)
