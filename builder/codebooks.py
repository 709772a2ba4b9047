"""Weights that share values: a codebook of a few values for each kernel, and for each weight an index into it.

Han et al., "Deep Compression" (arXiv:1510.00149). No runtime here stores or computes a kernel in this form: ONNX and
OpenVINO have none. So what it would take is counted, and said apart from the size of the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from builder.errors import StepError
from builder.kernels import kernels

if TYPE_CHECKING:
    from torch import Tensor, nn

ROUNDS: Final = 300  # of k-means at most; it converges long before
LARGEST: Final = 256  # values in a codebook, so that an index is a byte or less


def cluster(kernel: Tensor, bits: int) -> Tensor:
    """The kernel with at most 2^bits different values, by k-means from values that lie evenly between the smallest and
    the largest, which keeps the large ones (Han et al., section 3.2). Zeros stay zeros: they may have been pruned.

    Sorted, a cluster is a piece, and a round costs `k log n` steps instead of the `k n` of k-means in any dimension.
    """
    import torch

    flat = kernel.detach().double().flatten()
    taken = flat != 0
    values, order = flat[taken].sort()
    if len(values) == 0:
        return kernel.detach().clone()
    count = 2**bits - int(not bool(taken.all()))
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    centers = torch.linspace(float(values[0]), float(values[-1]), count, dtype=torch.double)
    for _ in range(ROUNDS):
        ends = torch.searchsorted(values, (centers[1:] + centers[:-1]) / 2)
        ends = torch.cat([ends.new_zeros(1), ends, ends.new_full((1,), len(values))])
        sizes = ends.diff()
        means = torch.where(sizes > 0, sums[ends].diff() / sizes.clamp_min(1), centers)
        if torch.equal(means, centers):
            break
        centers = means
    shared = torch.empty_like(values)
    shared[order] = centers.repeat_interleave(sizes)
    flat[taken] = shared
    return flat.view_as(kernel).to(kernel.dtype)


def index_of(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The codebook, `[k]` in rising order, and for each weight its place there, `[kernel's size]`."""
    import torch

    codebook, indices = torch.unique(kernel.detach(), return_inverse=True)
    return codebook, indices.flatten()


@contextmanager
def moving_together(weights: dict[str, nn.Parameter]) -> Iterator[None]:
    """While this lasts, weights of a kernel that are equal now get equal gradients, the mean over all of them: training
    moves the values of the codebook, and no weight leaves its cluster. What training tells them apart by, in the last
    bit, is mended at the end."""
    import torch

    found = {name: index_of(value)[1] for name, value in weights.items()}

    def averaged(name: str, value: Tensor) -> Tensor:
        indices = found[name].to(value.device)
        means = torch.bincount(indices, value.flatten().double()) / torch.bincount(indices)
        return means.to(value.dtype)[indices].view_as(value)

    hooks = [value.register_hook(partial(averaged, name)) for name, value in weights.items()]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        for name, value in weights.items():
            value.copy_(averaged(name, value))


def shared_bytes(network: nn.Module) -> int:
    """What the network's state would take if each kernel were written as its codebook and its indices, without gaps
    between them, wherever that is less; all else as it is."""
    state = network.state_dict(keep_vars=True)
    try:
        own = {id(value) for value in kernels(network).values()}
    except StepError:
        own = set()
    seen: set[int] = set()  # what is shared by layers is written once
    total = 0
    for value in state.values():
        if id(value) in seen:
            continue
        seen.add(id(value))
        plain = value.numel() * value.element_size()
        total += min(plain, _packed_bytes(value)) if id(value) in own else plain
    return total


def _packed_bytes(kernel: Tensor) -> int:
    values = len(index_of(kernel)[0])
    if values > LARGEST:
        return kernel.numel() * kernel.element_size()
    return math.ceil(kernel.numel() * index_bits(values) / 8) + values * kernel.element_size()


def index_bits(values: int) -> int:
    """Bits of an index into a codebook of so many values."""
    return max(1, (values - 1).bit_length())
