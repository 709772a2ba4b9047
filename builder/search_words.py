"""What became of each candidate of a search, and the answer, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from builder.search import Candidate, Known, Space, beaten, combined, first_fit, fits, front, keeps, rungs, twin
from core.optimize_results import CandidateRow, Figures, Targets, Verdict

POINT: Final = 0.01


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


def answer(rows: Sequence[CandidateRow], picked: Sequence[str], targets: Targets, metric: str) -> tuple[str, ...]:
    """What was found, in sentences; or the nearest, and what it would take."""
    measured = {row.variant: row.measured for row in rows if row.measured}
    if picked:
        kept = sum(row.verdict == "kept" for row in rows)
        found = [f"{kept} of {len(measured)} measured candidates keep to all targets; no other beats these:"]
        found += [f"{name}: {facts(measured[name], metric)}{_doubt(measured[name], targets)}." for name in picked]
        return tuple(found)
    waiting = sum(row.verdict == "not tried" for row in rows)
    found = ["No candidate keeps to all targets, so nothing is published."]
    if name := nearest(measured, targets):
        found.append(f"The nearest is {name}: {facts(measured[name], metric)}.")
        found += _needed(measured, targets, name)
    structures = {row.variant: row.estimated for row in rows if row.estimated}
    if structures and not any(fits(figures, targets) for figures in (*structures.values(), *measured.values())):
        least = min(structures, key=lambda name: (structures[name].size_bytes, structures[name].time_ms))
        found.append(
            f"No structure fits, trained or not: even {least} takes {size_words(structures[least].size_bytes)} and "
            f"{time_words(structures[least].time_ms)}."
        )
    if waiting:
        found.append(f"{waiting} candidates were not tried for want of time; a larger --budget may find one.")
    return tuple(found)


def chosen(rows: Sequence[CandidateRow]) -> tuple[str, ...]:
    """The variants to publish: those that are kept and that no other one that is kept beats."""
    kept = {row.variant: row.measured for row in rows if row.verdict == "kept" and row.measured}
    return front(kept)


def nearest(measured: Mapping[str, Figures], targets: Targets) -> str | None:
    """The one whose worst miss, as a multiple of its target, is the least."""
    return min(measured, key=lambda name: _worst(measured[name], targets), default=None)


def _worst(figures: Figures, targets: Targets) -> float:
    found = [0.0]
    if targets.size_bytes is not None:
        found.append(figures.size_bytes / targets.size_bytes)
    if targets.time_ms is not None:
        found.append(figures.time_ms / targets.time_ms)
    if figures.drop is not None:
        found.append(1 + (figures.drop - targets.drop) / max(targets.drop, POINT))
    return max(found)


def _needed(measured: Mapping[str, Figures], targets: Targets, name: str) -> list[str]:
    """What would have to be allowed: one target alone where that would do, else what the nearest one misses."""
    free = {
        "size_bytes": targets.model_copy(update={"size_bytes": None}),
        "time_ms": targets.model_copy(update={"time_ms": None}),
        "drop": targets.model_copy(update={"drop": math.inf}),
    }
    found = []
    for field, others in free.items():
        able = {one: figures for one, figures in measured.items() if fits(figures, others) and keeps(figures, others)}
        if able:
            best = min(able, key=lambda one: getattr(able[one], field))
            found.append(f"{_option(field, able[best])} alone would do ({best})")
    if found:
        return [f"What it would take: {', or '.join(found)}."]
    figures = measured[name]
    wanted = [field for field, others in free.items() if not _meets(field, figures, targets)]
    options = " ".join(_option(one, figures) for one in wanted)
    return [f"No target is to blame alone. {name} would take {options}."]


def _meets(field: str, figures: Figures, targets: Targets) -> bool:
    value, limit = getattr(figures, field), getattr(targets, field)
    return limit is None or (value is not None and value <= limit)


def _option(field: str, figures: Figures) -> str:
    """The option that would let these figures pass, rounded up."""
    match field:
        case "size_bytes":
            return f"--max-size {_up(figures.size_bytes / 1e6)}MB"
        case "time_ms":
            return f"--max-latency {_up(figures.time_ms)}ms"
    return f"--max-drop {_up(100 * (figures.drop or 0.0))}pt"


def _up(value: float) -> str:
    """Two digits that matter, rounded up, never in the form 1e-05."""
    if value <= 0:
        return "0"
    digits = 1 - math.floor(math.log10(value))
    raised = math.ceil(round(value * 10**digits, 6)) / 10**digits
    return f"{raised:.{max(0, digits)}f}"


def facts(figures: Figures, metric: str) -> str:
    """Size, time and loss of a measured candidate."""
    return f"{size_words(figures.size_bytes)}, {time_words(figures.time_ms)}, {loss_words(figures, metric)}"


def _doubt(figures: Figures, targets: Targets) -> str:
    low, high = figures.drop_ci95 or (0.0, 0.0)
    found = ["undecided, since the interval of its loss straddles the limit"] if low <= targets.drop < high else []
    found += ["timed on a busy machine"] if figures.disturbed and targets.time_ms is not None else []
    return f" ({'; '.join(found)})" if found else ""


def loss_words(figures: Figures, metric: str) -> str:
    """What a candidate loses, with its interval, as the end of a sentence."""
    drop, (low, high) = figures.drop or 0.0, figures.drop_ci95 or (0.0, 0.0)
    word = "loses" if drop >= 0 else "gains"
    return f"{word} {abs(100 * drop):.2f} points of {metric} (95% of the loss: {100 * low:+.2f} to {100 * high:+.2f})"


def size_words(count: int) -> str:
    """Bytes for people."""
    if count >= 100_000:
        return f"{count / 1e6:.2f} MB"
    return f"{count / 1e3:.1f} kB" if count >= 1000 else f"{count} byte{'s' * (count != 1)}"


def time_words(value_ms: float) -> str:
    """Milliseconds for people."""
    return f"{value_ms:.3g} ms"
