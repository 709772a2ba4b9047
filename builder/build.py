"""The build: each variant of a spec is made, verified and, if it passes its gates, published. Read `build_model`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from builder.advice import gentler, int8_advice
from builder.artifact import FILES
from builder.errors import PublishError
from builder.keys import Keys, make_keys
from builder.original import original_record
from builder.passport import make_passport
from builder.planner import facts_here
from builder.recipes import Recipe, recipes_of, unavailable
from builder.related import related
from builder.repository import Package, Repository, remedy
from builder.spec import ModelSpec
from builder.spec_file import load_spec
from builder.step import sweep_partial
from builder.triton_config import make_config
from builder.worker import Built, Workplace, Workshop, build_variant, time_variant
from core.errors import InputError, RepositoryError
from core.files import write_atomically
from core.machine import describe, isa_flags, now, versions
from core.results import BuildReport, BuildRow, Costs, ModelBuild, ResultModel, Sha256


class Record(ResultModel):
    """`artifacts/<model>/records/<variant>.json`: a row, and the key of all that decided it."""

    build_key: Sha256
    row: BuildRow


@dataclass(frozen=True)
class BuildOptions:
    """Where things go. `retire` removes a rejected variant's older version, `prune` variants gone from the spec;
    `retime` measures the times of unchanged variants again."""

    repository: Path
    artifacts: Path
    staging: Path | None = None
    retire: bool = False
    prune: bool = False
    retime: bool = False


@dataclass(frozen=True)
class Listener:
    """Told of progress: `on_start(model, what)`, `on_row(model, row)`, and before any INT8 variant is built
    `on_advice(model, sentences)`; `on_warning(model, sentences)` of what most likely is a mistake."""

    on_start: Callable[[str, str], None] = lambda model, what: None  # noqa: ARG005
    on_row: Callable[[str, BuildRow], None] = lambda model, row: None  # noqa: ARG005
    on_advice: Callable[[str, tuple[str, ...]], None] = lambda model, sentences: None  # noqa: ARG005
    on_warning: Callable[[str, tuple[str, ...]], None] = lambda model, sentences: None  # noqa: ARG005


@dataclass
class _ModelBuilder:
    """What the variants of one model share while they are built."""

    spec: ModelSpec
    options: BuildOptions
    repository: Repository
    place: Workplace
    workshop: Workshop
    keys: Keys
    listener: Listener = field(default_factory=Listener)


def build(spec_files: list[Path], options: BuildOptions, listener: Listener) -> BuildReport:
    """Builds every spec and writes `build-report.json`. All specs are read before anything is built.

    Raises SpecError, DataError and CheckpointError for input that cannot be used, PublishError when the repository
    cannot be written. A variant that fails becomes a row; the others go on.
    """
    try:
        return _build(spec_files, options, listener)
    except OSError as error:
        # What concerns the repository has been turned into a PublishError before; this is the folder of artifacts.
        raise RepositoryError(f"{options.artifacts} cannot be used: {remedy(error, '--artifacts')}") from error


def _build(spec_files: list[Path], options: BuildOptions, listener: Listener) -> BuildReport:
    specs = [load_spec(path) for path in spec_files]
    names = [spec.name for spec in specs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"the name {twice.pop()!r} stands in two specs; a model's name must be its own")
    for spec in specs:
        keys = make_keys(spec)  # every checkpoint, data file and import is found before anything is built
        for recipe in recipes_of(spec):
            keys.of(recipe)
    models = tuple(build_model(path, spec, options, listener) for path, spec in zip(spec_files, specs, strict=True))
    report = BuildReport(
        created_at=now(),
        machine=describe(),
        versions=versions(),
        repository=str(options.repository),
        models=models,
    )
    write_atomically(options.artifacts / "build-report.json", report.to_json())
    return report


def build_model(spec_file: Path, spec: ModelSpec, options: BuildOptions, listener: Listener) -> ModelBuild:
    """One spec from checkpoint to published variants."""
    place = Workplace(options.artifacts.absolute() / spec.name, options.artifacts.absolute() / "cache")
    workshop = Workshop(place.folder / "build.log")
    sweep_partial(place.cache)
    repository = Repository.at(options.repository, options.staging)
    builder = _ModelBuilder(spec, options, repository, place, workshop, make_keys(spec), listener)
    advice = int8_advice(isa_flags()) if any("int8" in variant for variant in spec.variants) else ()
    try:
        original = original_record(
            spec, place, workshop, builder.keys, lambda: listener.on_start(spec.name, "the original")
        )
        if original.warnings:
            listener.on_warning(spec.name, original.warnings)
        if advice:
            listener.on_advice(spec.name, advice)
        rows = []
        for recipe in recipes_of(spec):
            rows.append(_row(builder, recipe))
            listener.on_row(spec.name, rows[-1])
    finally:
        workshop.close()
    baseline = "torch_fp32" if spec.checkpoint.onnx is None else "onnx_fp32"
    model = ModelBuild(
        model=spec.name,
        spec=str(spec_file),
        source_sha256=builder.keys.source,
        baseline_variant=baseline,
        evaluation_samples=original.metric.samples,
        original=original.metric,
        original_runtime=spec.checkpoint.runtime,
        original_parameters=original.parameters,
        advice=advice,
        warnings=original.warnings,
        rows=related(rows, baseline),
        stale=_stale(builder),
    )
    write_atomically(place.folder / "build.json", model.to_json())
    return model


def _row(builder: _ModelBuilder, recipe: Recipe) -> BuildRow:
    """Builds one variant, or finds that nothing has to be done. This is the boundary that turns errors into rows."""
    spec, started = builder.spec, time.monotonic()
    name, key = spec.triton_name(recipe.variant), builder.keys.of(recipe)
    empty = BuildRow(variant=recipe.variant, status="failed", triton_name=name)
    if reason := unavailable(spec, recipe):
        return empty.model_copy(update={"status": "unavailable", "reason": reason})
    if row := _from_cache(builder, recipe, key):
        return _retimed(builder, recipe, key, row) if builder.options.retime and row.timing else row
    builder.listener.on_start(spec.name, recipe.variant)
    try:
        built = builder.workshop.run(
            build_variant, spec, recipe, builder.place, builder.keys.source,
            on_epoch=lambda line: builder.listener.on_start(spec.name, f"{recipe.variant}, {line}"),
        )  # fmt: skip
        row = _publish(builder, recipe, key, built)
    except (PublishError, OSError):
        raise  # neither is this variant's own fault, and the next one would meet it too
    except Exception as error:
        return empty.model_copy(update={"reason": builder.workshop.reason(error)})
    row = row.model_copy(update={"build_seconds": round(time.monotonic() - started, 2)})
    write_atomically(_record_path(builder, recipe), Record(build_key=key, row=row).to_json())
    return row


def _retimed(builder: _ModelBuilder, recipe: Recipe, key: str, row: BuildRow) -> BuildRow:
    """The row with its times and speed-up measured anew, and config.pbtxt planned by them. The passport keeps those of
    the day that it was written."""
    builder.listener.on_start(builder.spec.name, f"{recipe.variant}, its time")
    timing, costs = builder.workshop.run(time_variant, builder.spec, recipe, builder.place)
    measured = {"timing": timing, "time_ms": timing.time_ms, "speedup": timing.speedup, "costs": costs}
    row = row.model_copy(update=measured)
    if row.status == "published":
        _replan(builder, recipe, row)
    write_atomically(_record_path(builder, recipe), Record(build_key=key, row=row).to_json())
    return row


def _record_path(builder: _ModelBuilder, recipe: Recipe) -> Path:
    return builder.place.folder / "records" / f"{recipe.variant}.json"


def _from_cache(builder: _ModelBuilder, recipe: Recipe, key: str) -> BuildRow | None:
    """The recorded row, if it still holds: same key, and the published version still there and intact."""
    try:
        record = Record.model_validate_json(_record_path(builder, recipe).read_bytes())
    except (OSError, ValidationError):
        return None
    if record.build_key != key or not builder.place.outputs(recipe.variant).is_file():
        return None
    row = record.row
    if row.status == "published":
        version = builder.repository.published(row.triton_name, key)
        passport = builder.repository.passport(row.triton_name, version) if version else None
        if passport is None:
            return None
        _replan(builder, recipe, row)
    elif builder.options.retire:
        _retire(builder, row.triton_name)
    return row.model_copy(update={"from_cache": True, "build_seconds": 0.0})


def _replan(builder: _ModelBuilder, recipe: Recipe, row: BuildRow) -> None:
    """Replaces config.pbtxt where the spec's wishes, the server's cores or the measured times make another one."""
    config = builder.repository.as_held(row.triton_name, _config(builder, recipe, row.costs))
    if not builder.repository.has_config(row.triton_name, config):
        with builder.repository.locked(_waiting(builder)):
            builder.repository.update_config(row.triton_name, config)


def _waiting(builder: _ModelBuilder) -> Callable[[], None]:
    return lambda: builder.listener.on_start(builder.spec.name, "waiting for another build to publish")


def _config(builder: _ModelBuilder, recipe: Recipe, costs: Costs | None) -> str:
    facts = facts_here(builder.spec.serving, costs)
    return make_config(builder.spec, recipe.variant, recipe.produces, builder.keys.source, facts)


def _publish(builder: _ModelBuilder, recipe: Recipe, key: str, built: Built) -> BuildRow:
    """Publishes what passed its gates; gives the row either way."""
    spec, verdict, artifact = builder.spec, built.verdict, built.artifact
    name = spec.triton_name(recipe.variant)
    row = BuildRow(
        variant=recipe.variant,
        status="published",
        triton_name=name,
        accuracy=verdict.metric.value,
        time_ms=built.timing.time_ms,
        size_bytes=artifact.size_bytes,
        speedup=built.timing.speedup,
        verdict=verdict,
        timing=built.timing,
        costs=built.costs,
        graph=built.graph,
        shared_bytes=built.shared_bytes,
        layers=built.layers,
        history=artifact.history,
    )
    if not verdict.passed:
        if builder.options.retire:
            _retire(builder, name)
        gate = next(gate for gate in verdict.gates if not gate.passed)
        reason = f"loses {gate.value * 100:.2f} points of {verdict.metric.name}, {gate.limit * 100:.4g} are allowed"
        if gate.undecided:
            low, high = (100 * bound for bound in gate.ci95)
            reason += f"; undecided: the 95% interval is {low:.2f} to {high:.2f}, more evaluation samples would tell"
        reason += gentler(recipe.variant, spec.variants)
        return row.model_copy(update={"status": "rejected", "reason": reason})
    package = Package(
        triton_name=name,
        passport=make_passport(spec, recipe, builder.keys, key, built),
        files=dict(zip(FILES[artifact.format], artifact.files, strict=True)),
        golden=built.golden,
        config=_config(builder, recipe, built.costs),
        keep_versions=spec.serving.keep_versions,
    )
    with builder.repository.locked(_waiting(builder)):
        version = builder.repository.publish(package)
    return row.model_copy(update={"version": version})


def _retire(builder: _ModelBuilder, name: str) -> None:
    if name in builder.repository.models():
        with builder.repository.locked(_waiting(builder)):
            builder.repository.retire(name)


def _stale(builder: _ModelBuilder) -> tuple[str, ...]:
    """This model's variants that are published but no longer in the spec; removed with `prune`."""
    repository, wanted = builder.repository, {builder.spec.triton_name(v) for v in builder.spec.all_variants}
    stale = []
    for name in repository.models():
        passport = repository.passport(name, max(repository.versions(name), default=0))
        if passport and passport.model == builder.spec.name and name not in wanted:
            stale.append(name)
            if builder.options.prune:
                _retire(builder, name)
    return () if builder.options.prune else tuple(stale)
