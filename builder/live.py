"""Versions of published models: which one serves, back to an older one, and out of another repository."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from builder.errors import PublishError
from builder.remote import fetch, push
from builder.repository import Repository
from builder.version_policy import at_newest, held_at, held_version
from core.passports import damage


@dataclass(frozen=True)
class Change:
    """What a model's folder asks the server for now, and what it asked for before (0: nothing)."""

    model: str
    version: int
    before: int


def asked_for(repository: Repository, model: str) -> int:
    """The version that a model's configuration asks for; 0 if there is none."""
    versions = repository.versions(model)
    held = held_version(_config(repository, model)) if versions else None
    return held if held in versions and held is not None else max(versions, default=0)


def is_held(repository: Repository, model: str) -> bool:
    """Whether the server is held at a version, rather than serving the newest."""
    return held_version(_config(repository, model)) is not None


def roll_back(repository: Repository, model: str, to: int | None = None) -> Change:
    """Has an older version served: the newest intact one before that which serves now, unless one is named (a newer one
    may be, too). Raises PublishError, nothing being changed, if there is no such version or it is damaged."""
    with repository.locked():
        versions = repository.versions(model)
        if not versions:
            known = ", ".join(repository.models()) or "no model"
            raise PublishError(f"{repository.root} has no model {model!r}; it holds {known}")
        now = asked_for(repository, model)
        older = [version for version in reversed(versions) if version < now and not _damage(repository, model, version)]
        if to is None and not older:
            raise PublishError(f"{model}: there is no intact version before {now} to roll back to")
        version = to or older[0]
        if version not in versions:
            raise PublishError(f"{model} has no version {version}; it has {', '.join(map(str, versions))}")
        if broken := _damage(repository, model, version):
            raise PublishError(f"{model} version {version} is not served again: {broken}")
        config = _config(repository, model)
        newest = version == versions[-1]
        repository.update_config(model, at_newest(config) if newest else held_at(config, version))
        return Change(model, version, now)


def publish_from(source: str, target: str, keep_versions: int, version: int | None = None) -> Change:
    """Publishes a model's version out of the folder `source` into the repository `target`, each a path or a URL, every
    file compared with its passport on the way. Raises PublishError, the target being as it was."""
    with tempfile.TemporaryDirectory(prefix="trident-publish-") as folder:
        package = fetch(source, Path(folder), version, keep_versions)
        if "://" in target:
            return Change(package.triton_name, push(package, target), 0)
        repository = Repository.at(Path(target))
        with repository.locked():
            before = asked_for(repository, package.triton_name)
            version = repository.publish(package)
            repository.update_config(package.triton_name, package.config)  # also if it was held at an older one
            return Change(package.triton_name, version, before)


def _damage(repository: Repository, model: str, version: int) -> str:
    return damage(repository.root / model / str(version)) or ""


def _config(repository: Repository, model: str) -> str:
    try:
        return (repository.root / model / "config.pbtxt").read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise PublishError(f"{model}: its config.pbtxt cannot be read ({error}); publish the model again") from error
