"""What a student learns from teachers' answers: for each kind of output, what is averaged over the teachers, and the
loss that tells how far the student's answer lies from that mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from builder.spec_distill import AnswerKind

if TYPE_CHECKING:
    from torch import Tensor


class Answer(NamedTuple):
    """`said`: a teacher's output `[n, values]` and the temperature, to what is averaged. `loss`: the student's output
    `[n, values]`, that mean and the temperature, to a mean over samples, `[]`."""

    said: Callable[[Tensor, float], Tensor]
    loss: Callable[[Tensor, Tensor, float], Tensor]


def _shares(scores: Tensor, temperature: float) -> Tensor:
    return (_classes(scores) / temperature).softmax(1)


def _divergence(scores: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """The Kullback-Leibler divergence at a temperature, by whose square it is multiplied, so that its gradients do not
    shrink beside those of the labels: Hinton et al., "Distilling the Knowledge in a Neural Network"
    (arXiv:1503.02531)."""
    from torch.nn import functional

    mine = (_classes(scores) / temperature).log_softmax(1)
    return functional.kl_div(mine, wanted, reduction="batchmean").mul(temperature**2)


def _classes(scores: Tensor) -> Tensor:
    """A single score tells two classes apart: the other one's is 0."""
    import torch

    return torch.cat([torch.zeros_like(scores), scores], 1) if scores.shape[1] == 1 else scores


def _as_it_is(values: Tensor, temperature: float) -> Tensor:  # noqa: ARG001
    return values


def _binary(likelihoods: Tensor, wanted: Tensor, temperature: float) -> Tensor:  # noqa: ARG001
    """The binary divergence of each value, a mean over all: 0 where the two are equal."""
    from torch import special

    mine, yours = (value.clamp(1e-6, 1 - 1e-6) for value in (likelihoods, wanted))
    cross = special.xlog1py(1 - yours, -mine) + special.xlogy(yours, mine)
    own = special.xlog1py(1 - yours, -yours) + special.xlogy(yours, yours)
    mean: Tensor = (own - cross).mean()
    return mean


def _squared(numbers: Tensor, wanted: Tensor, temperature: float) -> Tensor:  # noqa: ARG001
    return (numbers - wanted).square().mean()


def _huber(numbers: Tensor, wanted: Tensor, temperature: float) -> Tensor:  # noqa: ARG001
    from torch.nn import functional

    return functional.huber_loss(numbers, wanted)


def _direction(vectors: Tensor, temperature: float) -> Tensor:  # noqa: ARG001
    from torch.nn import functional

    return functional.normalize(vectors, dim=1)


def _embedding(vectors: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """The cosine distance to the teacher's vector, and the squared difference between the cosines of all pairs in the
    batch: Tung and Mori, "Similarity-Preserving Knowledge Distillation" (arXiv:1907.09682)."""
    mine, yours = _direction(vectors, temperature), _direction(wanted, temperature)
    return (1 - (mine * yours).sum(1)).mean() + (mine @ mine.T - yours @ yours.T).square().mean()


ANSWERS: Final[dict[AnswerKind, Answer]] = {
    "scores": Answer(_shares, _divergence),
    "likelihoods": Answer(_as_it_is, _binary),
    "numbers": Answer(_as_it_is, _squared),
    "huber": Answer(_as_it_is, _huber),
    "embedding": Answer(_direction, _embedding),
}
