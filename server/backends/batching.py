"""Many requests as one batch, and back. Knows nothing of Triton."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.tensors import Arrays


def merge(requests: Sequence[Arrays]) -> Arrays:
    """Joins the inputs of requests along the batch axis; a single one's are passed on as they are."""
    if len(requests) == 1:
        return requests[0]
    return {name: np.concatenate([arrays[name] for arrays in requests]) for name in requests[0]}


def batch_sizes(requests: Sequence[Arrays]) -> list[int]:
    """The rows of each request."""
    return [len(next(iter(arrays.values()))) for arrays in requests]


def split(outputs: Arrays, sizes: Sequence[int]) -> list[Arrays]:
    """Cuts outputs into parts of so many rows, as views. Raises ValueError if an output has other rows than the
    inputs had, as that of a model with a fixed batch has."""
    total = sum(sizes)
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != total:
            raise ValueError(
                f"output {name} has shape {list(array.shape)} for a batch of {total}; its first axis must be the batch"
            )
    if len(sizes) == 1:
        return [outputs]
    ends = np.cumsum(sizes)
    return [
        {name: array[end - size : end] for name, array in outputs.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]
