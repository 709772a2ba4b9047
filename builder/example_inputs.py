"""Inputs of the right shapes, for whatever has to run a network to see what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor


def example_inputs(spec: ModelSpec, batch: int = 2) -> tuple[Tensor, ...]:
    """Zeros in the spec's order, `[batch, ...]`; named axes at their usual size. Batch 2, since 0 and 1 are special."""
    import torch

    def size(dim: int | str) -> int:
        return dim if isinstance(dim, int) else spec.axes[dim].opt

    return tuple(
        torch.zeros(batch, *(size(dim) for dim in tensor.dims), dtype=getattr(torch, tensor.dtype))
        for tensor in spec.inputs
    )
