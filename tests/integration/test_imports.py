"""Files that other tools made, as variants: verified, gated and published beside ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from builder.build import BuildOptions, Listener, build
from builder.errors import CheckpointError
from core.results import BuildRow
from tests.support.tiny import forward, onnx_model, onnx_spec


def _spec(folder: Path, imports: str, max_drop: str = "5pt") -> Path:
    path = onnx_spec(folder, max_drop=max_drop)
    path.write_text(path.read_text() + f"imports: {imports}\n")
    return path


def _rows(folder: Path, spec: Path) -> dict[str, BuildRow]:
    report = build([spec], BuildOptions(folder / "r", folder / "a"), Listener())
    return {row.variant: row for row in report.models[0].rows}


def _openvino_files(folder: Path, seed: int = 0) -> None:
    import openvino

    onnx.save(onnx_model(seed), folder / "other.onnx")
    model = openvino.convert_model(folder / "other.onnx")
    openvino.save_model(model, folder / "other.xml", compress_to_fp16=False)


def test_both_formats_are_judged_and_published_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    spec = _spec(folder, "{theirs: other.onnx, irs: other.xml, bad: bad.onnx}")
    _openvino_files(folder)
    onnx.save(onnx_model(seed=7), folder / "bad.onnx")  # another network's weights
    rows = _rows(tmp_path, spec)
    assert list(rows) == ["onnx_fp32", "imported_theirs", "imported_irs", "imported_bad"]
    assert [row.status for row in rows.values()] == ["published", "published", "published", "rejected"]
    assert rows["imported_theirs"].history == ("import_onnx",)
    assert rows["imported_theirs"].speedup is not None
    version = tmp_path / "r" / "tiny_imported_irs" / "1"
    assert (version / "model.bin").read_bytes() == (folder / "other.bin").read_bytes()
    golden = np.load(version / "golden.npz")
    assert np.abs(golden["golden/scores"] - forward(golden["input/x"])).max() < 1e-4
    again = _rows(tmp_path, spec)
    assert all(row.from_cache for row in again.values())
    onnx.save(onnx_model(seed=8), folder / "other.onnx")
    third = _rows(tmp_path, spec)
    assert (third["imported_theirs"].status, third["imported_theirs"].from_cache) == ("rejected", False)
    assert third["imported_irs"].from_cache
    shutil.rmtree(tmp_path / "r")


def test_a_signature_that_is_not_the_specs_is_a_failed_row(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    spec = _spec(folder, "{renamed: renamed.onnx, narrow: narrow.xml}")
    model = onnx_model()
    model.graph.output[0].name = model.graph.node[2].output[0] = "logits"
    onnx.save(model, folder / "renamed.onnx")
    import openvino

    fixed = openvino.convert_model(folder / "model.onnx")
    fixed.reshape([3, 8])
    openvino.save_model(fixed, folder / "narrow.xml", compress_to_fp16=False)
    rows = _rows(tmp_path, spec)
    assert [row.status for row in rows.values()] == ["published", "failed", "failed"]
    assert "renamed.onnx: its outputs are logits, the spec says scores" in rows["imported_renamed"].reason
    assert "narrow.xml: input 'x' is fixed to batches of 3" in rows["imported_narrow"].reason
    assert not (tmp_path / "r" / "tiny_imported_renamed").exists()


def test_what_is_missing_or_a_link_stops_the_build_before_it_begins(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    spec = _spec(folder, "{irs: other.xml}")
    with pytest.raises(CheckpointError, match=r"other\.xml does not exist; correct `imports\.irs` in the spec of tiny"):
        _rows(tmp_path, spec)
    _openvino_files(folder)
    (folder / "other.bin").rename(tmp_path / "secret.bin")
    with pytest.raises(CheckpointError, match=r"needs its weights as other\.bin beside it, and that is missing or a l"):
        _rows(tmp_path, spec)
    (folder / "other.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(CheckpointError, match=r"needs its weights as other\.bin beside it, and that is missing or a l"):
        _rows(tmp_path, spec)
    assert not (tmp_path / "r").exists()
