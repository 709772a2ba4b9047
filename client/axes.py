"""A request along a model's named axes: within their ranges, padded to the next bucket, and its answer cut back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from core.axes import Buckets, ServedAxis
from core.tensors import Arrays


def out_of_range(arrays: Arrays, axes: Mapping[str, ServedAxis]) -> str | None:
    """What is wrong with the sizes of a request's arrays along the named axes, in words; None if nothing is."""
    for name, axis in axes.items():
        sizes = _sizes(arrays, axis)
        for tensor, size in sizes:
            if not axis.min <= size <= axis.max:
                return f"axis {name} may be {axis.min} to {axis.max}, and is {size} in the array given for {tensor!r}"
        if len({size for _, size in sizes}) > 1:
            found = ", ".join(f"{size} in {tensor!r}" for tensor, size in sizes)
            return f"axis {name} must have one size in all arrays, and is {found}"
    return None


def pad_to_buckets(arrays: Arrays, axes: Mapping[str, ServedAxis], buckets: Mapping[str, Buckets]) -> Arrays:
    """The arrays, each bucketed axis padded at its end up to the next bucket; those that fit are passed on as they are.
    Sizes are within the ranges, as `out_of_range` says."""
    padded = dict(arrays)
    for name, bucket in buckets.items():
        largest = max((size for _, size in _sizes(arrays, axes[name])), default=0)
        target = next((size for size in bucket.sizes if size >= largest), largest)
        for tensor, positions in axes[name].at.items():
            if tensor in padded:
                array = padded[tensor]
                widths = [(0, target - size if at in positions else 0) for at, size in enumerate(array.shape)]
                if any(after for _, after in widths):
                    padded[tensor] = np.pad(array, widths, constant_values=bucket.pad[tensor])
    return padded


def cut_back(outputs: Arrays, given: Arrays, axes: Mapping[str, ServedAxis], buckets: Mapping[str, Buckets]) -> Arrays:
    """The outputs, without what answers the padding of the arrays `given`."""
    cut = dict(outputs)
    for name in buckets:
        largest = max((size for _, size in _sizes(given, axes[name])), default=0)
        for tensor, positions in axes[name].at.items():
            if tensor in cut:
                parts = [slice(largest) if at in positions else slice(None) for at in range(cut[tensor].ndim)]
                cut[tensor] = cut[tensor][tuple(parts)]
    return cut


def _sizes(arrays: Arrays, axis: ServedAxis) -> list[tuple[str, int]]:
    return [(name, arrays[name].shape[at]) for name, ats in axis.at.items() if name in arrays for at in ats]
