"""The models of a repository that a command is about."""

from __future__ import annotations

from collections.abc import Sequence

from builder.repository import Repository
from core.errors import RepositoryError


def chosen_models(repository: Repository, wanted: Sequence[str]) -> list[str]:
    """Those named, or all. Raises RepositoryError for a repository or a model that is not there."""
    if not repository.root.is_dir():
        raise RepositoryError(f"{repository.root} does not exist; build one with `make build-repo`")
    there = repository.models()
    if missing := sorted(set(wanted) - set(there)):
        known = ", ".join(there) or "no model"
        raise RepositoryError(f"no model {', '.join(missing)} in {repository.root}; it holds {known}")
    return [name for name in there if not wanted or name in wanted]
