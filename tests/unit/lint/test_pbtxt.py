"""The tree of a text, beside protobuf's own parser."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from lint.pbtxt import Block, PbtxtError, Scalar, parse, place
from lint.reading import read_config
from lint.releases import NEWEST
from tests.support.lint_repositories import ENSEMBLE_CONFIG, ONNX_CONFIG, OPENVINO_CONFIG

TEXTS = (ONNX_CONFIG, OPENVINO_CONFIG, ENSEMBLE_CONFIG)
WORDS = ("input", "dims: [", "TYPE_FP32", "0x", "1e9", "'''", "{{{{", "\\", "//", "-inf")
JUNK = (*"{}[]<>:;,\"'\\#-. \n\t0aé", *WORDS)


def test_every_part_knows_its_place() -> None:
    text = '# head\nname: "a"  # tail\ninput [ { dims: [ 1, -2 ] }, { name: \'b\' "c" } ]\n'
    tree = parse(text)
    assert [field.name for field in tree.fields] == ["name", "input", "input"]
    first, second = (field.value for field in tree.named("input"))
    assert isinstance(first, Block) and isinstance(second, Block)
    assert [field.value.text for field in first.named("dims") if isinstance(field.value, Scalar)] == ["1", "-2"]
    (name,) = second.named("name")
    assert place(text, name.name_span.start) == (3, 32)
    assert text[name.whole.start : name.whole.end] == "name: 'b' \"c\""


@pytest.mark.parametrize(
    ("text", "words", "where"),
    [
        ("a: 1\nb {", "never closed", (2, 3)),
        ("a 1", "a colon is missing after a", (1, 2)),
        ('a: "open', "has no meaning here", (1, 4)),
        ("a: [1 2]", "a comma is missing", (1, 7)),
        ("{}", "where a field's name should", (1, 1)),
        ("a:", "the text ends", (1, 3)),
        ("a {" * 100, "within each other", (1, 183)),
    ],
)
def test_what_does_not_fit_is_named_at_its_place(text: str, words: str, where: tuple[int, int]) -> None:
    with pytest.raises(PbtxtError, match=words) as caught:
        parse(text)
    assert place(text, caught.value.at) == where


def mutated(text: str, chance: random.Random) -> str:
    """A text with a few pieces cut out, doubled, moved or thrown in."""
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(text) + 1), chance.randint(0, 12)
        piece = chance.choice((*JUNK, "", text[at : at + length], chance.choice(TEXTS)[:length]))
        text = text[:at] + piece + text[at + chance.choice((0, length)) :]
    return text


def test_it_accepts_what_protobuf_accepts_and_never_raises(tmp_path: Path) -> None:
    chance, path, refused = random.Random(1), tmp_path / "config.pbtxt", 0
    for _ in range(800):
        text = mutated(chance.choice(TEXTS), chance)
        path.write_text(text)
        found = {finding.code for finding in read_config(path, "m", NEWEST).findings}
        try:
            text_format.Parse(text, pb.ModelConfig())
        except (text_format.ParseError, UnicodeError, DeprecationWarning):
            refused += 1
            assert found, text
        else:
            assert not found, (text, found)
    assert 250 < refused < 800


@pytest.mark.parametrize(
    "data", [b"\x08\x01\x12\x03abc\xff", b"\0" * 100, b"\xff\xfe", b"[" * 5000, b"a{" * 5000, b'"' * 5001]
)
def test_bytes_of_any_kind_are_a_finding(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(data)
    assert {found.code for found in read_config(path, "m", NEWEST).findings} <= {"TRN001", "TRN005"}
    assert read_config(path, "m", NEWEST).findings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batchsize: 8", "ModelConfig has no field `max_batchsize`; did you mean `max_batch_size`?"),
        (
            "preferred_batch_size: 8",
            "ModelConfig has no field `preferred_batch_size`; it belongs into `dynamic_batching`",
        ),
        ("input { data_type: FP32 }", "input.data_type has no value FP32; did you mean TYPE_FP32?"),
        ("input { data_type: TYPE_LONG }", "input.data_type has no value TYPE_LONG; did you mean TYPE_INT64?"),
        ("instance_group { kind: CPU }", "instance_group.kind has no value CPU; did you mean KIND_CPU?"),
        ("max_batch_size: 2.5", "max_batch_size takes a whole number, not 2.5"),
        ("name: m", "name takes a string in quotes, not m"),
        ("input: 3", "input takes fields in braces, not 3"),
        ("name { }", "name takes a single value, not braces"),
        (
            "model_transaction_policy { decoupled: yes }",
            "model_transaction_policy.decoupled takes true or false, not yes",
        ),
    ],
)
def test_what_is_wrong_is_said_and_what_was_meant(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(text)
    found = [finding.message for finding in read_config(path, "m", NEWEST).findings]
    assert found and found[0].startswith(message)
