"""Published versions fetched from, and pushed to, any place that fsspec reaches: folders, S3, GCS, HTTP, SSH.

fsspec and not the clouds' own libraries: one interface for all of them, and torch brings it anyway. Each scheme but
those of Python itself needs a package of its own (`s3fs` for `s3://`), which fsspec names if it is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from builder.errors import PublishError
from builder.repository import Package
from builder.version_policy import at_newest, held_version
from core.names import SAFE_NAME
from core.results import Passport

BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Folder:
    """A folder somewhere: fsspec's file system, and the path in it."""

    files: Any
    path: str
    url: str

    def read(self, name: str) -> bytes:
        """A small file's bytes. Raises PublishError, as all methods do."""
        with _explained(f"{self.url}/{name} cannot be read"):
            return bytes(self.files.cat_file(f"{self.path}/{name}"))

    def versions(self) -> list[int]:
        """The folders that are versions, oldest first; none if there is no such folder."""
        with _explained(f"{self.url} cannot be listed"):
            try:
                found = self.files.ls(self.path, detail=False, refresh=True)
            except FileNotFoundError:
                return []
        return sorted(
            int(name) for name in (str(path).rstrip("/").rpartition("/")[2] for path in found) if name.isdecimal()
        )

    def sha256(self, name: str) -> str:
        """The hash of what lies there, read back block by block."""
        digest = hashlib.sha256()
        with _explained(f"{self.url}/{name} cannot be read"), self.files.open(f"{self.path}/{name}", "rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()


def locate(url: str) -> Folder:
    """The folder of a URL, or of a path on this machine. Raises PublishError for a scheme that cannot be had."""
    import fsspec

    with _explained(f"{url} cannot be reached"):
        files, path = fsspec.core.url_to_fs(url.rstrip("/"))
    return Folder(files, path.rstrip("/"), url.rstrip("/"))


def fetch(url: str, into: Path, version: int | None = None, keep_versions: int = 2) -> Package:
    """A version of the model in the folder `url`, its files copied to `into` and compared with its passport: the one
    that its configuration serves, unless another is named. Raises PublishError."""
    folder = locate(url)
    name = folder.path.rpartition("/")[2]
    if not SAFE_NAME.fullmatch(name):
        raise PublishError(f"{url}: {name!r} is no name of a model; name the model's own folder, not the repository")
    config = _text(folder, "config.pbtxt")
    versions = folder.versions()
    chosen = version or held_version(config) or max(versions, default=0)
    if chosen not in versions:
        raise PublishError(
            f"{url} has no version {chosen or 'at all'}; it has {', '.join(map(str, versions)) or 'none'}"
        )
    try:
        passport = Passport.model_validate_json(folder.read(f"{chosen}/passport.json"))
    except ValidationError as error:
        raise PublishError(f"{url}/{chosen}/passport.json cannot be read; build the model again") from error
    wanted = {**passport.files, "golden.npz": passport.golden_sha256}
    if unsafe := next((file for file in wanted if Path(file).name != file), None):
        raise PublishError(f"{url}/{chosen}/passport.json names {unsafe!r}, which lies outside of the version's folder")
    for file, sha256 in wanted.items():
        _download(folder, f"{chosen}/{file}", into / file, sha256)
    files = {file: into / file for file in passport.files}
    return Package(name, passport, files, (into / "golden.npz").read_bytes(), at_newest(config), keep_versions)


def push(package: Package, url: str) -> int:
    """Publishes a package to the repository at `url` and gives the version's number. Files go first and are read back;
    config.pbtxt comes last. There is no lock in such a place: one publisher at a time. Raises PublishError, what was
    uploaded being removed again."""
    root = locate(url)
    model = replace(root, path=f"{root.path}/{package.triton_name}", url=f"{root.url}/{package.triton_name}")
    versions = model.versions()
    if versions and _build_key(model, versions[-1]) == package.passport.build_key:
        return versions[-1]
    version = max(versions, default=0) + 1
    place = replace(model, path=f"{model.path}/{version}", url=f"{model.url}/{version}")
    try:
        _upload(place, package)
        with _explained(f"{model.url}/config.pbtxt cannot be written"):
            model.files.pipe_file(f"{model.path}/config.pbtxt", package.config.encode())
    except PublishError:
        with _explained(f"{place.url} is incomplete, and cannot be removed"):
            if place.files.exists(place.path):
                place.files.rm(place.path, recursive=True)
        raise
    for old in versions[: max(0, len(versions) + 1 - package.keep_versions)]:
        with _explained(f"version {version} is published; {model.url}/{old} cannot be removed"):
            model.files.rm(f"{model.path}/{old}", recursive=True)
    return version


def _upload(place: Folder, package: Package) -> None:
    with _explained(f"{place.url} cannot be written"):
        place.files.makedirs(place.path, exist_ok=True)
        for name, source in package.files.items():
            place.files.put_file(str(source), f"{place.path}/{name}")
        place.files.pipe_file(f"{place.path}/golden.npz", package.golden)
    for name, sha256 in {**package.passport.files, "golden.npz": package.passport.golden_sha256}.items():
        if place.sha256(name) != sha256:
            raise PublishError(f"{place.url}/{name} did not arrive as it was sent; publish again")
    with _explained(f"{place.url} cannot be written"):
        place.files.pipe_file(f"{place.path}/passport.json", package.passport.to_json())


def _download(folder: Folder, name: str, to: Path, sha256: str) -> None:
    with _explained(f"{folder.url}/{name} cannot be fetched"):
        digest = hashlib.sha256()
        with folder.files.open(f"{folder.path}/{name}", "rb") as source, to.open("wb") as copy:
            while block := source.read(BLOCK_BYTES):
                digest.update(block)
                copy.write(block)
    if digest.hexdigest() != sha256:
        raise PublishError(f"{folder.url}/{name} is not the file that was verified; build or publish it again")


def _build_key(model: Folder, version: int) -> str | None:
    """What the version was made from; None if it has no passport, which comes last."""
    try:
        return Passport.model_validate_json(model.read(f"{version}/passport.json")).build_key
    except (PublishError, ValidationError):
        return None


def _text(folder: Folder, name: str) -> str:
    try:
        return folder.read(name).decode()
    except UnicodeDecodeError as error:
        raise PublishError(f"{folder.url}/{name} is no text; publish the model again") from error


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Whatever such a place raises, as a sentence: each file system has errors of its own."""
    try:
        yield
    except PublishError:
        raise
    except FileNotFoundError as error:
        raise PublishError(f"{what}: it does not exist") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PublishError(f"{what}: {reason}") from error
