"""One layer as a chain of thinner ones whose product is near it.

A kernel `[c_out, c_in, *size]` is cut down to `outer` combinations of its output channels and `inner` ones of its input
channels: a 1x1 layer from `c_in` to `inner` channels, the kernel between those (with the layer's stride and padding),
and a 1x1 layer from `outer` to `c_out` (with the bias). That is Tucker-2 of Kim et al., "Compression of Deep
Convolutional Neural Networks for Fast and Low Power Mobile Applications" (arXiv:1511.06530), by truncated singular
value decompositions one after the other (Vannieuwenhoven et al., "A New Truncation Strategy for the Higher-Order
Singular Value Decomposition", SIAM J. Sci. Comput. 34, 2012). Where all channels of a side are kept, its 1x1 layer is
left out. Of a matrix, which is a linear layer or a 1x1 convolution, `inner` are all: what is left is the plain SVD.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.channels import shapes_of, tied

if TYPE_CHECKING:
    from torch import Tensor, nn


class Ranks(NamedTuple):
    """Channels between the parts of the chain."""

    inner: int
    outer: int


@dataclass(frozen=True)
class Layer:
    """A linear layer or a convolution: its channels, the `taps` of its kernel (9 for 3 x 3), and at how many positions
    of a sample it reads and writes. `obstacle`, if any, says why it cannot be factored, as a clause."""

    name: str
    inputs: int
    outputs: int
    taps: int
    read: int
    written: int
    obstacle: str | None

    def multiply_adds(self, ranks: Ranks | None = None) -> int:
        """Of one sample; as a chain, if `ranks` are given."""
        if ranks is None:
            return self.written * self.taps * self.inputs * self.outputs
        first = self.read * self.inputs * ranks.inner if ranks.inner < self.inputs else 0
        last = self.written * ranks.outer * self.outputs if ranks.outer < self.outputs else 0
        return first + self.written * self.taps * ranks.inner * ranks.outer + last

    def saved(self, ranks: Ranks) -> float:
        """The share of its multiply-adds that goes; negative if the chain has more."""
        return 1 - self.multiply_adds(ranks) / self.multiply_adds()


def layers_of(network: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[Layer]:
    """All linear layers and convolutions, in the network's order. It is run once on `inputs`."""
    import torch
    from torch import nn

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    found = {name: module for name, module in network.named_modules() if isinstance(module, kinds)}
    positions = dict.fromkeys(found, (0, 0))

    def count(name: str, module: nn.Module, given: Tensor, made: Tensor) -> None:
        read, written = positions[name]
        channels_in, channels_out, _ = _shape(module)
        samples = len(inputs[0])
        positions[name] = (
            read + given.numel() // channels_in // samples, written + made.numel() // channels_out // samples,
        )  # fmt: skip

    hooks = [
        module.register_forward_hook(
            lambda layer, given, named, made, name=name: count(name, layer, [*given, *named.values()][0], made),
            with_kwargs=True,  # its one argument may be given as `input=`
        )
        for name, module in found.items()
        if type(module) in kinds  # one of a kind of its own may take whatever it likes, and stays whole
    ]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    shared = tied(network)
    for name, module in found.items():
        obstacle = _obstacle(name, module, positions[name][1] > 0, module in shared)
        yield Layer(name, *_shape(module), *positions[name], obstacle)


def _shape(module: nn.Module) -> tuple[int, int, int]:
    """Input channels, output channels and taps."""
    from torch import nn

    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features, 1
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    return module.in_channels, module.out_channels, math.prod(module.kernel_size)


def _obstacle(name: str, module: nn.Module, called: bool, shared: bool) -> str | None:
    from torch import nn

    if not name:
        return "the network is a single layer"
    if shared:
        return f"{name} shares its weights with another layer"
    if getattr(module, "groups", 1) > 1:
        return f"{name} is a convolution in {module.groups} groups"
    if type(module) not in (nn.Linear, nn.Conv1d, nn.Conv2d):
        return f"{name} is a {type(module).__name__}, whose own code decides what it computes"
    return None if called else f"{name} is not called as a layer, though its weights may be read"


def ranks_by_share(layer: Layer, share: float, multiple: int) -> Ranks | None:
    """The largest ranks, in the proportion of the layer's own channels, with which at least this share of its
    multiply-adds goes; None if there are none, the least rank being `multiple`."""
    steps = math.ceil(max(layer.inputs, layer.outputs) / multiple)
    for step in range(steps, 0, -1):
        ranks = _ranks(layer, layer.inputs * step / steps, layer.outputs * step / steps, multiple)
        if layer.saved(ranks) >= share:
            return ranks
    return None


def ranks_by_energy(layer: Layer, kernel: Tensor, energy: float, multiple: int) -> Ranks:
    """The least ranks that surely keep this share of the squared singular values: of what may be lost, each side may
    lose the half. `kernel`: `[c_out, c_in, *size]`, or `[c_out, c_in]`."""
    if layer.taps == 1:
        return _ranks(layer, layer.inputs, _rank(_unfolded(kernel, 0), 1 - energy), multiple)
    inner, outer = (_rank(_unfolded(kernel, side), (1 - energy) / 2) for side in (1, 0))
    return _ranks(layer, inner, outer, multiple)


