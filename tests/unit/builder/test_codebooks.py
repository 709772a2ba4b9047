"""Weights that share values: how they are chosen, that training keeps them shared, and what they would take."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from builder.codebooks import cluster, index_bits, index_of, moving_together, shared_bytes


def kernel(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_values_are_few_each_the_mean_of_its_weights_and_each_weight_has_the_nearest(bits: int) -> None:
    weights = kernel(40, 30)
    shared = cluster(weights, bits)
    values, indices = index_of(shared)
    assert len(values) <= 2**bits
    assert len(values) > 2**bits * 0.7
    assert torch.equal(values[indices].view(40, 30), shared)
    nearest = (weights.flatten()[:, None] - values).abs().argmin(1)
    assert torch.equal(nearest, indices)
    means = torch.stack([weights.flatten()[indices == index].mean() for index in range(len(values))])
    assert torch.allclose(means, values, atol=1e-6)


def test_more_bits_are_nearer_and_few_values_stay_as_they_are() -> None:
    weights = kernel(40, 30)
    errors = [float((cluster(weights, bits) - weights).square().mean()) for bits in (1, 2, 3, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 1000
    coarse = (weights * 2).round() / 2
    assert len(coarse.unique()) < 2**4 < len(weights.unique())
    assert torch.equal(cluster(coarse, 8), coarse)


def test_zeros_stay_zeros_and_take_one_of_the_values() -> None:
    weights = kernel(40, 30)
    weights[:, ::2] = 0  # whatever lies beside them
    shared = cluster(weights, 2)
    assert torch.equal(shared == 0, weights == 0)
    assert len(shared.unique()) == 4
    assert torch.equal(cluster(torch.zeros(3, 3), 4), torch.zeros(3, 3))


def test_weights_that_share_a_value_move_by_their_mean_gradient_and_stay_together() -> None:
    network = nn.Linear(30, 5)
    with torch.no_grad():
        network.weight.copy_(cluster(kernel(5, 30), 2))
    before, indices = index_of(network.weight)
    x, y = kernel(64, 30), kernel(64, 5).flip(0)

    def loss() -> torch.Tensor:
        return (network(x) - y).square().mean()

    loss().backward()  # type: ignore[no-untyped-call]
    assert network.weight.grad is not None
    free = network.weight.grad.clone()
    network.zero_grad()
    with moving_together({"weight": network.weight}):
        first = loss().item()
        loss().backward()  # type: ignore[no-untyped-call]
        for index in range(4):
            mine = (indices == index).view(5, 30)
            assert torch.allclose(network.weight.grad[mine], free[mine].mean(), atol=1e-6)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
        for _ in range(20):
            optimizer.zero_grad()
            loss().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            network.weight[0, 0] += 1e-6  # as a kernel of another width might round
    assert loss().item() < first
    after, same = index_of(network.weight)
    assert torch.equal(same, indices)
    assert not torch.allclose(after, before)
    network.zero_grad()
    loss().backward()  # type: ignore[no-untyped-call]
    assert len(network.weight.grad.unique()) > 100  # nothing is left of it


@pytest.mark.parametrize("bits", [1, 3, 4, 8])
def test_the_size_is_that_of_a_file_that_gives_the_weights_back(bits: int) -> None:
    network = nn.Sequential(nn.Conv2d(8, 20, 3), nn.BatchNorm2d(20), nn.Linear(20, 3))
    with torch.no_grad():
        network[0].weight.copy_(cluster(network[0].weight, bits))
    values, indices = (part.numpy() for part in index_of(network[0].weight))
    width = index_bits(len(values))
    packed = np.packbits((indices[:, None] >> np.arange(width)) & 1)
    book = values.tobytes()
    again = np.packbits(np.unpackbits(packed)[: len(indices) * width].reshape(-1, width), axis=1, bitorder="little")
    assert np.array_equal(np.frombuffer(book, np.float32)[again[:, 0]], network[0].weight.detach().numpy().ravel())
    rest = 4 * (20 + 4 * 20 + 63) + 8  # biases and norm, the last layer, which shares nothing, and a count of batches
    assert shared_bytes(network) == len(book) + len(packed) + rest
    assert width <= bits


def test_what_shares_nothing_takes_what_it_takes() -> None:
    network = nn.Sequential(nn.Linear(30, 40), nn.LayerNorm(40))
    assert shared_bytes(network) == 4 * (1200 + 40 + 80)
    assert shared_bytes(nn.LayerNorm(40)) == 4 * 80
    twice = nn.Sequential(network[0], nn.Linear(30, 40))
    twice[1].weight = twice[0].weight
    assert shared_bytes(twice) == 4 * (1200 + 80)
    assert [index_bits(count) for count in (1, 2, 3, 4, 5, 16, 17, 256)] == [1, 1, 2, 2, 3, 4, 5, 8]
    assert math.log2(256) == index_bits(256)
