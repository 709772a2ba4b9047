"""The strict mode of tests/conftest.py, seen from outside: pytest run on small suites that skip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

SKIPS = {
    "mark": "import pytest\n@pytest.mark.skip(reason='no such thing')\ndef test_x(): ...\n",
    "call": "import pytest\ndef test_x(): pytest.skip('no such thing')\n",
    "module": "import pytest\npytest.skip('no such thing', allow_module_level=True)\n",
}
XFAIL = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_x(): assert False\n"


def run(folder: Path, source: str, *, strict: bool, inside: str = "unit") -> subprocess.CompletedProcess[str]:
    """Pytest's run on a suite of `source` and a passing test, under the project's conftest.py."""
    shutil.copy(CONFTEST, folder)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / inside).mkdir()
    (folder / inside / "test_one.py").write_text(source)
    (folder / "test_passes.py").write_text("def test_passes(): ...\n")
    env = {**os.environ, "TRIDENT_STRICT": str(int(strict))}
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("kind", SKIPS)
@pytest.mark.parametrize("inside", ["unit", "docker"])
def test_skip_fails_with_its_reason_when_strict(tmp_path: Path, kind: str, inside: str) -> None:
    result = run(tmp_path, SKIPS[kind], strict=True, inside=inside)
    assert result.returncode in (1, 2), result.stdout
    assert "allows no skip here" in result.stdout
    assert "no such thing" in result.stdout


@pytest.mark.parametrize("kind", SKIPS)
def test_skip_is_allowed_where_the_machine_decides(tmp_path: Path, kind: str) -> None:
    result = run(tmp_path, SKIPS[kind], strict=True, inside="gpu")
    assert result.returncode == 0, result.stdout
    assert "1 passed, 1 skipped" in result.stdout


def test_skip_passes_when_not_strict(tmp_path: Path) -> None:
    result = run(tmp_path, SKIPS["mark"], strict=False)
    assert result.returncode == 0, result.stdout


def test_expected_failure_is_no_skip(tmp_path: Path) -> None:
    result = run(tmp_path, XFAIL, strict=True)
    assert result.returncode == 0, result.stdout
    assert "1 xfailed" in result.stdout
