"""What a model's folder asks the server to serve."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from server.wanted import holding, read_config, read_wanted


def write(folder: Path, policy: str, versions: tuple[int, ...] = (1, 2, 10)) -> Path:
    """A model's folder with a policy and empty versions."""
    for version in versions:
        (folder / str(version)).mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    beside = folder / ".config"
    beside.write_text(f'name: "m"\nmax_batch_size: 4\n{policy}\n')
    beside.rename(folder / "config.pbtxt")
    return folder


@pytest.mark.parametrize(
    ("policy", "versions", "others"),
    [
        ("", (10,), (2, 1)),
        ("version_policy { latest { num_versions: 2 } }", (2, 10), (1,)),
        ("version_policy { latest { } }", (10,), (2, 1)),
        ("version_policy { all { } }", (1, 2, 10), ()),
        ("version_policy { specific { versions: [1, 7] } }", (1,), (10, 2)),
        ("nonsense {", (10,), (2, 1)),
    ],
)
def test_the_policy_chooses(tmp_path: Path, policy: str, versions: tuple[int, ...], others: tuple[int, ...]) -> None:
    wanted = read_wanted(write(tmp_path / "m", policy))
    assert (wanted.versions, wanted.others) == (versions, others)


def test_no_folder_asks_for_nothing(tmp_path: Path) -> None:
    assert read_wanted(tmp_path / "none").versions == ()


def test_the_mark_differs_when_what_is_wanted_was_replaced(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", "")
    mark = read_wanted(folder).mark
    assert read_wanted(folder).mark == mark
    (folder / "1").rmdir()  # not wanted, so nothing to the server
    (folder / ".staging-11").mkdir()
    assert read_wanted(folder).mark == mark
    (folder / "11").mkdir()
    newer = read_wanted(folder).mark
    write(folder, "version_policy { specific { versions: 2 } }", ())
    held = read_wanted(folder).mark
    (folder / "2").rename(folder / "gone")
    (folder / "2").mkdir()
    os.utime(folder / "2", (1, 1))
    assert len({mark, newer, held, read_wanted(folder).mark}) == 4


def test_a_configuration_for_one_version(tmp_path: Path) -> None:
    config = read_config(write(tmp_path / "m", "version_policy { all { } } dynamic_batching { }"))
    held = json.loads(holding(config, 2))
    assert held["version_policy"] == {"specific": {"versions": ["2"]}}
    assert (held["name"], held["max_batch_size"], held["dynamic_batching"]) == ("m", 4, {})
    assert config.version_policy.HasField("all")  # the one that was read is as it was
