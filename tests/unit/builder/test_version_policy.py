"""Editing which version a configuration serves."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from builder.errors import PublishError
from builder.version_policy import HELD_REASON, NEWEST_REASON, at_newest, held_at, held_version

OURS = f"""# what it is called
name: "m"
# {NEWEST_REASON}
version_policy {{
  latest {{
    num_versions: 1
  }}
}}
# in
max_batch_size: 8
"""
TEXTS = [
    OURS,
    'name: "m"\nmax_batch_size: 8\n',
    'name: "m"\nversion_policy: { all { } }\nmax_batch_size: 8\n',
    'name: "m"\nversion_policy: { specific: { versions: [1, 3] } },\nmax_batch_size: 8',
    'name: "m"  # version_policy { all { } } is what we had\nmax_batch_size: 8\n',
]


@pytest.mark.parametrize("text", TEXTS)
def test_it_is_held_and_let_go_and_nothing_else_changes(text: str) -> None:
    held = held_at(text, 3)
    assert held_version(held) == 3
    again = held_at(held, 2)
    assert (held_version(again), again.count("version_policy {\n"), again.count(HELD_REASON[:12])) == (2, 1, 1)
    newest = at_newest(again)
    message = text_format.Parse(newest, pb.ModelConfig())
    assert held_version(newest) is None
    assert (message.version_policy.latest.num_versions, message.name, message.max_batch_size) == (1, "m", 8)
    assert held_at(newest, 3) == held  # one way of writing it


def test_our_own_text_comes_back_as_it_was() -> None:
    held = held_at(OURS, 4)
    assert NEWEST_REASON not in held
    assert held.splitlines()[:2] == OURS.splitlines()[:2]
    assert at_newest(held) == OURS


@pytest.mark.parametrize(
    ("policy", "held"), [("specific { versions: 7 }", 7), ("specific { versions: [1, 2] }", None), ("all { }", None)]
)
def test_held_is_only_a_single_version(policy: str, held: int | None) -> None:
    assert held_version(f"version_policy {{ {policy} }}") == held


def test_what_cannot_be_read_is_not_edited() -> None:
    assert held_version("what { is") is None
    with pytest.raises(PublishError, match=r"config.pbtxt cannot be read .*; mend it, or publish the model again"):
        held_at("what { is", 1)
    with pytest.raises(PublishError, match="cannot be edited; write it on lines of its own"):
        held_at('name: "m" version_policy { all { } }', 1)
