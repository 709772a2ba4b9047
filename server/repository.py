"""What a model repository holds, as the server will see it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.names import SAFE_NAME
from server.errors import NothingToServeError


def find_models(repository: Path, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the models in a repository, or of those wanted. Raises NothingToServeError if there is none, if a
    wanted one is missing, or if a name cannot be passed to the server safely."""
    if not repository.is_dir():
        raise NothingToServeError(f"the model repository {repository} does not exist; run `make build-repo` to make it")
    names = tuple(sorted(path.parent.name for path in repository.glob("*/config.pbtxt") if path.parent.name[0] != "."))
    if not names:
        raise NothingToServeError(
            f"the model repository {repository} holds no model; run `make build-repo`, or name another repository"
        )
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise NothingToServeError(
            f"no model {', '.join(missing)} in {repository}; it holds {', '.join(names)}; build the model, or name one "
            "of these"
        )
    chosen = tuple(name for name in names if not wanted or name in wanted)
    unsafe = [name for name in chosen if not SAFE_NAME.fullmatch(name)]
    if unsafe:
        raise NothingToServeError(
            f"the folder {unsafe[0]!r} in {repository} cannot be served: the server hands its name to a shell; "
            "rename it, using letters, digits and _ . + - only"
        )
    return chosen


def served_names(repository: Path, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The models that are there now and may be served, however few; `find_models` for a repository that may change."""
    try:
        names = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
    except OSError:
        return ()
    return tuple(name for name in names if SAFE_NAME.fullmatch(name) and (not wanted or name in wanted))
