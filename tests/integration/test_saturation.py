"""INT8 on a CPU without VNNI instructions does not saturate, and would at full range."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.saturation import old_cpu, onnx_noise_db, openvino_noise_db, write_source
from builder.artifact import Artifact

GAIN_DB = 10.0
SATURATED_DB = 10.0  # above it the weights did not saturate at full range, and the test would show nothing


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """One matrix product with weights that saturate."""
    return write_source(tmp_path_factory.mktemp("saturating"))


def test_onnx_static_int8_does_not_saturate_without_vnni(source: Artifact, tmp_path: Path) -> None:
    cpu = old_cpu()
    if cpu is None:
        pytest.skip("qemu-x86_64 is not installed (Debian: qemu-user): no CPU without VNNI can be had for ONNX Runtime")
    naive_db = onnx_noise_db(source, cpu, tmp_path, False)
    assert naive_db < SATURATED_DB
    assert onnx_noise_db(source, cpu, tmp_path, True) >= naive_db + GAIN_DB


def test_openvino_int8_does_not_saturate_without_vnni(source: Artifact, tmp_path: Path) -> None:
    naive_db = openvino_noise_db(source, tmp_path, False)
    assert naive_db < SATURATED_DB
    assert openvino_noise_db(source, tmp_path, True) >= naive_db + GAIN_DB
