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
from typing import ClassVar, Final

from pydantic import BaseModel

from builder.artifact import FILES, Artifact, Format, hash_files
from builder.data import data_sha256, metric_key, training_sha256
from builder.errors import StepError
from builder.spec import ModelSpec
from core.files import sha256_file, sha256_parts, write_atomically
from core.machine import cores, isa_flags, versions

ABANDONED_S: Final = 14 * 24 * 3600


class Step(ABC):
    """One technique: a frozen dataclass whose fields are its typed configuration. It maps an artifact of format
    `accepts` to files of format `produces` in a folder of its own, and leaves its source as it was."""

    name: ClassVar[str]
    accepts: ClassVar[Format]
    produces: ClassVar[Format]
    tools: ClassVar[tuple[str, ...]]  # packages whose versions decide the result
    calibrates: ClassVar[bool] = False  # reads the calibration samples
    trains: ClassVar[bool] = False  # reads the training samples
    judges: ClassVar[bool] = False  # decides by labels, metric and gate, on calibration samples

    @property
    def reads_training(self) -> bool:
        """Whether this step, as it is configured, reads the training samples."""
        return self.trains

    def reads(self) -> tuple[Path, ...]:
        """The user's files, beside checkpoint and data, whose contents decide the result."""
        return ()

    def unavailable(self) -> str | None:
        """Why this step cannot run on this machine, or None if it can."""
        return None

    @abstractmethod
    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes FILES[produces] into `out_dir`."""


def step_key(step: Step, source_key: str, read: str) -> str:
    """The identity of a step's result: source, configuration, tools, and the machine's facts that kernels depend on.
    `read` is the hash of what it reads of data and spec."""
    return sha256_parts(
        [
            source_key,
            step.name,
            json.dumps(dataclasses.asdict(step), sort_keys=True, default=_plain),  # type: ignore[call-overload]
            json.dumps(versions(step.tools), sort_keys=True),
            read,
            f"{cores()} {isa_flags()}",
            *(sha256_file(file) for file in step.reads()),
        ]
    )


def _plain(settings: BaseModel) -> object:
    return settings.model_dump(mode="json")


def resume_folder(out_dir: Path) -> Path:
    """Where a step that takes long keeps what a killed run goes on from: beside its folder `.<key>.<pid>`, without the
    process in its name, so that the next one finds it. Removed when the step is done."""
    return out_dir.with_suffix(".resume")


def run_recipe(
    steps: tuple[Step, ...], source: Artifact, cache: Path, on_step: Callable[[str], None] = lambda _: None
) -> Artifact:
    """Folds the steps over `source`; results found intact in `cache` are taken from there.

    Raises StepError, naming the step and those done before it, when a step fails to keep its promise.
    """
    artifact = source
    for step, read in zip(steps, _all_read(steps, source.spec), strict=True):
        on_step(step.name)
        artifact = _cached(step, artifact, cache, read) or _run(step, artifact, cache, read)
    return artifact


def unfinished(steps: tuple[Step, ...], source: Artifact, cache: Path) -> Path | None:
    """Where a killed run of the last of the steps goes on from, if it was begun; None if its result is there."""
    key = source.key
    for step, read in zip(steps, _all_read(steps, source.spec), strict=True):
        key = step_key(step, key, read)
    return None if (cache / key[:32]).is_dir() else resume_folder(cache / f".{key[:32]}.{os.getpid()}")


def _all_read(steps: tuple[Step, ...], spec: ModelSpec) -> list[str]:
    """For each step the hash of what it reads of spec and data; empty if nothing."""
    calibration = data_sha256(spec)[0] if any(step.calibrates for step in steps) else ""
    training = training_sha256(spec) if any(step.reads_training for step in steps) else ""
    return [_read(step, spec, calibration, training) for step in steps]


def _read(step: Step, spec: ModelSpec, calibration: str, training: str) -> str:
    parts = [calibration] if step.calibrates else []
    if step.judges:
        parts += [spec.data.label, metric_key(spec), spec.gates.model_dump_json()]
    if step.reads_training:
        parts += [training, metric_key(spec)]  # the loss, and what is best, follow from the metric
    return sha256_parts(parts) if parts else ""


def sweep_partial(cache: Path) -> None:
    """Removes what killed builds left unfinished in the cache; folders of living ones stay. What a training would go on
    from stays for two weeks after its last epoch: a spec that changed meanwhile will never ask for it."""
    for folder in cache.glob(".*.*"):
        ending = folder.name.rpartition(".")[2]
        dead = ending.isdecimal() and not Path("/proc", ending).exists()
        if dead or (ending == "resume" and _age_s(folder) > ABANDONED_S):
            shutil.rmtree(folder, ignore_errors=True)


def _age_s(folder: Path) -> float:
    """Since when nothing in a folder has changed; 0 if it is gone already."""
    try:
        return time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:
        return 0.0


def _result(step: Step, source: Artifact, folder: Path, key: str, sha256: str) -> Artifact:
    return Artifact(step.produces, folder, source.spec, sha256, key, (*source.history, step.name))


def _cached(step: Step, source: Artifact, cache: Path, read: str) -> Artifact | None:
    """The step's earlier result, if its files are still those that were written."""
    key = step_key(step, source.key, read)
    folder = cache / key[:32]
    try:
        sha256 = (folder / "sha256").read_text()
        found = _result(step, source, folder, key, sha256)
        return found if hash_files(found.files) == sha256 else None
    except OSError:
        return None


def _run(step: Step, source: Artifact, cache: Path, read: str) -> Artifact:
    after = f"step {step.name} (after {' -> '.join(source.history) or 'the checkpoint'})"
    if source.format != step.accepts:
        raise StepError(f"{after} takes {step.accepts}, but was given {source.format}; the recipe's order is wrong")
    key = step_key(step, source.key, read)
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
                shutil.rmtree(resume_folder(partial), ignore_errors=True)
                return _result(step, source, folder, key, sha256)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if found := _cached(step, source, cache, read):
                shutil.rmtree(resume_folder(partial), ignore_errors=True)
                return found
            shutil.rmtree(folder)  # damaged
    finally:
        shutil.rmtree(partial, ignore_errors=True)
