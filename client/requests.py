"""From what a caller gives to requests that fit the model, and from their answers back. Pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from client.axes import cut_back, pad_to_buckets
from client.datatypes import BYTES
from client.metadata import ModelMetadata
from core.tensors import Arrays


def named(inputs: Arrays | NDArray[np.generic], metadata: ModelMetadata) -> Arrays:
    """The inputs by name. Raises SignatureError if one array is given for a model that takes several."""
    if not isinstance(inputs, np.ndarray):
        return inputs
    if len(metadata.inputs) != 1:
        raise metadata.mismatch("one array without a name was given")
    return {metadata.inputs[0].name: inputs}


def wanted(outputs: tuple[str, ...] | None, metadata: ModelMetadata) -> tuple[str, ...]:
    """The outputs to ask for: those wanted, else all. Raises SignatureError if one is unknown."""
    if outputs is None:
        return metadata.output_names
    metadata.check_outputs(outputs)
    return outputs


def split(arrays: Arrays, metadata: ModelMetadata) -> list[Arrays]:
    """The arrays, padded to buckets where the model has any, in batches that it takes."""
    padded = pad_to_buckets(arrays, metadata.axes, metadata.buckets) if metadata.buckets else arrays
    size = metadata.max_batch
    rows = len(next(iter(padded.values()))) if size and padded else 0
    if rows <= size:
        return [padded]
    return [{name: array[at : at + size] for name, array in padded.items()} for at in range(0, rows, size)]


def join(parts: list[Arrays], given: Arrays, metadata: ModelMetadata) -> Arrays:
    """The answers of all parts as one, without what answers the padding of `given`."""
    whole = parts[0]
    if len(parts) > 1:
        whole = {name: np.concatenate([part[name] for part in parts]) for name in whole}
    return cut_back(whole, given, metadata.axes, metadata.buckets) if metadata.buckets else whole


def output_sizes(metadata: ModelMetadata, outputs: tuple[str, ...], arrays: Arrays) -> dict[str, int]:
    """Output -> its bytes, for those whose size is known beforehand."""
    rows = len(next(iter(arrays.values()))) if metadata.max_batch and arrays else 1
    known = {
        tensor.name: rows * int(np.prod(tensor.dims)) * tensor.datatype.numpy.itemsize
        for tensor in metadata.outputs
        if min(tensor.dims, default=1) > 0 and tensor.datatype is not BYTES
    }
    return {name: known[name] for name in outputs if name in known}
