"""What `trident optimize` looks at next, decided from what is known so far. Pure: no network, no file, no clock.

Three things make the search short. Size and time depend on a network's structure and not on its weights, so they are
measured before anything is trained, and what cannot fit is never trained. Both fall along a ladder of ever stronger
compressions, so the first rung that fits is found by halving. Accuracy falls along it too: if the mildest rung that
fits loses too much, the stronger ones lose more; if not, halving finds the strongest that does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from core.optimize_results import Figures, Targets


class Candidate(NamedTuple):
    """A base, such as `openvino_int8`, alone or after a compression."""

    compression: str
    base: str

    @property
    def variant(self) -> str:
        """Its variant's id."""
        return f"{self.compression}_{self.base}" if self.compression else self.base


class Look(NamedTuple):
    """What to do next: `measure` a candidate, training it if need be, or `estimate` its untrained structure."""

    kind: Literal["measure", "estimate"]
    candidate: Candidate


@dataclass(frozen=True)
class Space:
    """All candidates: each base alone, and each rung of each ladder before each base. A ladder names compressions from
    the mildest to the strongest."""

    bases: tuple[str, ...]
    ladders: tuple[tuple[str, ...], ...] = ()

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """In the order in which they are shown."""
        rungs = ("", *(name for ladder in self.ladders for name in ladder))
        return tuple(Candidate(rung, base) for rung in rungs for base in self.bases)


@dataclass(frozen=True)
class Known:
    """What has been found, by variant; `failed` has reasons. `unaffordable`: compressions that the budget does not
    allow to train, with the reason."""

    estimated: Mapping[str, Figures] = field(default_factory=dict)
    measured: Mapping[str, Figures] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    unaffordable: Mapping[str, str] = field(default_factory=dict)


class Rung(NamedTuple):
    """A compression with the candidates of it that fit by size and time. `keeps`: whether one of them keeps the
    accuracy; None while none was measured."""

    compression: str
    candidates: tuple[Candidate, ...]
    keeps: bool | None


def decide(space: Space, targets: Targets, known: Known) -> Look | None:
    """The next thing to look at; None when nothing is left that could tell more.

    First the bases alone, then the structures that decide what fits, then trainings.
    """
    if look := _base_alone(space, known):
        return look
    bases = combined(space, targets, known)
    if look := _structure(space, bases, targets, known):
        return look
    ladders = [rungs(ladder, bases, targets, known) for ladder in space.ladders]
    return _other_base(ladders, known) or _training(ladders, known)


def _base_alone(space: Space, known: Known) -> Look | None:
    """The first base that nothing is known of."""
    done = {*known.measured, *known.failed}
    return next((Look("measure", Candidate("", base)) for base in space.bases if base not in done), None)


