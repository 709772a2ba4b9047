"""A linear probe: what a frozen network knows about a task, read out by logistic regression."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def fit_probe(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor, float]:
    """Weight `[classes, k]`, bias `[classes]` and the chosen penalty, from features `[n, k]` and labels `[n]`.

    The penalty on the squared weights is the one that does best on the last sixth of the samples after a fit on the
    others; then all are used. Features share one scale, so that none of small spread gets a huge weight, which would
    multiply the noise of an INT8 trunk.
    """
    held = len(labels) // 6
    scores = []
    for penalty in PENALTIES:
        weight, bias = _fit(features[:-held], labels[:-held], classes, penalty)
        scores.append(accuracy(features[-held:] @ weight.T + bias, labels[-held:]))
    # Of equally good ones the strongest: it has the smallest weights.
    best = max(zip(scores, PENALTIES, strict=True))[1]
    return *_fit(features, labels, classes, best), best


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy as a fraction, of logits `[n, classes]`."""
    return float((logits.argmax(dim=1) == labels).double().mean())


def _fit(features: Tensor, labels: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    scale = features.std(dim=0).mean()
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")
    scaled = features / scale

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(scaled @ weight.T + bias, labels) + penalty * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return (weight / scale).detach(), bias.detach()
