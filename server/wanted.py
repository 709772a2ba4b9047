"""What a model's folder asks the server to serve, and whether that has changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

Mark = tuple[object, ...]
"""Equal as long as neither config.pbtxt nor the folder of a wanted version was replaced."""


@dataclass(frozen=True)
class Wanted:
    """`versions`: those that config.pbtxt's version policy chooses among the folders, oldest first. `others`: the rest
    of them, newest first."""

    versions: tuple[int, ...]
    others: tuple[int, ...]
    mark: Mark


def read_wanted(folder: Path) -> Wanted:
    """What a model's folder asks for. A config that cannot be read says nothing here: that is for the server to say."""
    present = tuple(sorted(_numbers(folder)))
    identity = _identity(folder / "config.pbtxt")
    chosen = _choose(_policy(folder, identity), present)
    others = tuple(version for version in reversed(present) if version not in chosen)
    marks = tuple((version, _identity(folder / str(version))) for version in chosen)
    return Wanted(chosen, others, (identity, marks))


@lru_cache(maxsize=4096)
def _policy(folder: Path, identity: tuple[int, ...]) -> Any:  # noqa: ARG001
    """The version policy of the config.pbtxt that is this file; every model is looked at every second."""
    config = read_config(folder)
    return config.version_policy if config is not None else None


def read_config(folder: Path) -> Any:
    """The model's configuration as Triton's protobuf message; None where there is none that can be read."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError):
        return None


def holding(config: Any, version: int) -> str:
    """The configuration as JSON, as a load request takes it, with one version to serve instead of those it names."""
    from google.protobuf import json_format

    held = type(config)()
    held.CopyFrom(config)
    held.version_policy.Clear()
    held.version_policy.specific.versions.append(version)
    return json.dumps(json_format.MessageToDict(held, preserving_proto_field_name=True))


def _numbers(folder: Path) -> list[int]:
    try:
        return [int(part.name) for part in folder.iterdir() if part.name.isdecimal() and part.is_dir()]
    except OSError:
        return []


def _choose(policy: Any, present: tuple[int, ...]) -> tuple[int, ...]:
    kind = policy.WhichOneof("policy_choice") if policy is not None else None
    if kind == "all":
        return present
    if kind == "specific":
        return tuple(version for version in present if version in policy.specific.versions)
    count = policy.latest.num_versions if kind == "latest" else 1
    return present[-max(1, count) :]


def _identity(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_mtime_ns)