def _structure(space: Space, bases: Iterable[str], targets: Targets, known: Known) -> Look | None:
    """The structure in the middle of a ladder's part of which it is not known whether it fits."""
    for ladder in space.ladders:
        for base in bases:
            candidates, low, high = first_fit(ladder, base, targets, known)
            if high - low > 1:
                return Look("estimate", candidates[(low + high) // 2])
    return None


def _other_base(ladders: Iterable[Sequence[Rung]], known: Known) -> Look | None:
    """Another base after a compression that is trained already, which costs little."""
    for rung in (rung for ladder in ladders for rung in ladder if rung.keeps is not None):
        for one in rung.candidates:
            if one.variant not in known.measured:
                return Look("measure", one)
    return None


def _training(ladders: Iterable[Sequence[Rung]], known: Known) -> Look | None:
    """The next training: one of each ladder before a second one of any. Its structure is looked at before."""
    waiting = [(_trained(ladder), rung) for ladder in ladders if (rung := _next(ladder))]
    if not waiting:
        return None
    _, rung = min(waiting, key=lambda found: found[0])
    one = rung.candidates[0]
    return Look("measure" if one.variant in known.estimated else "estimate", one)


def _trained(ladder: Iterable[Rung]) -> int:
    return sum(rung.keeps is not None for rung in ladder)


def combined(space: Space, targets: Targets, known: Known) -> tuple[str, ...]:
    """The bases that compressions are tried before: those that keep the accuracy by themselves, and that no other of
    them beats."""
    able = {base: known.measured[base] for base in space.bases if base in known.measured}
    able = {base: figures for base, figures in able.items() if keeps(figures, targets)}
    return tuple(base for base, figures in able.items() if not beaten(figures, able.values()))


def first_fit(
    ladder: Sequence[str], base: str, targets: Targets, known: Known
) -> tuple[tuple[Candidate, ...], int, int]:
    """The candidates of a ladder that can be made and are no twins, and two places among them: of the last one that is
    known not to fit, and of the first one after it that is known to. Where nothing lies between, all from there fit."""
    able = [one for name in ladder if (one := Candidate(name, base)).variant not in known.failed]
    candidates = tuple(one for one in able if not twin(one, ladder, known))
    answers = [_fits_if_known(one, targets, known) for one in candidates]
    return candidates, *_gap(answers)


def twin(one: Candidate, ladder: Sequence[str], known: Known) -> str | None:
    """A milder compression that comes to the same structure, since the numbers of channels are rounded: their files
    have the same size to the byte."""
    if one.variant not in known.estimated:
        return None
    size_bytes = known.estimated[one.variant].size_bytes
    milder = ladder[: ladder.index(one.compression)]
    found = ((name, known.estimated.get(Candidate(name, one.base).variant)) for name in milder)
    return next((name for name, figures in found if figures and figures.size_bytes == size_bytes), None)


def rungs(ladder: Sequence[str], bases: Iterable[str], targets: Targets, known: Known) -> list[Rung]:
    """The rungs that fit after at least one base and may be trained, the mildest first."""
    fitting: dict[str, list[Candidate]] = {name: [] for name in ladder if name not in known.unaffordable}
    for base in bases:
        candidates, _, first = first_fit(ladder, base, targets, known)
        for one in candidates[first:]:
            if one.compression in fitting:
                fitting[one.compression].append(one)
    return [
        Rung(name, tuple(found), _keeps_if_known(found, targets, known)) for name, found in fitting.items() if found
    ]


def fits(figures: Figures, targets: Targets) -> bool:
    """Whether size and time keep to the targets."""
    small = targets.size_bytes is None or figures.size_bytes <= targets.size_bytes
    return small and (targets.time_ms is None or figures.time_ms <= targets.time_ms)


def keeps(figures: Figures, targets: Targets) -> bool:
    """Whether the accuracy keeps to the target; what was not trained does not."""
    return figures.drop is not None and figures.drop <= targets.drop


def beaten(figures: Figures, others: Iterable[Figures]) -> bool:
    """Whether one of the others is as small, as quick and as accurate, and better in one of these. Accuracy counts as
    equal within the noise of the samples: half the width of the wider interval."""
    return any(_beats(other, figures) for other in others)


def front(measured: Mapping[str, Figures]) -> tuple[str, ...]:
    """The Pareto front of size, time and accuracy."""
    return tuple(name for name, figures in measured.items() if not beaten(figures, measured.values()))


def epochs_that_fit(wanted: int, epoch_s: float, left_s: float) -> int:
    """How many epochs to train for: no training takes more than half of the time that is left, so that others get
    their turn, unless a single epoch does; 0 if not even that fits."""
    if epoch_s > left_s:
        return 0
    return max(1, min(wanted, int(left_s / 2 / epoch_s)))


def _beats(a: Figures, b: Figures) -> bool:
    if a.drop is None or b.drop is None or a.size_bytes > b.size_bytes or a.time_ms > b.time_ms:
        return False
    if (a.size_bytes, a.time_ms) == (b.size_bytes, b.time_ms):
        return a.drop < b.drop
    return a.drop <= b.drop + max(_noise(a), _noise(b))


def _noise(figures: Figures) -> float:
    low, high = figures.drop_ci95 or (0.0, 0.0)
    return (high - low) / 2


def _fits_if_known(candidate: Candidate, targets: Targets, known: Known) -> bool | None:
    if targets.size_bytes is None and targets.time_ms is None:
        return True
    figures = known.measured.get(candidate.variant) or known.estimated.get(candidate.variant)
    return fits(figures, targets) if figures else None


def _keeps_if_known(candidates: Iterable[Candidate], targets: Targets, known: Known) -> bool | None:
    found = [known.measured[one.variant] for one in candidates if one.variant in known.measured]
    return any(keeps(figures, targets) for figures in found) if found else None


def _gap(answers: Sequence[bool | None]) -> tuple[int, int]:
    """Of answers that are no up to some place and yes from there on: the last known no (-1: none), and the first known
    yes after it (their count: none)."""
    low = max((place for place, answer in enumerate(answers) if answer is False), default=-1)
    return low, next((place for place in range(low + 1, len(answers)) if answers[place]), len(answers))


def _next(found: Sequence[Rung]) -> Rung | None:
    """The rung of a ladder to train next: the mildest; once that keeps the accuracy the one in the middle between the
    strongest that does and the mildest that does not."""
    if not found or found[0].keeps is False:
        return None
    if found[0].keeps is None:
        return found[0]
    low, high = _gap([None if rung.keeps is None else not rung.keeps for rung in found])
    return found[(low + high) // 2] if high - low > 1 else None
