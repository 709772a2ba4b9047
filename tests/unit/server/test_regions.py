"""Whose shared memory may be removed: tried in a folder of its own, and with real locks of real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.errors import StartError
from server.regions import leased_prefix, remove, sweep

HOLD = """
import sys
from pathlib import Path
from server.regions import leased_prefix
with leased_prefix(Path(sys.argv[1])) as prefix:
    (Path(sys.argv[1]) / f"{prefix}region").touch()
    print(prefix, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other_run(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lease in `tmp_path` until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def test_a_lease_removes_its_own_at_the_end_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "trident_of_somebody").touch()
    with leased_prefix(tmp_path) as prefix:
        (tmp_path / f"{prefix}a").touch()
        (tmp_path / f"{prefix}b").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["trident_of_somebody"]


def test_two_leases_differ(tmp_path: Path) -> None:
    with leased_prefix(tmp_path) as one, leased_prefix(tmp_path) as other:
        assert one != other


def test_remove_keeps_what_it_is_told_to_keep(tmp_path: Path) -> None:
    with leased_prefix(tmp_path) as prefix:
        (tmp_path / f"{prefix}dead").touch()
        (tmp_path / f"{prefix}living").touch()
        assert remove(prefix, tmp_path, keep={f"{prefix}living"}) == (f"{prefix}dead",)
        assert (tmp_path / f"{prefix}living").exists()


def test_a_living_run_is_left_alone(tmp_path: Path, other_run: subprocess.Popen[str]) -> None:
    assert other_run.stdout
    prefix = other_run.stdout.readline().strip()
    assert sweep(tmp_path) == ()
    assert (tmp_path / f"{prefix}region").exists()


def test_a_killed_run_is_swept(tmp_path: Path, other_run: subprocess.Popen[str]) -> None:
    assert other_run.stdout
    prefix = other_run.stdout.readline().strip()
    other_run.kill()
    other_run.wait()
    assert (tmp_path / f"{prefix}region").exists()
    assert sweep(tmp_path) == (f"{prefix}region",)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(StartError, match=r"nowhere cannot be written .*mount it as a writable tmpfs"),
        leased_prefix(tmp_path / "nowhere"),
    ):
        pass
