"""A build that dies in the midst and is run again does not do twice what was finished: steps, and whole variants."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from core.results import BuildReport
from tests.support.tiny import torch_spec

VARIANTS = (
    "onnx_fp32, onnx_int8_mixed, onnx_int8_smooth, onnx_int8_qat, onnx_int4_weights, openvino_fp32, "
    "openvino_int8_smooth"
)
STEPS = {
    "export_onnx", "fold_onnx", "quantize_onnx_mixed", "smooth_onnx", "quantize_onnx_static", "train_quantized",
    "quantize_onnx_weights", "to_openvino", "quantize_openvino",
}  # fmt: skip
MADE = re.compile(r"^   (\w+): made (\w+) in", re.MULTILINE)
DEADLINE_S = 120


def _made(log: Path) -> list[tuple[str, str]]:
    """Step and key of all that was finished so far, in all builds: each adds to the log."""
    return MADE.findall(log.read_text()) if log.is_file() else []


def test_a_build_killed_after_every_second_step_does_no_step_twice(tmp_path: Path) -> None:
    spec, artifacts = torch_spec(tmp_path / "model", variants=VARIANTS, max_drop="20pt"), tmp_path / "artifacts"
    where = ["--repository", str(tmp_path / "repository"), "--artifacts", str(artifacts)]
    command = [sys.executable, "-m", "trident.main", "build", str(spec), *where]
    log = artifacts / "tiny" / "build.log"
    killed = 0
    while True:
        before = len(_made(log))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + DEADLINE_S
        while process.poll() is None and len(_made(log)) < before + 2:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.005)
        process.kill()
        _, words = process.communicate()
        if process.returncode != -signal.SIGKILL:
            break
        killed += 1
    assert process.returncode == 0, words
    assert killed >= 4
    steps, keys = zip(*_made(log), strict=True)
    assert set(steps) == STEPS
    assert len(set(keys)) == len(keys), f"made twice: {sorted(steps)}"
    report = BuildReport.model_validate_json((artifacts / "build-report.json").read_bytes())
    assert {row.status for row in report.models[0].rows} == {"published"}
    assert report.models[0].rows[0].from_cache  # it was published before a build was killed
