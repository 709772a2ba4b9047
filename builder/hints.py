"""Hints: layers of a student that are to give what layers of a teacher give. PyTorch is imported with this module."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from builder.errors import StepError
from builder.losses import outputs_of
from builder.spec_distill import Hint

Taps = dict[str, Tensor]
"""A layer's name to what it gave in the network's last run."""


class Learner(nn.Module):
    """A student, and the linear maps through which its layers are compared with a teacher's: trained together, after
    which the maps have done their work."""

    def __init__(self, student: nn.Module, maps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.student = student
        self.maps = nn.ModuleList(maps)

    def forward(self, *inputs: Tensor) -> object:
        """What the student answers."""
        return self.student(*inputs)


@dataclass(frozen=True)
class Pair:
    """A student's layer (`mine`) that learns from a teacher's (`theirs`); `mapped` leads to as many channels."""

    hint: Hint
    theirs: str
    mine: str
    taps: tuple[Taps, Taps]  # the teacher's and the student's
    mapped: nn.Module

    def loss(self) -> Tensor:
        """Of the networks' last run, weighted, `[]`."""
        theirs, mine = self.taps[0][self.theirs], self.taps[1][self.mine]
        return self.hint.weight * MATCHES[self.hint.match](theirs, mine, self.mapped)


def pairs(hints: Sequence[Hint], teacher: nn.Module, student: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[Pair]:
    """The pairs of layers that the hints name. `inputs` are an example of the arguments of both.

    Raises StepError for a layer that is not there, or does not run, and for two that cannot be compared.
    """
    import torch

    if not hints:
        return
    taps = (
        tapped(teacher, [name for hint in hints for name in hint.layers], "teacher"),
        tapped(student, [name for hint in hints for name in hint.layers.values()], "student"),
    )
    with torch.no_grad():
        teacher(*inputs)
        student(*inputs)
    for hint in hints:
        for theirs, mine in hint.layers.items():
            for name, found, who in ((theirs, taps[0], "teacher"), (mine, taps[1], "student")):
                if name not in found:
                    raise StepError(f"the {who}'s layer {name} does not run by itself; name another one in `hints`")
            shapes = list(taps[0][theirs].shape), list(taps[1][mine].shape)
            channels = -1 if hint.match == "hidden" else 1
            widths = [shape.pop(channels) for shape in shapes]
            if shapes[0] != shapes[1] or (hint.match == "attention" and len(shapes[0]) < 2):
                gives = [list(found[name].shape[1:]) for found, name in zip(taps, (theirs, mine), strict=True)]
                raise StepError(
                    f"`{hint.match}` cannot compare the teacher's layer {theirs}, which gives {gives[0]}, with the "
                    f"student's {mine}, which gives {gives[1]}; name layers that differ in nothing but channels"
                    f"{', and have places beside them' if hint.match == 'attention' else ''}"
                )
            same = widths[0] == widths[1] or hint.match == "attention"
            mapped = nn.Identity() if same else nn.Linear(widths[1], widths[0])
            yield Pair(hint, theirs, mine, taps, mapped)


def tapped(network: nn.Module, layers: Sequence[str], who: str) -> Taps:
    """What the layers gave in the network's last run; empty before the first. Raises StepError for an unknown one."""
    modules = dict(network.named_modules())
    found: Taps = {}

    def note(name: str) -> Callable[[nn.Module, object, Tensor | tuple[Tensor, ...]], None]:
        return lambda module, inputs, result: found.update({name: outputs_of(result)[0]})  # noqa: ARG005

    for name in dict.fromkeys(layers):
        if name not in modules:
            close = difflib.get_close_matches(name, modules, 1)
            some = ", ".join([name for name in modules if name][:6])
            hint = f"did you mean {close[0]!r}?" if close else f"its layers are {some}, ..."
            raise StepError(f"the {who} has no layer {name!r}; {hint}")
        modules[name].register_forward_hook(note(name))
    return found


def _hidden(theirs: Tensor, mine: Tensor, mapped: nn.Module) -> Tensor:
    """The squared error, relative to the teacher's energy; in the last axis are the channels."""
    theirs, mine = theirs.float(), mapped(mine).float()
    return (mine - theirs).square().mean() / theirs.square().mean().clamp_min(1e-12)


def _features(theirs: Tensor, mine: Tensor, mapped: nn.Module) -> Tensor:
    """The same where the channels come first: Romero et al., "FitNets" (arXiv:1412.6550)."""
    return _hidden(theirs.movedim(1, -1), mine.movedim(1, -1), mapped)


def _attention(theirs: Tensor, mine: Tensor, mapped: nn.Module) -> Tensor:  # noqa: ARG001
    """How far the places lie apart at which the layers are strong, whatever their channels: Zagoruyko and Komodakis,
    "Paying More Attention to Attention" (arXiv:1612.03928)."""
    maps = [
        nn.functional.normalize(value.float().square().mean(1).flatten(1), dim=1)  # [n, places]
        for value in (theirs, mine)
    ]
    return (maps[0] - maps[1]).square().sum(1).mean()


MATCHES: Final = {"features": _features, "hidden": _hidden, "attention": _attention}
