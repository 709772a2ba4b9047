"""`trident optimize`: searches for variants that keep to targets, and publishes the best of them. Read `optimize`.

Again and again: `search.decide` says from what is known what to look at next, `search_run.look_at` has it built or
timed in the child process (`search_work`) and notes what was found (`search_memory` keeps it for the next run). What
may be looked at stands in `candidates`. At the end `search_fates` says what became of each candidate, `search_answer`
which are chosen; those are written as a spec, and built and published by an ordinary build of that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from builder.build import BuildOptions, build
from builder.candidates import candidates_of
from builder.factory import factory_file
from builder.keys import make_keys
from builder.original import original_record
from builder.search import decide, front
from builder.search_answer import answer, chosen, compared, nearest, one_keeps
from builder.search_fates import fates
from builder.search_run import Search, SearchListener, look_at, techniques_of
from builder.search_words import time_words
from builder.source import hash_input
from builder.spec import Gates
from builder.spec_base import Loss
from builder.spec_file import load_spec
from builder.step import sweep_partial
from builder.teachers import teacher_files
from builder.worker import Workplace, Workshop
from core.errors import RepositoryError
from core.files import write_atomically
from core.machine import describe, now, versions
from core.optimize_results import CandidateRow, OptimizeReport, Targets
from core.results import BuildRow, MetricValue


@dataclass(frozen=True)
class Wishes:
    """What the user wants: the targets, `drop` as in a gate or the spec's own if none is given, and the time that the
    search may take."""

    size_bytes: int | None
    time_ms: float | None
    drop: Loss | None
    budget_s: float


def optimize(spec_file: Path, wishes: Wishes, options: BuildOptions, listener: SearchListener) -> OptimizeReport:
    """Searches, and builds and publishes what was chosen; writes `optimize.json` and, if something was found,
    `optimized.yaml` into the model's folder of artifacts.

    Raises what `build` raises. A candidate that fails becomes a row with its reason.
    """
    try:
        return _optimize(spec_file, wishes, options, listener)
    except OSError as error:
        raise RepositoryError(f"{options.artifacts} cannot be used: {error.strerror or error}") from error


def _optimize(spec_file: Path, wishes: Wishes, options: BuildOptions, listener: SearchListener) -> OptimizeReport:
    started = time.monotonic()
    spec = load_spec(spec_file)
    for student in spec.optimize.students:
        hash_input(factory_file(student), "`optimize.students`", spec.name)
    for file in (file for teacher in spec.optimize.teachers for file in teacher_files(teacher)):
        hash_input(file, "`optimize.teachers`", spec.name)
    if wishes.drop:
        spec = spec.model_copy(update={"gates": Gates(max_drop=wishes.drop)})
    place = Workplace(options.artifacts.absolute() / spec.name, options.artifacts.absolute() / "cache")
    sweep_partial(place.cache)
    workshop = Workshop(place.folder / "build.log")
    try:
        original = original_record(spec, place, workshop, make_keys(spec), lambda: listener.on_start("the original"))
        metric = original.metric
        targets = Targets(
            size_bytes=wishes.size_bytes, time_ms=wishes.time_ms, drop=spec.gates.limit(metric.value),
            drop_given=spec.gates.max_drop,
        )  # fmt: skip
        # What was measured is the same under any gate, so what is remembered has keys without one.
        keys = make_keys(spec.model_copy(update={"gates": Gates()}))
        ends = started + wishes.budget_s
        search = Search(
            spec, candidates_of(spec), targets, metric.name, wishes.budget_s, ends, place, workshop, keys, listener
        )
        while time.monotonic() < ends and (look := decide(search.candidates.space, targets, search.known)):
            look_at(search, look)
    finally:
        workshop.close()
    spent_s = round(time.monotonic() - started, 1)
    rows = _rows(search)
    picked = chosen(rows)
    if picked:
        write_atomically(_spec_file(place), _spec_text(search, spec_file, picked).encode())
        model = build([_spec_file(place)], options, listener.build).models[0]
        rows = [_published(row, {built.variant: built for built in model.rows}, picked, targets) for row in rows]
    report = _report(search, spec_file, rows, picked, metric, spent_s)
    write_atomically(place.folder / "optimize.json", report.to_json())
    return report


def _rows(search: Search) -> list[CandidateRow]:
    ahead = front(search.measured)
    found = fates(search.candidates.space, search.targets, search.known, search.metric)
    return [
        CandidateRow(
            variant=one.variant, base=one.base, compression=one.compression, does=_does(search, one.compression),
            estimated=search.estimated.get(one.variant), measured=search.measured.get(one.variant),
            seconds=round(search.seconds.get(one.variant, 0.0), 2), verdict=fate.verdict, reason=fate.reason,
            on_front=one.variant in ahead,
        )
        for one, fate in found.items()
    ]  # fmt: skip


def _does(search: Search, name: str) -> str:
    """What a compression does, in words; how long it was taught, if it was."""
    if not name:
        return ""
    training, wanted = search.trainings.get(name), search.spec.optimize.train.epochs
    compression = search.candidates.compressions[name]
    how = "taught" if compression.lesson else "trained by the labels"
    return compression.does + (f", {how} for {training.epochs} of {wanted} epochs" if training else "")


def _spec_file(place: Workplace) -> Path:
    return place.folder / "optimized.yaml"


def _spec_text(search: Search, spec_file: Path, picked: tuple[str, ...]) -> str:
    """The spec with the chosen variants, and the baseline that they are compared with."""
    spec = search.spec
    named = {one.variant: one for one in search.candidates.space.candidates}
    compress = {one.compression: techniques_of(search, one) for name in picked if (one := named[name]).compression}
    baseline = "torch_fp32" if spec.checkpoint.onnx is None else "onnx_fp32"
    update = {"compress": compress, "variants": tuple(dict.fromkeys((baseline, *picked))), "imports": {}}
    content = spec.model_copy(update=update).model_dump(mode="json", exclude_defaults=True, exclude={"optimize"})
    head = f"# Written by `trident optimize {spec_file}`. All paths are absolute, so this file may be moved.\n"
    return head + yaml.safe_dump(content, sort_keys=False, width=120)


def _published(
    row: CandidateRow, built: Mapping[str, BuildRow], picked: tuple[str, ...], targets: Targets
) -> CandidateRow:
    """The row with what the build made of it. Times differ from one measurement to the next: what misses its target
    now does not keep to it, though it is published."""
    result = built.get(row.variant) if row.variant in picked else None
    if result is None:
        return row
    if result.status != "published":
        return row.model_copy(update={"reason": f"chosen, but {result.status}: {result.reason}"})
    if targets.time_ms is None or result.time_ms is None or result.time_ms <= targets.time_ms:
        return row.model_copy(update={"published": True})
    taken, allowed = time_words(result.time_ms), time_words(targets.time_ms)
    reason = f"takes {taken} when it is timed again, {allowed} are allowed"
    return row.model_copy(update={"published": True, "verdict": "dropped", "reason": reason})


def _report(
    search: Search,
    spec_file: Path,
    rows: list[CandidateRow],
    picked: tuple[str, ...],
    metric: MetricValue,
    spent_s: float,
) -> OptimizeReport:
    return OptimizeReport(
        created_at=now(),
        model=search.spec.name,
        spec=str(spec_file),
        machine=describe(),
        versions=versions(),
        targets=search.targets,
        original=metric,
        budget_s=search.budget_s,
        spent_s=spent_s,
        answer=answer(rows, picked, search.targets, metric.name),
        found=one_keeps(rows, picked),
        chosen=picked,
        nearest=None if picked else nearest(compared(rows, search.targets), search.targets),
        left_out=search.candidates.left_out,
        built_spec=str(_spec_file(search.place)) if picked else None,
        rows=tuple(rows),
    )
