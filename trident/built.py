"""What the last build left in the folder of artifacts."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from core.errors import InputError
from core.results import ModelBuild


def find_build(artifacts: Path, name: str | None) -> ModelBuild:
    """What the last build of a model reported; of the only model if no name is given."""
    paths = {path.parent.name: path for path in sorted(artifacts.glob("*/build.json"))}
    if not paths:
        raise InputError(f"{artifacts} holds no built model; build first with `make build-repo`")
    if name is None and len(paths) > 1:
        raise InputError(f"name one of the models that were built: {', '.join(paths)}")
    path = paths.get(name or next(iter(paths)))
    if path is None:
        raise InputError(f"{name!r} was not built; there are {', '.join(paths)}")
    try:
        return ModelBuild.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} cannot be read; build again with `make build-repo`") from error
