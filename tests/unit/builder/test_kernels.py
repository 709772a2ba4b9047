"""Which weights go first, and that they stay away."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from builder.errors import StepError
from builder.kernels import apply, keep_best, kernels, scores, zeros_of


def network() -> nn.Module:
    """Two layers, the weights of the second a hundred times smaller, an embedding and a norm, which are no kernels."""
    torch.manual_seed(0)
    found = nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 10), nn.LayerNorm(10), nn.Linear(10, 6))
    with torch.no_grad():
        found[3].weight.mul_(0.01)
    return found


def zeros(found: nn.Module, by: str, share: float, scope: str) -> list[float]:
    """The share of zeros in each kernel after pruning."""
    apply(keep_best(scores(kernels(found), by, torch.Generator().manual_seed(1)), share, scope), found)
    return [float((value == 0).float().mean()) for value in kernels(found).values()]


def test_shared_weights_are_one_kernel_and_embeddings_none() -> None:
    found = network()
    assert list(kernels(found)) == ["1.weight", "3.weight"]
    found[3].weight = found[1].weight
    assert list(kernels(found)) == ["1.weight"]
    with pytest.raises(StepError, match="no convolution, linear or recurrent layer"):
        kernels(nn.Sequential(nn.Embedding(7, 8), nn.LayerNorm(8)))


def test_one_threshold_takes_from_the_small_layer_and_one_for_each_takes_alike() -> None:
    first, second = zeros(network(), "magnitude", 0.4, "global")
    assert second > 0.9  # nearly all of it is smaller than the first layer's
    assert first * 80 + second * 60 == pytest.approx(56)
    assert zeros(network(), "magnitude", 0.5, "layer") == [0.5, 0.5]


def test_a_layer_is_not_emptied_unless_it_was_empty() -> None:
    with pytest.raises(
        StepError, match=r"a share of 0\.5 leaves 3\.weight not a single weight; ask for less, or write"
    ):
        zeros(network(), "magnitude", 0.5, "global")
    with pytest.raises(StepError, match=r"a share of 0\.999 leaves 1\.weight not a single weight; ask for less$"):
        zeros(network(), "magnitude", 0.999, "layer")
    found = network()
    nn.init.zeros_(found[3].weight)
    assert zeros(found, "magnitude", 0.5, "global") == [pytest.approx((70 - 60) / 80), 1.0]


def test_lamp_spares_the_small_layer() -> None:
    """A layer's scale does not matter."""
    first, second = zeros(network(), "lamp", 0.5, "global")
    assert 0.3 < second < 0.7
    assert first * 80 + second * 60 == pytest.approx(70)
    weight = nn.Parameter(torch.tensor([[3.0, 1.0, -2.0]]))
    ranked = scores({"w": weight}, "lamp", torch.Generator())["w"]
    assert ranked[0].tolist() == pytest.approx([9 / 9, 1 / 14, 4 / 13])


def test_random_is_drawn_from_the_seed_and_not_by_size() -> None:
    first, second = zeros(network(), "random", 0.5, "global")
    assert 0.3 < first < 0.7
    assert 0.3 < second < 0.7
    masks = [scores(kernels(network()), "random", torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(masks[0]["1.weight"], masks[1]["1.weight"])
    assert not torch.equal(masks[0]["1.weight"], masks[2]["1.weight"])


def test_zeros_are_found_again() -> None:
    found = network()
    masks = keep_best(scores(kernels(found), "magnitude", torch.Generator()), 0.3, "global")
    apply(masks, found)
    assert list(zeros_of(found)) == ["3.weight"]  # none of the first layer is among the smallest 30%
    assert torch.equal(zeros_of(found)["3.weight"], masks["3.weight"])
    assert zeros_of(nn.Sequential(nn.LayerNorm(8))) == {}
