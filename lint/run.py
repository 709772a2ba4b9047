"""All rules over all models."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import RepositoryError
from lint import reading, rules_batching, rules_ensembles, rules_layout, rules_resources, rules_tensors, rules_versions
from lint.check import Check, Context, Hit
from lint.finding import SEVERITIES, Finding, Rule, Severity
from lint.reading import MAX_CONFIG_BYTES, read_config
from lint.releases import NEWEST, WHEEL, Release, find_release
from lint.repository import CONFIG, ENSEMBLE, Model, model_folders, read_model

TARGET: Final = "trident.target"
"""The parameter by which a configuration made by Trident says what it is written for: `wheel` or `nvidia`."""
_MODULES: Final = (rules_layout, rules_batching, rules_tensors, rules_resources, rules_ensembles, rules_versions)
RULES: Final[dict[str, Rule]] = {
    rule.code: rule for rules in (reading.RULES, *(module.RULES for module in _MODULES)) for rule in rules
}
CHECKS: Final[tuple[Check, ...]] = tuple(check for module in _MODULES for check in module.CHECKS)


@dataclass(frozen=True)
class Report:
    """What was looked at, and what was found, in the order of files and lines."""

    path: Path
    release: Release
    models: int
    findings: tuple[Finding, ...]


def lint(path: Path, release: Release, cores: int) -> Report:
    """Reads a repository, or one model of one, and finds its faults for a server of this release on so many cores.
    Nothing is started or run. Raises RepositoryError if the path cannot be listed."""
    models, context = read(path, release, cores)
    findings = [finding for model in models for finding in check_model(model, context)]
    findings.sort(key=lambda found: (str(found.file), found.line, found.column, found.code, found.message))
    return Report(path, release, len(models), tuple(dict.fromkeys(findings)))


def release_for(name: str | None, path: Path) -> Release:
    """The release of this name; without one, that which the first model with a `trident.target` was written for, else
    the newest. Raises UsageError for a name that is not known, RepositoryError if the path cannot be listed."""
    if name is not None:
        return find_release(name)
    for folder in model_folders(path)[1]:
        if not _mentions_target(folder / CONFIG):
            continue
        config = read_config(folder / CONFIG, folder.name, NEWEST).config
        target = config.parameter(TARGET) if config else ""
        if target:
            return find_release(WHEEL) if target == WHEEL else NEWEST
    return NEWEST


def _mentions_target(path: Path) -> bool:
    """Whether a file is worth parsing for its target: a quick look, since most repositories have none."""
    try:
        about = path.stat()
        regular = stat.S_ISREG(about.st_mode) and about.st_size <= MAX_CONFIG_BYTES
        return regular and TARGET.encode() in path.read_bytes()
    except OSError:
        return False


def read(path: Path, release: Release, cores: int) -> tuple[tuple[Model, ...], Context]:
    """The models that a path names, and what surrounds them. Raises RepositoryError."""
    repository, folders = model_folders(path)
    models = {folder.name: read_model(folder, release) for folder in folders}
    return tuple(models.values()), Context(
        repository, {**_called(models, repository, release), **models}, release, cores
    )


def checked(folder: Path, release: Release, cores: int) -> tuple[Model, Context, tuple[Finding, ...]]:
    """One model by its folder, and what is wrong with it. Raises RepositoryError if that is not a model's folder."""
    models, context = read(folder, release, cores)
    if len(models) != 1 or models[0].folder != folder.absolute():
        raise RepositoryError(f"{folder} holds no config.pbtxt, so it is not one model; name a model's folder")
    return models[0], context, tuple(check_model(models[0], context))


def check_model(model: Model, context: Context) -> Iterator[Finding]:
    """The faults of one model."""
    yield from model.reading
    for check in CHECKS:
        try:
            for hit in check(model, context):
                yield _finding(hit, model)
        except OSError as error:  # a folder closed to us, or one that goes away meanwhile
            file = Path(str(error.filename or model.folder))
            yield Finding("TRN110", "error", model.name, file, 0, 0, f"it cannot be read: {error.strerror or error}")


def _finding(hit: Hit, model: Model) -> Finding:
    line, column = model.config.place(*hit.at) if hit.at and model.config and hit.file is None else (0, 0)
    if hit.file is None and model.has_config and not line:
        line, column = 1, 1
    rule = RULES[hit.code]
    file = hit.file or (model.path if model.has_config else model.folder)
    return Finding(hit.code, rule.severity, model.name, file, line, column, hit.message, hit.edits)


def _called(models: Mapping[str, Model], repository: Path, release: Release) -> dict[str, Model]:
    """Models that are only called by those looked at, where a single one was named."""
    found: dict[str, Model] = {}
    waiting = list(models.values())
    while waiting:
        model = waiting.pop()
        if model.config is None or model.backend != ENSEMBLE:
            continue
        for step in model.config.message.ensemble_scheduling.step:
            name = step.model_name
            folder = repository / name
            if name and "/" not in name and name not in found and name not in models and (folder / CONFIG).is_file():
                found[name] = read_model(folder, release)
                waiting.append(found[name])
    return found


def worst(report: Report) -> Severity | None:
    """The worst severity found; None if nothing was."""
    found = {finding.severity for finding in report.findings}
    return next((severity for severity in SEVERITIES if severity in found), None)
