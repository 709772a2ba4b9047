"""What importing the load test brings along, and how its own process ends for a plan that cannot be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import loadtest
from loadtest import LoadEvent

# Locust patches the process that imports it; the others are not needed to start another process.
HEAVY = ("locust", "gevent", "geventhttpclient", "tritonclient", "grpc", "torch")


def test_importing_the_load_test_patches_nothing() -> None:
    code = f"import sys, loadtest; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert all(hasattr(loadtest, name) for name in loadtest.__all__)


def test_a_plan_that_cannot_be_read_is_one_sentence_and_exit_code_8(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest", str(tmp_path / "no.json"), "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (8, "")
    event = LoadEvent.model_validate_json(result.stdout)
    words = f"the plan {tmp_path / 'no.json'} cannot be read: No such file or directory"
    assert (event.kind, event.message) == ("failed", words)
