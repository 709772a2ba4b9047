"""The answer of a search: what is chosen; if nothing is, what came nearest and what it would take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from builder.search import fits, front, keeps
from builder.search_words import facts, size_words, time_words
from core.optimize_results import CandidateRow, Figures, Targets

POINT: Final = 0.01


def answer(rows: Sequence[CandidateRow], picked: Sequence[str], targets: Targets, metric: str) -> tuple[str, ...]:
    """What was found, in sentences; or the nearest, and what it would take."""
    measured = {row.variant: row.measured for row in rows if row.measured}
    if picked:
        late = {row.variant: row.reason for row in rows if row.variant in picked and row.verdict == "dropped"}
        kept = sum(row.verdict == "kept" for row in rows)
        head = f"{kept} of {len(measured)} measured candidates keep to all targets; no other beats these:"
        if len(late) == len(picked):
            head = "Nothing that is published keeps to all targets: timed again, it takes longer than is allowed."
        words = {name: f"{name}: {facts(measured[name], metric)}{_doubt(measured[name], targets)}" for name in picked}
        found = [f"{words[name]}." for name in picked if name not in late]
        return (head, *found, *(f"{words[name]}; it is published, but {reason}." for name, reason in late.items()))
    waiting = sum(row.verdict == "not tried" for row in rows)
    found = ["No candidate keeps to all targets, so nothing is published."]
    every = compared(rows, targets)
    if name := nearest(every, targets):
        found.append(f"The nearest is {name}: {_shown(every[name], metric)}.")
        found += _needed(every, targets, name)
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


def one_keeps(rows: Sequence[CandidateRow], picked: Sequence[str]) -> bool:
    """Whether one of the chosen keeps to all targets, at its build as well."""
    return any(row.verdict == "kept" for row in rows if row.variant in picked)


def compared(rows: Sequence[CandidateRow], targets: Targets) -> dict[str, Figures]:
    """What may come nearest: all that was measured; and where no structure fits, so that none was trained, the
    structures as well."""
    measured = {row.variant: row.measured for row in rows if row.measured}
    structures = {row.variant: row.estimated for row in rows if row.estimated and not row.measured}
    trained = [figures for row in rows if row.compression and (figures := row.measured)]
    fit = any(fits(figures, targets) for figures in (*structures.values(), *trained))
    return measured if fit else {**measured, **structures}


def nearest(figures: Mapping[str, Figures], targets: Targets) -> str | None:
    """The one whose worst miss, as a multiple of its target, is the least. Of a structure the loss is not known."""
    return min(figures, key=lambda name: _worst(figures[name], targets), default=None)


def _shown(figures: Figures, metric: str) -> str:
    if figures.drop is not None:
        return facts(figures, metric)
    return f"its structure takes {size_words(figures.size_bytes)} and {time_words(figures.time_ms)}, before training"


def _worst(figures: Figures, targets: Targets) -> float:
    found = [0.0]
    if targets.size_bytes is not None:
        found.append(figures.size_bytes / targets.size_bytes)
    if targets.time_ms is not None:
        found.append(figures.time_ms / targets.time_ms)
    if figures.drop is not None:
        found.append(1 + (figures.drop - targets.drop) / max(targets.drop, POINT))
    return max(found)


def _needed(every: Mapping[str, Figures], targets: Targets, name: str) -> list[str]:
    """What would have to be allowed: what the nearest one misses, if that is a structure; one target alone where that
    would do."""
    free = {
        "size_bytes": targets.model_copy(update={"size_bytes": None}),
        "time_ms": targets.model_copy(update={"time_ms": None}),
        "drop": targets.model_copy(update={"drop": math.inf}),
    }
    found = []
    for field, others in free.items():
        able = {one: figures for one, figures in every.items() if fits(figures, others) and keeps(figures, others)}
        if able:
            best = min(able, key=lambda one: getattr(able[one], field))
            found.append(f"{_option(field, able[best])} alone would do ({best})")
    figures = every[name]
    wanted = [field for field in free if not _meets(field, figures, targets)]
    if figures.drop is None:
        options = " ".join(_option(field, figures) for field in wanted if field != "drop")
        sure = f"; of what was measured, {', or '.join(found)}" if found else ""
        return [f"What it would take: {options}, if its accuracy holds, which was not measured{sure}."]
    if found:
        return [f"What it would take: {', or '.join(found)}."]
    options = " ".join(_option(field, figures) for field in wanted)
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


def _doubt(figures: Figures, targets: Targets) -> str:
    low, high = figures.drop_ci95 or (0.0, 0.0)
    found = ["undecided, since the interval of its loss straddles the limit"] if low <= targets.drop < high else []
    found += ["timed on a busy machine"] if figures.disturbed and targets.time_ms is not None else []
    return f" ({'; '.join(found)})" if found else ""
