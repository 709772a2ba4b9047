"""Layers as chains of thinner ones: what is lost, what is saved, and which layers cannot be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from builder.factors import (
    Layer,
    Ranks,
    chain,
    does_not_run,
    factored,
    kept_energy,
    kernel_of,
    layers_of,
    put,
    ranks_by_energy,
    ranks_by_share,
)

LAYERS = {
    "linear": (lambda: nn.Linear(64, 48), (2, 5, 64)),
    "1x1, strided": (lambda: nn.Conv2d(64, 48, 1, 2, bias=False), (2, 64, 9, 9)),
    "3x3, strided": (lambda: nn.Conv2d(32, 48, 3, 2, 1), (2, 32, 9, 9)),
    "5x3, dilated, reflecting": (
        lambda: nn.Conv2d(24, 40, (5, 3), padding="same", dilation=2, padding_mode="reflect"),
        (2, 24, 12, 12),
    ),
    "of one channel": (lambda: nn.Conv1d(1, 64, 31, 4), (2, 1, 128)),
}


def made(kind: str) -> tuple[nn.Module, Tensor, Layer]:
    """A network of one layer, an input, and what it is seen as."""
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    network, x = nn.Sequential(make()), torch.randn(shape)
    (layer,) = layers_of(network, (x,))
    return network[0], x, layer


def error(module: nn.Module, other: nn.Module, x: Tensor) -> float:
    """Of the answers, relative, squared."""
    with torch.no_grad():
        wanted = module(x)
        return float((other(x) - wanted).square().mean() / wanted.square().mean())


def multiply_adds(module: nn.Module, x: Tensor) -> int:
    """As PyTorch counts them, of one sample."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return int(counter.get_total_flops() // 2 // len(x))


