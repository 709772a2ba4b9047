"""Two load tests under the same load: what became faster, slower, more or less accurate.

They were made at different times, so nothing is paired but the samples of the served accuracy: the interval of a ratio
comes from resampling the passes of each run on its own. What differs between the runs beside the models (the machine's
mood, for one) is in it; only variants of one run, which take turns, are free of that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final, get_args

import numpy as np

from core.changes import Change, Check, Figure, Judgement, Limit, Outcome, RunComparison
from core.errors import LoadTestError, UsageError
from core.intervals import Scores, paired_difference, unpaired_ratio
from core.load_results import LoadReport, ServedAccuracy
from core.results import Interval, MetricValue
from core.scenario import Protocol, describe_load
from loadtest.verdicts import FIGURES, few_blocks, objection, value_of

Served = Mapping[tuple[str, Protocol], Mapping[int, float]]
"""Variant and protocol -> sample -> its score, of the pass that measures served accuracy."""

GROWS: Final[dict[Figure, bool]] = {"throughput": True, "p50": False, "p99": False, "capacity": True, "accuracy": True}
"""Whether more of a figure is better."""
LIMIT: Final = re.compile(r"(?P<figure>[a-z0-9]+)=(?P<change>[+-]\d+(\.\d+)?)(?P<unit>%|pt)")


class IncomparableError(LoadTestError):
    """Two load tests differ in more than what was served."""


def parse_limit(text: str) -> Limit:
    """A limit as it is typed. Raises UsageError if it is none."""
    match, figures = LIMIT.fullmatch(text), get_args(Figure)
    if not match or match["figure"] not in figures:
        raise UsageError(
            f"{text!r} is no limit; write p99=+5% or accuracy=-0.2pt; the figures are {', '.join(figures)}"
        )
    figure: Figure = match["figure"]  # type: ignore[assignment]  # one of them, as was just checked
    if (match["unit"] == "pt") != (figure == "accuracy"):
        raise UsageError(f"{text!r}: accuracy is limited in points (accuracy=-0.2pt), all else in percent (p99=+5%)")
    change = float(match["change"]) / 100
    if figure != "accuracy" and (change > 0) == GROWS[figure]:
        raise UsageError(f"{text!r} would fail on an improvement; write {figure}={-change * 100:+g}%")
    return Limit(figure=figure, change=change, text=text)


def check_comparable(before: LoadReport, after: LoadReport) -> None:
    """Raises IncomparableError, naming all that differs beside what was served."""
    pairs = (
        ("model", before.model, after.model),
        ("scenario", before.scenario, after.scenario),
        ("seed", before.seed, after.seed),
        ("load generator processes", before.processes, after.processes),
        ("host", _host(before), _host(after)),
        ("server version", before.server_version, after.server_version),
        ("evaluation samples", before.samples_sha256, after.samples_sha256),
    )
    found = [f"{name} ({_short(one)} and {_short(two)})" for name, one, two in pairs if one != two]
    if found:
        raise IncomparableError(f"the two load tests cannot be compared, as they differ in {'; '.join(found)}")


def compare(
    before: LoadReport, after: LoadReport, scores: tuple[Served, Served], limits: Sequence[Limit]
) -> RunComparison:
    """All figures of the variants that both runs have, and what the limits say. Raises IncomparableError, and
    UsageError for a limit to what was not measured."""
    check_comparable(before, after)
    changes = (*_loaded(before, after), *_capacities(before, after), *_accuracies(before, after, scores))
    figures = {change.figure for change in changes}
    if idle := [limit.text for limit in limits if limit.figure not in figures]:
        raise UsageError(f"{', '.join(idle)}: nothing of the kind was measured under scenario {after.scenario.name!r}")
    names = [{window.variant for window in report.windows} for report in (before, after)]
    return RunComparison(
        model=after.model,
        scenario=after.scenario,
        before=before.created_at,
        after=after.created_at,
        changes=changes,
        checks=tuple(
            Check(limit=limit, change=change, outcome=_outcome(limit, change))
            for limit in limits
            for change in changes
            if change.figure == limit.figure
        ),
        missing=tuple(sorted(names[0] ^ names[1])),
    )


def _host(report: LoadReport) -> str:
    machine = report.machine
    memory = f"{machine.memory_bytes / 1e9:.1f} GB"
    return f"{machine.cpu_model}, {machine.cores} cores, {memory}, {', '.join(machine.isa_flags)}, {machine.system}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"


def _loaded(before: LoadReport, after: LoadReport) -> list[Change]:
    found = []
    levels = dict.fromkeys((w.variant, w.protocol, w.users, w.offered_rps) for w in after.windows)
    for level in levels:
        if after.scenario.load.kind == "capacity":
            break  # the rates of two searches are not the same
        one, two = (
            [w for w in report.windows if (w.variant, w.protocol, w.users, w.offered_rps) == level]
            for report in (before, after)
        )
        reason = objection(one) or objection(two)
        for figure in FIGURES if level[3] is None else FIGURES[1:]:
            values = [[value for w in rows if (value := value_of(w, figure))] for rows in (one, two)]
            if all(values):
                found.append(_ratio(level[0], level[1], describe_load(*level[2:]), figure, values, reason))
    return found


def _capacities(before: LoadReport, after: LoadReport) -> list[Change]:
    found = []
    for variant, protocol in dict.fromkeys((row.variant, row.protocol) for row in after.capacity):
        values = [
            [row.rate_rps for row in report.capacity if (row.variant, row.protocol) == (variant, protocol)]
            for report in (before, after)
        ]
        rates = [[rate for rate in rows if rate] for rows in values]
        if all(rates):
            found.append(_ratio(variant, protocol, "", "capacity", rates, ""))
    return found


def _ratio(
    variant: str, protocol: Protocol, load: str, figure: Figure, values: list[list[float]], reason: str
) -> Change:
    """A change from the values of the passes of both runs."""
    one, two = values
    reason = reason or few_blocks(min(len(one), len(two)))
    ratio, (low, high) = unpaired_ratio(two, one) if not reason else (_mean(two) / _mean(one), (0.0, 0.0))
    interval = None if reason else (low - 1, high - 1)
    return Change(
        variant=variant, protocol=protocol, load=load, figure=figure, before=_mean(one), after=_mean(two),
        change=ratio - 1, ci95=interval, judgement=_judge(interval, GROWS[figure]), reason=reason,
    )  # fmt: skip


def _mean(values: list[float]) -> float:
    return float(np.exp(np.log(values).mean()))


def _accuracies(before: LoadReport, after: LoadReport, scores: tuple[Served, Served]) -> list[Change]:
    earlier = {(row.variant, row.protocol): row for row in before.accuracy}
    found = []
    for row in after.accuracy:
        base = earlier.get((row.variant, row.protocol))
        if base is not None and base.metric is not None and row.metric is not None:
            pair = [run.get((row.variant, row.protocol), {}) for run in scores]
            found.append(_accuracy(base, row, base.metric, row.metric, pair))
    return found


def _accuracy(
    base: ServedAccuracy,
    row: ServedAccuracy,
    before: MetricValue,
    after: MetricValue,
    scores: list[Mapping[int, float]],
) -> Change:
    common = sorted(scores[0].keys() & scores[1].keys())
    one, two = (np.array([run[sample] for sample in common]) for run in scores)
    failures = base.failures + row.failures
    change, interval = after.value - before.value, _apart(before, after)
    if common and _binary(one) and _binary(two):
        change, low, high = paired_difference(one, two)
        interval = (low, high)
    return Change(
        variant=row.variant, protocol=row.protocol, load="", figure="accuracy", before=before.value, after=after.value,
        change=change, ci95=interval, reason=f"{failures} requests failed" if failures else "",
        judgement="none" if failures else _judge(interval, after.higher_is_better),
    )  # fmt: skip


def _apart(before: MetricValue, after: MetricValue) -> Interval:
    """Of the difference of two metrics that are not scored sample by sample, as if their samples were not the same:
    wider than need be."""
    one, two = ((metric.ci95[1] - metric.ci95[0]) / 2 for metric in (before, after))
    half, difference = math.hypot(one, two), after.value - before.value
    return difference - half, difference + half


def _binary(scores: Scores) -> bool:
    return bool(np.isin(scores, (0.0, 1.0)).all())


def _judge(interval: Interval | None, grows: bool) -> Judgement:
    if interval is None:
        return "none"
    low, high = interval
    if low <= 0 <= high:
        return "no significant difference"
    return "better" if (low > 0) == grows else "worse"


def _outcome(limit: Limit, change: Change) -> Outcome:
    if change.judgement == "none":
        return "undecided"
    beyond = change.change > limit.change if limit.change > 0 else change.change < limit.change
    if not beyond:
        return "kept"
    return "broken" if change.judgement == "worse" else "undecided"
