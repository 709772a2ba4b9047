"""What a step is, and `run_recipe`, which folds a recipe's steps over an artifact, holds them to their promise and
caches what they make."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from builder.artifact import FILES, Artifact, Format, hash_files
from builder.data import data_sha256, training_sha256
from builder.errors import StepError
from builder.spec import ModelSpec
from core.files import sha256_parts, write_atomically
from core.machine import cores, isa_flags, versions


class Step(ABC):
    """One technique: a frozen dataclass whose fields are its typed configuration. It maps an artifact of format
    `accepts` to files of format `produces` in a folder of its own, and leaves its source as it was."""

    name: ClassVar[str]
    accepts: ClassVar[Format]
    produces: ClassVar[Format]
    tools: ClassVar[tuple[str, ...]]  # packages whose versions decide the result
    calibrates: ClassVar[bool] = False  # reads the calibration samples
    trains: ClassVar[bool] = False  # reads the training samples too
    judges: ClassVar[bool] = False  # decides by labels, metric and gate, on calibration samples

    def unavailable(self) -> str | None:
        """Why this step cannot run on this machine, or None if it can."""
        return None

    @abstractmethod
    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes FILES[produces] into `out_dir`."""


def step_key(step: Step, source_key: str, calibration_sha256: str) -> str:
    """The identity of a step's result: source, configuration, tools, and the machine's facts that kernels depend on."""
    return sha256_parts(
        [
            source_key,
            step.name,
            json.dumps(dataclasses.asdict(step), sort_keys=True),  # type: ignore[call-overload]
            json.dumps(versions(step.tools), sort_keys=True),
            calibration_sha256 if step.calibrates else "",
            f"{cores()} {isa_flags()}",
        ]
    )


def run_recipe(
    steps: tuple[Step, ...], source: Artifact, cache: Path, on_step: Callable[[str], None] = lambda _: None
) -> Artifact:
    """Folds the steps over `source`; results found intact in `cache` are taken from there.

    Raises StepError, naming the step and those done before it, when a step fails to keep its promise.
    """
    calibration = data_sha256(source.spec)[0] if any(step.calibrates for step in steps) else ""
    training = training_sha256(source.spec) if any(step.trains for step in steps) else ""
    artifact = source
    for step in steps:
        on_step(step.name)
        read = _judged_by(step, source.spec, calibration)
        read += training if step.trains else ""
        artifact = _cached(step, artifact, cache, read) or _run(step, artifact, cache, read)
    return artifact


def _judged_by(step: Step, spec: ModelSpec, calibration: str) -> str:
    """The hash of what the step reads of spec and data."""
    if not step.judges:
        return calibration
    wishes = (spec.data.label, spec.metric.model_dump_json(), spec.gates.model_dump_json())
    return sha256_parts([calibration, *wishes])


def sweep_partial(cache: Path) -> None:
    """Removes what killed builds left unfinished in the cache; folders of living ones stay."""
    for folder in cache.glob(".*.*"):
        pid = folder.name.rpartition(".")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _result(step: Step, source: Artifact, folder: Path, key: str, sha256: str) -> Artifact:
    return Artifact(step.produces, folder, source.spec, sha256, key, (*source.history, step.name))


def _cached(step: Step, source: Artifact, cache: Path, calibration: str) -> Artifact | None:
    """The step's earlier result, if its files are still those that were written."""
    key = step_key(step, source.key, calibration)
    folder = cache / key[:32]
    try:
        sha256 = (folder / "sha256").read_text()
        found = _result(step, source, folder, key, sha256)
        return found if hash_files(found.files) == sha256 else None
    except OSError:
        return None


def _run(step: Step, source: Artifact, cache: Path, calibration: str) -> Artifact:
    after = f"step {step.name} (after {' -> '.join(source.history) or 'the checkpoint'})"
    if source.format != step.accepts:
        raise StepError(f"{after} takes {step.accepts}, but was given {source.format}; the recipe's order is wrong")
    key = step_key(step, source.key, calibration)
    folder = cache / key[:32]
    partial = cache / f".{key[:32]}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    started = time.monotonic()
    try:
        before = hash_files(source.files)
        step(source, partial)
        files = tuple(partial / name for name in FILES[step.produces])
        if absent := [file.name for file in files if not file.is_file() or file.stat().st_size == 0]:
            raise StepError(f"{after} promised {step.produces} but did not write {absent[0]}")
        if hash_files(source.files) != before:
            raise StepError(f"{after} changed its source, which other variants share")
        sha256 = hash_files(files)
        write_atomically(partial / "sha256", sha256.encode())
        # Another build of the same content may come first at any moment, and may be using its result: that one stays.
        # So the name is taken, and only if that fails looked at what has it.
        while True:
            try:
                partial.rename(folder)
                # Into the log of the build: what it took, and that it need not be done again.
                print(f"   {step.name}: made {folder.name} in {time.monotonic() - started:.1f} s")
                return _result(step, source, folder, key, sha256)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if found := _cached(step, source, cache, calibration):
                return found
            shutil.rmtree(folder)  # damaged
    finally:
        shutil.rmtree(partial, ignore_errors=True)
