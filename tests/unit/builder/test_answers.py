"""The losses by which a student learns from teachers' answers, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from builder.answers import ANSWERS
from builder.spec_distill import AnswerKind

SCORES = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.25, 3.0]])
LIKELIHOODS = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.25, 1.0]])
SAMPLES: dict[AnswerKind, Tensor] = {
    "scores": SCORES, "likelihoods": LIKELIHOODS, "numbers": SCORES, "huber": SCORES, "embedding": SCORES,
}  # fmt: skip


def loss(kind: AnswerKind, mine: Tensor, theirs: Tensor, temperature: float = 1.0) -> Tensor:
    answer = ANSWERS[kind]
    return answer.loss(mine, answer.said(theirs, temperature), temperature)


@pytest.mark.parametrize("kind", ANSWERS)
def test_who_answers_as_the_teacher_has_no_loss_and_whoever_learns_comes_there(kind: AnswerKind) -> None:
    theirs = SAMPLES[kind]
    assert float(loss(kind, theirs, theirs, 4.0)) == pytest.approx(0, abs=1e-6)
    mine = (theirs.roll(1, 1) * 0.8 + 0.1).clone().requires_grad_()
    start = float(loss(kind, mine, theirs, 4.0).detach())
    assert start > 0.01
    optimizer = torch.optim.Adam([mine], 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss(kind, mine, theirs, 4.0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss(kind, mine, theirs, 4.0).detach()) < 0.1 * start


def test_scores_are_compared_by_the_divergence_of_their_softened_shares() -> None:
    mine, theirs = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    share = math.e / (math.e + 1)  # at a temperature of 4
    expected = 16 * (share * math.log(2 * share) + (1 - share) * math.log(2 * (1 - share)))
    assert float(loss("scores", mine, theirs, 4.0)) == pytest.approx(expected, rel=1e-5)
    assert float(loss("scores", mine.repeat(3, 1), theirs.repeat(3, 1), 4.0)) == pytest.approx(expected, rel=1e-5)
    # A single score is that of the second of two classes.
    assert float(loss("scores", torch.zeros(1, 1), torch.full((1, 1), 4.0), 4.0)) == pytest.approx(expected, rel=1e-5)


def test_a_higher_temperature_tells_more_of_the_unlikely_classes() -> None:
    theirs = torch.tensor([[8.0, 2.0, -2.0]])
    right, wrong = torch.tensor([[8.0, 2.0, -2.0]]), torch.tensor([[8.0, -2.0, 2.0]])
    differences = [float(loss("scores", wrong, theirs, t) - loss("scores", right, theirs, t)) for t in (1.0, 4.0)]
    assert differences[1] > 10 * differences[0]


def test_likelihoods_numbers_and_outliers() -> None:
    one = torch.tensor([[0.5]])
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert float(loss("likelihoods", one, torch.tensor([[0.9]]))) == pytest.approx(expected, rel=1e-5)
    assert math.isfinite(float(loss("likelihoods", torch.tensor([[0.0]]), torch.tensor([[1.0]]))))
    far = torch.tensor([[10.5]])
    assert float(loss("numbers", one, far)) == pytest.approx(100)
    assert float(loss("huber", one, far)) == pytest.approx(9.5)


def test_an_embedding_has_a_direction_and_neighbours_but_no_length() -> None:
    theirs = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(loss("embedding", 5 * theirs, theirs)) == pytest.approx(0, abs=1e-6)
    # Both vectors the same: one is off by a right angle, and so is the cosine of the pair.
    assert float(loss("embedding", torch.tensor([[1.0, 0.0], [1.0, 0.0]]), theirs)) == pytest.approx(0.5 + 0.5)
    # Turned together by a right angle: the neighbours are right, the directions are not.
    turned = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert float(loss("embedding", turned, theirs)) == pytest.approx(1.0)