def _ranks(layer: Layer, inner: float, outer: float, multiple: int) -> Ranks:
    """Raised to multiples. A side keeps no more than it has, nor than the other side lets the kernel between tell
    apart."""

    def raised(rank: float, channels: int) -> int:
        return min(channels, math.ceil(round(rank / multiple, 9)) * multiple)

    if layer.taps == 1:
        return Ranks(layer.inputs, raised(outer, layer.outputs))
    right = raised(outer, layer.outputs)
    left = min(raised(inner, layer.inputs), right * layer.taps)
    return Ranks(left, min(right, left * layer.taps))


def _unfolded(kernel: Tensor, side: int) -> Tensor:
    """The kernel as a matrix with the channels of one side as rows."""
    return kernel.double().movedim(side, 0).flatten(1)


def _rank(matrix: Tensor, lost: float) -> int:
    """How many singular values hold all but the share `lost` of the sum of squares; at least one."""
    import torch

    squares = torch.linalg.svdvals(matrix).square()
    tails = squares.flip(0).cumsum(0).flip(0)  # what is lost with rank 0, 1, ...
    return max(1, int((tails > lost * tails[0]).sum()))


def chain(layer: nn.Module, ranks: Ranks) -> nn.Sequential:
    """The chain for a layer, with fresh weights."""
    from torch import nn

    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    bias, (inputs, outputs, _) = layer.bias is not None, _shape(layer)
    if isinstance(layer, nn.Linear):
        parts = [nn.Linear(inputs, ranks.outer, bias=False), nn.Linear(ranks.outer, outputs, bias)]
    else:
        conv: Any = type(layer)
        last = ranks.outer < outputs
        parts = [conv(inputs, ranks.inner, 1, bias=False)] if ranks.inner < inputs else []
        parts.append(
            conv(
                ranks.inner, ranks.outer, layer.kernel_size, layer.stride, layer.padding, layer.dilation,
                bias=bias and not last, padding_mode=layer.padding_mode,
            )
        )  # fmt: skip
        parts += [conv(ranks.outer, outputs, 1, bias=bias)] if last else []
    return nn.Sequential(*parts).to(layer.weight.device, layer.weight.dtype).train(layer.training)


def factored(layer: nn.Module, ranks: Ranks) -> nn.Sequential:
    """The chain for a layer, with the weights that bring it nearest."""
    import torch

    found, (inputs, outputs, _) = chain(layer, ranks), _shape(layer)
    kernel = kernel_of(layer).double()
    size = [1] * (kernel.dim() - 2)
    first, last = [], []
    if ranks.outer < outputs:
        basis = torch.linalg.svd(_unfolded(kernel, 0), full_matrices=False).U[:, : ranks.outer]
        kernel = torch.tensordot(basis.T, kernel, 1)  # [outer, c_in, *size]
        last = [basis.reshape(outputs, ranks.outer, *size)]
    if ranks.inner < inputs:
        basis = torch.linalg.svd(_unfolded(kernel, 1), full_matrices=False).U[:, : ranks.inner]
        kernel = torch.tensordot(basis.T, kernel, ([1], [1])).movedim(0, 1)  # [outer, inner, *size]
        first = [basis.T.reshape(ranks.inner, inputs, *size)]
    with torch.no_grad():
        for part, weight in zip(found, (*first, kernel, *last), strict=True):
            kernel_of(part).copy_(weight)
        if layer.bias is not None:
            found[-1].get_parameter("bias").copy_(layer.get_parameter("bias"))
    return found


def kernel_of(layer: nn.Module) -> Tensor:
    """The layer's own weights, `[c_out, c_in, *size]`, without their gradients."""
    return layer.get_parameter("weight").detach()


def put(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Puts a layer in the place of the one that has this name."""
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, layer)


def kept_energy(layer: nn.Module, parts: nn.Sequential, ranks: Ranks) -> float:
    """The share of the kernel's sum of squares that a chain fresh from `factored` has. All but its middle turn only."""
    middle, whole = (
        kernel_of(part).double().square().sum() for part in (parts[1 if ranks.inner < _shape(layer)[0] else 0], layer)
    )
    return float(middle / whole.clamp_min(1e-30))


def does_not_run(network: nn.Module, name: str, ranks: Ranks, inputs: tuple[Tensor, ...]) -> str | None:
    """Why the network does not run with a chain in a layer's place, as a clause; None if it does. It is left as it was:
    code that reads the layer's own weights or sizes shows only when it is tried."""
    layer = network.get_submodule(name)
    wanted = shapes_of(network, inputs)
    put(network, name, chain(layer, ranks))
    try:
        found = shapes_of(network, inputs)
    except Exception as error:  # the network's own code
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return f"the network does not run with {name} in parts: {why}"
    finally:
        put(network, name, layer)
    return None if found == wanted else f"an output would be {found} instead of {wanted}"
