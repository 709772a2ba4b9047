"""Which models of a repository are served."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.errors import NothingToServeError
from server.repository import find_models


def _repository(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").touch()
    return folder


def test_folders_with_a_configuration_are_models(tmp_path: Path) -> None:
    _repository(tmp_path, "b", "a", ".staging")
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").touch()
    assert find_models(tmp_path) == ("a", "b")


def test_only_those_wanted(tmp_path: Path) -> None:
    assert find_models(_repository(tmp_path, "a", "b", "c"), ["c", "a"]) == ("a", "c")


def test_a_missing_repository(tmp_path: Path) -> None:
    with pytest.raises(NothingToServeError, match=r"nowhere does not exist; run `make build-repo`"):
        find_models(tmp_path / "nowhere")


def test_an_empty_repository(tmp_path: Path) -> None:
    with pytest.raises(NothingToServeError, match="holds no model; run `make build-repo`"):
        find_models(tmp_path)


def test_an_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(NothingToServeError, match=r"no model z in .*; it holds a, b"):
        find_models(_repository(tmp_path, "a", "b"), ["a", "z"])


@pytest.mark.parametrize("name", ["a b", "a;touch x", "$(id)", "a'b", "-a", "ä"])
def test_names_that_a_shell_would_read_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(NothingToServeError, match="hands its name to a shell; rename it"):
        find_models(_repository(tmp_path, "good", name))


def test_an_unsafe_name_that_is_not_wanted_does_not_matter(tmp_path: Path) -> None:
    assert find_models(_repository(tmp_path, "good", "a b"), ["good"]) == ("good",)
