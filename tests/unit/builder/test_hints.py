"""Hints: which layers are compared, how, and what cannot be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from builder.errors import StepError
from builder.hints import Learner, Pair, pairs
from builder.spec_distill import Hint

INPUTS = (torch.zeros(2, 1, 8, 8),)


class Convolutions(nn.Module):
    """Two layers of so many channels, the second one's places halved; then a score for each of 4 classes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, 2, padding=1)
        self.head = nn.Linear(width, 4)
        self.unused = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))  # type: ignore[no-any-return]


def made(match: str, layers: dict[str, str], width: int = 8) -> tuple[nn.Module, Learner, list[Pair]]:
    """A teacher of 8 channels and a student of so many, with the pairs of a hint."""
    torch.manual_seed(0)
    teacher, student = Convolutions(8).requires_grad_(False), Convolutions(width)
    hint = Hint.model_validate({"match": match, "layers": layers, "weight": 2.0})
    found = list(pairs([hint], teacher, student, INPUTS))
    return teacher, Learner(student, [pair.mapped for pair in found]), found


@pytest.mark.parametrize(
    ("match", "layers"),
    [
        ("features", {"second": "second"}),
        ("hidden", {"head": "head"}),
        ("attention", {"first": "first", "second": "second"}),
    ],
)
@pytest.mark.parametrize("width", [4, 8])
def test_layers_are_pulled_together(match: str, layers: dict[str, str], width: int) -> None:
    """Through a linear map where the widths differ, which learns along and is then no part of the student."""
    teacher, learner, found = made(match, layers, width)
    assert len(found) == len(layers)
    mapped = [pair for pair in found if isinstance(pair.mapped, nn.Linear)]
    assert len(mapped) == (width == 4 and match == "features")
    assert [name for name in learner.student.state_dict() if "map" in name] == []
    optimizer = torch.optim.Adam(learner.parameters(), 0.01)
    losses = []
    for step in range(150):
        images = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        teacher(images)
        learner(images)
        loss = torch.stack([pair.loss() for pair in found]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.4 * losses[0]


def test_the_losses_are_relative_and_weighted() -> None:
    for match, layer in (("features", "second"), ("attention", "second"), ("hidden", "head")):
        teacher, learner, [pair] = made(match, {layer: layer})
        images = torch.randn(4, 1, 8, 8)
        learner.student.load_state_dict(teacher.state_dict())
        for scale, expected in ((1.0, 0.0), (0.0, 2.0)):  # the same, and nothing at all
            with torch.no_grad():
                for value in learner.student.get_submodule(layer).parameters():
                    value.mul_(scale)
                teacher(images)
                learner(images)
            assert float(pair.loss().detach()) == pytest.approx(expected, abs=1e-6)


def test_attention_looks_at_places_only() -> None:
    """Twice as strong, in other channels: the same places."""
    teacher, learner, [pair] = made("attention", {"first": "first"})
    with torch.no_grad():
        learner.student.first.weight.copy_(2 * teacher.first.weight.flip(0))
        learner.student.first.bias.copy_(2 * teacher.first.bias.flip(0))
    images = torch.randn(4, 1, 8, 8)
    teacher(images)
    learner(images)
    assert float(pair.loss().detach()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("match", "layers", "sentence"),
    [
        ("features", {"frist": "first"}, r"the teacher has no layer 'frist'; did you mean 'first'\?"),
        ("features", {"first": "body"}, r"the student has no layer 'body'; its layers are first, second, head, unused"),
        ("features", {"unused": "first"}, "the teacher's layer unused does not run by itself; name another"),
        (
            "features",
            {"first": "second"},
            r"`features` cannot compare the teacher's layer first, which gives \[8, 8, 8\], with the student's second, "
            r"which gives \[4, 4, 4\]; name layers that differ in nothing but channels$",
        ),
        ("attention", {"head": "head"}, r"gives \[4\], with .* in nothing but channels, and have places beside them"),
        ("hidden", {"first": "second"}, "`hidden` cannot compare the teacher's layer first"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(match: str, layers: dict[str, str], sentence: str) -> None:
    with pytest.raises(StepError, match=sentence):
        made(match, layers, 4)