@pytest.mark.parametrize("kind", LAYERS)
def test_the_rank_falls_and_the_error_grows(kind: str) -> None:
    module, x, layer = made(kind)
    found = []
    for outer in (24, 16, 8, 2):
        ranks = Ranks(layer.inputs if layer.taps == 1 else max(1, layer.inputs * outer // 24), outer)
        parts = factored(module, ranks)
        assert error(module, parts, x) > 0
        product = _product(parts)
        assert int(torch.linalg.matrix_rank(product.flatten(1))) == min(outer, *kernel_of(module).flatten(1).shape)
        assert multiply_adds(parts, x) == layer.multiply_adds(ranks)
        kept = 1 - float((product - kernel_of(module).double()).square().sum() / kernel_of(module).square().sum())
        assert kept_energy(module, parts, ranks) == pytest.approx(kept, abs=1e-5)
        found.append(error(module, parts, x))
    assert found == sorted(found)
    assert found[-1] > 2 * found[0]
    assert multiply_adds(module, x) == layer.multiply_adds()


def _product(parts: nn.Sequential) -> Tensor:
    """The kernel that a chain amounts to, `[c_out, c_in, *size]` float64."""
    first, *more = (kernel_of(part).double() for part in parts)
    for kernel in more:
        if kernel.shape[2:].numel() == 1:  # a 1x1 layer after the others
            first = torch.tensordot(kernel.flatten(1), first, 1)
        else:
            first = torch.tensordot(kernel, first.flatten(1), ([1], [0])).movedim(-1, 1)
    return first


@pytest.mark.parametrize("kind", LAYERS)
def test_the_energy_that_is_asked_for_is_kept_and_hardly_more(kind: str) -> None:
    module, _, layer = made(kind)
    kept = []
    for energy in (0.5, 0.8, 0.95):
        ranks = ranks_by_energy(layer, kernel_of(module), energy, 1)
        kept.append(kept_energy(module, factored(module, ranks), ranks))
        assert kept[-1] >= energy
        rounded = ranks_by_energy(layer, kernel_of(module), energy, 8)
        most = {*_whole(layer), rounded.inner * layer.taps}
        assert all(rank % 8 == 0 or rank in most for rank in rounded)
        assert all(8 > more - rank >= 0 for more, rank in zip(rounded, ranks, strict=True))
    assert kept == sorted(kept)
    if layer.taps == 1:
        ranks = ranks_by_energy(layer, kernel_of(module), 0.8, 1)
        less = Ranks(ranks.inner, ranks.outer - 1)
        assert kept_energy(module, factored(module, less), less) < 0.8


def _whole(layer: Layer) -> tuple[int, int]:
    return layer.inputs, layer.outputs


def test_a_layer_that_has_a_low_rank_is_found_again_without_loss() -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(32, 48, 3, padding=1)
    core = torch.tensordot(torch.randn(48, 6), torch.randn(6, 4, 3, 3), 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensordot(core, torch.randn(4, 32), ([1], [0])).movedim(-1, 1))
    x = torch.randn(2, 32, 8, 8)
    (layer,) = layers_of(nn.Sequential(module), (x,))
    ranks = ranks_by_energy(layer, kernel_of(module), 0.999999, 1)
    assert ranks == (4, 6)
    assert error(module, factored(module, ranks), x) < 1e-10


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("multiple", [1, 4, 8])
def test_a_share_of_the_arithmetic_goes_and_hardly_more(kind: str, multiple: int) -> None:
    module, x, layer = made(kind)
    for share in (0.2, 0.4, 0.6):
        ranks = ranks_by_share(layer, share, multiple)
        assert ranks is not None
        assert 1 - multiply_adds(chain(module, ranks), x) / multiply_adds(module, x) >= share
        more = Ranks(
            min(layer.inputs, ranks.inner + multiple) if layer.taps > 1 else layer.inputs,
            min(layer.outputs, ranks.outer + multiple),
        )
        assert layer.saved(more) < share
        assert all(rank % multiple == 0 or rank == whole for rank, whole in zip(ranks, _whole(layer), strict=True))
    assert ranks_by_share(layer, 0.999, multiple) is None


class Attention(nn.Module):
    """Layers that cannot be factored, each for another reason, and one that can."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.first, self.second, self.read, self.free = (nn.Linear(16, 16) for _ in range(4))
        self.second.weight = self.first.weight
        self.grouped = nn.Conv1d(16, 16, 3, padding=1, groups=4)
        self.own = Own(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        """`[n, 16, 16] -> [n, 16, 16]`."""
        x = self.attention(x, x, x, need_weights=False)[0] + self.second(self.first(x))
        x = self.read(x).to(self.read.weight.dtype) + self.own(x)
        return self.free(self.grouped(x))


class Own(nn.Linear):
    """A kind of its own."""


def test_layers_that_cannot_be_factored_say_why() -> None:
    network, inputs = Attention().eval(), (torch.randn(2, 16, 16),)
    assert {layer.name: layer.obstacle for layer in layers_of(network, inputs)} == {
        "attention.out_proj": "attention.out_proj is a NonDynamicallyQuantizableLinear, whose own code decides what it "
        "computes",
        "first": "first shares its weights with another layer",
        "second": "second shares its weights with another layer",
        "read": None,
        "free": None,
        "grouped": "grouped is a convolution in 4 groups",
        "own": "own is a Own, whose own code decides what it computes",
    }
    assert not network.free._forward_hooks
    before = network.read
    assert does_not_run(network, "free", Ranks(16, 4), inputs) is None
    assert does_not_run(network, "read", Ranks(16, 4), inputs) == (
        "the network does not run with read in parts: 'Sequential' object has no attribute 'weight'"
    )
    assert network.read is before
    alone = nn.Linear(4, 4)
    (layer,) = layers_of(alone, (torch.randn(1, 4),))
    assert layer.obstacle == "the network is a single layer"
    idle = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    idle.forward = idle["a"].forward  # type: ignore[method-assign]
    assert [layer.obstacle for layer in layers_of(idle, (torch.randn(1, 4),))] == [
        f"{name} is not called as a layer, though its weights may be read" for name in "ab"
    ]


class Keywords(nn.Module):
    """Layers that are called by keyword, the last with one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.own = nn.Linear(16, 16), nn.Conv1d(4, 8, 1), Scaled(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        """`[n, 4, 16] -> [n, 8, 16]`."""
        return self.own(by=2.0, value=self.second(input=self.first(input=x)))


class Scaled(nn.Linear):
    """With an argument more."""

    def forward(self, value: Tensor, by: float) -> Tensor:  # type: ignore[override]
        """`[..., 16] -> [..., 16]`."""
        return super().forward(value) * by


def test_a_layer_may_be_called_by_keyword() -> None:
    network, inputs = Keywords().eval(), (torch.randn(2, 4, 16),)
    first, second, own = layers_of(network, inputs)
    assert (first.read, first.written, first.obstacle) == (4, 4, None)
    assert (second.read, second.written, second.obstacle) == (16, 16, None)
    assert own.obstacle == "own is a Scaled, whose own code decides what it computes"
    assert does_not_run(network, "first", Ranks(16, 4), inputs) is None
    assert does_not_run(network, "second", Ranks(4, 2), inputs) is None


def test_a_layer_that_is_called_twice_counts_twice_and_is_replaced_at_its_place() -> None:
    inner = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
    network = nn.Sequential(inner, inner)
    (layer,) = layers_of(network, (torch.randn(3, 16),))
    assert (layer.name, layer.written, layer.multiply_adds()) == ("0.0", 2, 512)
    put(network, "0.0", nn.Identity())
    assert isinstance(inner[0], nn.Identity)
