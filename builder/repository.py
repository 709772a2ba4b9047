"""The model repository: publish, list, retire. A reader (the server) never sees half of anything.

A new model is staged in a sibling folder and renamed whole into the repository, where every folder counts as a model.
A new version is staged inside its model as `.staging-<n>` (which the server ignores), flushed to disk and renamed to
`<n>`; then config.pbtxt is replaced. One lock file serialises publishers.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from builder.errors import PublishError, SignatureChangedError
from builder.version_policy import held_at, held_version
from core.files import fsync_folder, sha256_file, write_atomically
from core.passports import damage, read_passport
from core.results import Passport


@dataclass(frozen=True)
class Package:
    """All that one version consists of. `files` maps names in the version's folder to the files to copy there."""

    triton_name: str
    passport: Passport
    files: dict[str, Path]
    golden: bytes
    config: str
    keep_versions: int


@dataclass(frozen=True)
class Repository:
    """A model repository, and the folder where new models are staged (same file system, or renaming fails)."""

    root: Path
    staging: Path

    @classmethod
    def at(cls, root: Path, staging: Path | None = None) -> Repository:
        """The repository at `root`, staged in `.<name>.staging` beside it, or within the folder `staging`.

        The staging folder is always one of our own making: it is swept. Raises PublishError for a place where it
        would lie inside the repository, whose folders all count as models.
        """
        root = root.resolve()
        parent = (staging or root.parent).resolve()
        if root == root.parent or parent.is_relative_to(root):
            raise PublishError(f"new models of {root} cannot be staged in {parent}: name a folder outside of it")
        return cls(root, parent / f".{root.name}.staging")

    @property
    def lock_file(self) -> Path:
        """The publishers' lock. It lies beside the repository, wherever new models are staged."""
        return self.root.with_name(f".{self.root.name}.lock")

    def models(self) -> list[str]:
        """The names of the published models."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in self.root.iterdir() if (folder / "config.pbtxt").is_file())

    def versions(self, model: str) -> list[int]:
        """The published versions of a model, oldest first."""
        folder = self.root / model
        if not folder.is_dir():
            return []
        return sorted(int(part.name) for part in folder.iterdir() if part.is_dir() and part.name.isdecimal())

    def passport(self, model: str, version: int) -> Passport | None:
        """A version's passport, or None if it has none that can be read."""
        return read_passport(self.root / model / str(version))

    def intact(self, model: str, version: int) -> bool:
        """Whether a version's files are those of its passport."""
        return damage(self.root / model / str(version)) == ""

    def published(self, model: str, build_key: str) -> int | None:
        """The newest version, if it was made from exactly this and is intact."""
        newest = max(self.versions(model), default=None)
        if newest is None or not (self.root / model / "config.pbtxt").is_file():
            return None
        passport = self.passport(model, newest)
        return newest if passport and passport.build_key == build_key and self.intact(model, newest) else None

    @contextmanager
    def locked(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Holds the publishers' lock; calls `on_wait` once if another build holds it. Sweeps up what a killed build
        left. Raises PublishError when the folders cannot be written."""
        with _as_publish_error(f"{self.root} cannot be prepared for publishing"):
            self.staging.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(parents=True, exist_ok=True)
            lock = self.lock_file.open("a")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            self._sweep()
            yield

    def _sweep(self) -> None:
        for folder in [*self.staging.glob("*/"), *self.root.glob("*/.staging-*/"), *self.root.glob("*/.retired-*/")]:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, package: Package) -> int:
        """Publishes a new version under the lock, and gives its number. A version made from the same things is not
        published again; only its config is brought up to date.

        Raises PublishError, the repository being as before, if inputs or outputs differ from those of the published
        version, or the disk refuses.
        """
        name = package.triton_name
        with _as_publish_error(f"{name} could not be published in {self.root}; the repository is as it was"):
            if (same := self.published(name, package.passport.build_key)) is not None:
                self.update_config(name, self.as_held(name, package.config))
                return same
            self._refuse_other_signature(package)
            version = max(self.versions(name), default=0) + 1
            if (self.root / name).is_dir():
                self._add_version(package, version)
            else:
                self._add_model(package, version)
            # Published it is; an old version that cannot be removed is no reason to say otherwise, and is tried again.
            with suppress(OSError):
                self._drop_old(name, package.keep_versions)
            return version

    def update_config(self, name: str, config: str) -> None:
        """Replaces a model's config.pbtxt if it differs. Raises PublishError when the disk refuses."""
        with _as_publish_error(f"{name}: its config.pbtxt in {self.root} could not be replaced"):
            if not self.has_config(name, config):
                write_atomically(self.root / name / "config.pbtxt", config.encode())

    def as_held(self, name: str, config: str) -> str:
        """This configuration, holding the server at the version where the published one holds it, if it does."""
        try:
            held = held_version((self.root / name / "config.pbtxt").read_text())
        except (OSError, UnicodeDecodeError):
            return config
        return config if held is None or held not in self.versions(name) else held_at(config, held)

    def has_config(self, name: str, config: str) -> bool:
        """Whether a model's config.pbtxt is this text."""
        try:
            return (self.root / name / "config.pbtxt").read_text() == config
        except (OSError, UnicodeDecodeError):
            return False

    def retire(self, name: str) -> None:
        """Removes a model, under the lock."""
        with _as_publish_error(f"{name} could not be removed from {self.root}"):
            gone = self.staging / f"retired-{name}"
            (self.root / name).rename(gone)
            shutil.rmtree(gone)

    def _refuse_other_signature(self, package: Package) -> None:
        for version in reversed(self.versions(package.triton_name)):
            old = self.passport(package.triton_name, version)
            if old is None:
                continue
            new = package.passport
            if (old.inputs, old.outputs) != (new.inputs, new.outputs):
                raise SignatureChangedError(
                    f"inputs or outputs differ from those of the published version {version}, which clients rely on; "
                    f"give the model a new name, or delete the folder {self.root / package.triton_name} and build again"
                )
            return

    def _add_model(self, package: Package, version: int) -> None:
        staged = self.staging / package.triton_name
        try:
            _write_version(staged / str(version), package)
            write_atomically(staged / "config.pbtxt", package.config.encode())
            fsync_folder(staged)
            staged.rename(self.root / package.triton_name)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        fsync_folder(self.root)

    def _add_version(self, package: Package, version: int) -> None:
        folder = self.root / package.triton_name
        staged = folder / f".staging-{version}"
        try:
            _write_version(staged, package)
            staged.rename(folder / str(version))
            try:
                fsync_folder(folder)
                self.update_config(package.triton_name, package.config)
            except (OSError, PublishError):
                (folder / str(version)).rename(staged)  # as it was: the version goes, too
                raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _drop_old(self, name: str, keep: int) -> None:
        for version in self.versions(name)[:-keep]:
            gone = self.root / name / f".retired-{version}"
            (self.root / name / str(version)).rename(gone)
            shutil.rmtree(gone)


def _write_version(folder: Path, package: Package) -> None:
    folder.mkdir(parents=True)
    for name, source in package.files.items():
        shutil.copyfile(source, folder / name)
        if sha256_file(folder / name) != package.passport.files[name]:
            raise PublishError(f"{package.triton_name}: {source} changed after it was verified; build again")
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    write_atomically(folder / "golden.npz", package.golden)
    write_atomically(folder / "passport.json", package.passport.to_json())
    fsync_folder(folder)


_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and build again",
    errno.EDQUOT: "the disk quota is used up; free some space and build again",
    errno.EFBIG: "the file size limit is reached; raise it (ulimit -f) and build again",
    errno.EROFS: "it is read-only; choose another with {option}",
    errno.EACCES: "it may not be written; choose another with {option} or mend its rights",
    errno.EPERM: "it may not be written; choose another with {option} or mend its rights",
    errno.EXDEV: "the staging folder lies on another file system; choose one beside it with --staging",
}


def remedy(error: OSError, option: str = "--repository") -> str:
    """What went wrong with a file, and what to do about it; `option` names another place."""
    known = _REMEDIES.get(error.errno or 0)
    return known.format(option=option) if known else f"{error.strerror or error}: {error.filename or ''}"


@contextmanager
def _as_publish_error(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PublishError(f"{what}: {remedy(error)}") from error
