"""What became of each candidate of a search, and why. Pure, like `search`, whose decisions it explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from builder.search import Candidate, Known, Space, beaten, combined, first_fit, fits, keeps, rungs, twin
from builder.search_words import loss_words, size_words, time_words
from core.optimize_results import Figures, Targets, Verdict


class Fate(NamedTuple):
    """What became of a candidate, and why if it was not kept."""

    verdict: Verdict
    reason: str = ""


def fates(space: Space, targets: Targets, known: Known, metric: str) -> dict[Candidate, Fate]:
    """What became of every candidate by now."""
    bases = combined(space, targets, known)
    ladder_of = {name: ladder for ladder in space.ladders for name in ladder}

    def fate(one: Candidate) -> Fate:
        if why := known.failed.get(one.variant):
            return Fate("dropped", why)
        if figures := known.measured.get(one.variant):
            missed = misses(figures, targets, metric)
            return Fate("dropped", "; ".join(missed)) if missed else Fate("kept")
        if not one.compression:
            return Fate("not tried", "the search ended before it")
        if one.base not in bases:
            return _left_alone(one.base, space, targets, known, metric)
        ladder = ladder_of[one.compression]
        if same := twin(one, ladder, known):
            return Fate("dropped", f"comes to the same network as {same}")
        return _unfit(one, ladder, targets, known) or _untrained(one, ladder, bases, targets, known, metric)

    return {one: fate(one) for one in space.candidates}


def misses(figures: Figures, targets: Targets, metric: str) -> list[str]:
    """Each target that is missed, with the figure beside it."""
    found = []
    if targets.size_bytes is not None and figures.size_bytes > targets.size_bytes:
        found.append(f"takes {size_words(figures.size_bytes)}, {size_words(targets.size_bytes)} are allowed")
    if targets.time_ms is not None and figures.time_ms > targets.time_ms:
        busy = " on a busy machine" if figures.disturbed else ""
        found.append(f"takes {time_words(figures.time_ms)}{busy}, {time_words(targets.time_ms)} are allowed")
    if figures.drop is not None and not keeps(figures, targets):
        found.append(f"{loss_words(figures, metric)}, {100 * targets.drop:.4g} are allowed")
    return found


def _left_alone(base: str, space: Space, targets: Targets, known: Known, metric: str) -> Fate:
    """Why no compression is tried before a base."""
    if base in known.failed:
        return Fate("dropped", f"{base} could not be made by itself")
    if base not in known.measured:
        return Fate("not tried", f"{base} by itself was not measured in time")
    figures = known.measured[base]
    if not keeps(figures, targets):
        return Fate("dropped", f"{base} by itself {loss_words(figures, metric)} already")
    others = [other for other in space.bases if other in known.measured]
    better = next(other for other in others if beaten(figures, [known.measured[other]]))
    return Fate("dropped", f"{better} is no larger and no slower than {base}, and loses no more")


def _unfit(one: Candidate, ladder: Sequence[str], targets: Targets, known: Known) -> Fate | None:
    """Why a structure is too large or too slow, if it is known to be or a stronger one is."""
    candidates, low, _ = first_fit(ladder, one.base, targets, known)
    place = candidates.index(one)
    if place > low:
        return None
    shown = known.measured.get(candidates[low].variant) or known.estimated[candidates[low].variant]
    own = known.estimated.get(one.variant)
    if own and not fits(own, targets):
        return Fate("dropped", f"{'; '.join(misses(own, targets, ''))} (its structure, before training)")
    words = "; ".join(misses(shown.model_copy(update={"drop": None}), targets, ""))
    return Fate("dropped", f"{candidates[low].compression}, which is stronger, {words}")


def _untrained(
    one: Candidate, ladder: Sequence[str], bases: Sequence[str], targets: Targets, known: Known, metric: str
) -> Fate:
    """Why a structure that fits, or of which that is not known, was not trained."""
    if why := known.unaffordable.get(one.compression):
        return Fate("not tried", why)
    places = {name: place for place, name in enumerate(ladder)}
    for rung in rungs(ladder, bases, targets, known):
        milder = places[rung.compression] < places[one.compression]
        if milder and rung.keeps is False:
            least = min(
                (known.measured[found.variant] for found in rung.candidates if found.variant in known.measured),
                key=lambda figures: figures.drop or 0.0,
            )
            return Fate("dropped", f"{rung.compression}, which is milder, {loss_words(least, metric)} already")
        if not milder and rung.keeps and rung.compression != one.compression:
            return Fate("dropped", f"{rung.compression}, which is stronger, keeps the accuracy as well")
    return Fate("not tried", "the budget was used up before its turn")
