"""The cache of steps when several builds want the same result at the same moment, or one lies there damaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from builder import step as steps
from builder.artifact import Artifact, Format
from builder.source import source_artifact
from builder.spec_file import load_spec
from builder.step import Step, run_recipe, step_key
from tests.support.tiny import onnx_spec


@dataclass(frozen=True)
class Copy(Step):
    """Copies the model."""

    name: ClassVar[str] = "copy"
    accepts: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ()

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.onnx`."""
        (out_dir / "model.onnx").write_bytes(Path(source.path).read_bytes())


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    return source_artifact(load_spec(onnx_spec(tmp_path / "model")), tmp_path / "cache")


@pytest.mark.parametrize("moment", [1, 2])
def test_another_builds_result_that_comes_right_after_a_look_stays(
    source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    cache, other = tmp_path / "cache", tmp_path / "other"
    expected = run_recipe((Copy(),), source, cache)
    expected.folder.rename(other)
    inode, real, looks = other.stat().st_ino, steps._cached, [0]

    def look(step: Step, artifact: Artifact, cache: Path, calibration: str) -> Artifact | None:
        looks[0] += 1
        found = real(step, artifact, cache, calibration)
        if looks[0] == moment:
            other.rename(expected.folder)
        return found

    monkeypatch.setattr(steps, "_cached", look)
    assert run_recipe((Copy(),), source, cache) == expected
    assert other.exists() or expected.folder.stat().st_ino == inode
    assert not list(cache.glob(".*.*"))


def test_a_damaged_result_is_made_again(source: Artifact, tmp_path: Path) -> None:
    first = run_recipe((Copy(),), source, tmp_path / "cache")
    whole = Path(first.path).read_bytes()
    Path(first.path).write_bytes(b"damaged")
    assert run_recipe((Copy(),), source, tmp_path / "cache") == first
    assert Path(first.path).read_bytes() == whole
    assert first.folder.name == step_key(Copy(), source.key, "")[:32]
