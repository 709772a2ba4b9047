"""Which of a model's versions config.pbtxt has the server serve: the newest, or one that it is held at."""

from __future__ import annotations

import re
from typing import Any, Final

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from builder.errors import PublishError

NEWEST_REASON: Final = "the newest version serves; older ones stay on disk to roll back to"
HELD_REASON: Final = "rolled back to version {version}; the next version that is published takes its place"

# A policy with what stands above it and says so in our words. Only text that no string or comment holds is looked at.
_POLICY: Final = re.compile(
    r"(?:^\#\ (?:the\ newest\ version\ serves|rolled\ back\ to\ version)[^\n]*\n)?"
    r"^[ \t]*version_policy\s*:?\s*\{(?:[^{}]|\{[^{}]*\})*\}[ \t]*,?;?[ \t]*\n?",
    re.MULTILINE | re.VERBOSE,
)


def held_version(config: str) -> int | None:
    """The version that a configuration holds the server at; None if it names no single one, or cannot be read."""
    try:
        policy = text_format.Parse(config, pb.ModelConfig()).version_policy
    except text_format.ParseError:
        return None
    return policy.specific.versions[0] if len(policy.specific.versions) == 1 else None


def held_at(config: str, version: int) -> str:
    """The same configuration, holding the server at a version. Raises PublishError if it cannot be edited."""
    reason = HELD_REASON.format(version=version)
    return _replaced(config, f"# {reason}\nversion_policy {{\n  specific {{\n    versions: {version}\n  }}\n}}\n")


def at_newest(config: str) -> str:
    """The same configuration, serving the newest version. Raises PublishError if it cannot be edited."""
    return _replaced(config, f"# {NEWEST_REASON}\nversion_policy {{\n  latest {{\n    num_versions: 1\n  }}\n}}\n")


def _replaced(config: str, policy: str) -> str:
    """With another policy in the old one's place, or at the end, and all else as it was."""
    text, count = _POLICY.subn(lambda _found: policy, config, count=1)
    if not count:
        text = config.rstrip("\n") + "\n" + policy
    try:
        before = _without_policy(config)
    except text_format.ParseError as error:
        raise PublishError(f"config.pbtxt cannot be read ({error}); mend it, or publish the model again") from error
    try:
        same = _without_policy(text) == before
    except text_format.ParseError:
        same = False
    if not same:
        raise PublishError("the version_policy of config.pbtxt cannot be edited; write it on lines of its own")
    return text


def _without_policy(config: str) -> Any:
    message = text_format.Parse(config, pb.ModelConfig())
    message.ClearField("version_policy")
    return message
