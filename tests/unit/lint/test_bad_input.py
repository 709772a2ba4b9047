"""Repositories that nobody should have, and someone does: findings, never a traceback."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.errors import RepositoryError, UsageError
from lint.releases import NEWEST, find_release
from lint.run import lint
from tests.support.lint_faults import archive
from tests.support.lint_repositories import (
    ENSEMBLE_CONFIG,
    GOOD,
    ONNX_CONFIG,
    OPENVINO_CONFIG,
    TORCH_CONFIG,
    good_labels,
    good_onnx,
    onnx_bytes,
    openvino_bytes,
    torchscript_bytes,
    write,
)


def codes(path: Path) -> set[str]:
    return {found.code for found in lint(path, NEWEST, cores=2).findings}


def test_a_label_file_of_200_mb_is_not_read(tmp_path: Path) -> None:
    folder = good_labels(tmp_path)
    with (folder / "labels.txt").open("wb") as file:
        file.truncate(200 << 20)
    (found,) = lint(tmp_path, NEWEST, cores=2).findings
    assert (found.code, found.message) == ("TRN108", "labels.txt has 200 MiB, too many to be names of classes")


def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    folder = good_onnx(tmp_path)
    (folder / "config.pbtxt").unlink()
    os.mkfifo(folder / "config.pbtxt")
    assert codes(tmp_path) >= {"TRN005"}


def test_a_model_that_is_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    folder = good_onnx(tmp_path)
    (folder / "1" / "model.onnx").unlink()
    os.mkfifo(folder / "1" / "model.onnx")
    assert codes(tmp_path) == {"TRN115"}


@pytest.mark.parametrize("place", ["config.pbtxt", "1/model.onnx", "1"])
def test_links_in_a_circle(tmp_path: Path, place: str) -> None:
    folder = good_onnx(tmp_path)
    path = folder / place
    path.rename(folder / "away") if path.is_dir() else path.unlink()
    path.symlink_to(path.name)
    assert codes(tmp_path) & {"TRN005", "TRN102", "TRN110"}


def test_config_and_model_that_are_folders(tmp_path: Path) -> None:
    folder = good_onnx(tmp_path)
    for name in ("config.pbtxt", "1/model.onnx"):
        (folder / name).unlink()
        (folder / name).mkdir()
    assert "TRN005" in codes(tmp_path)


def test_a_thousand_models(tmp_path: Path) -> None:
    model = onnx_bytes()
    for number in range(1000):
        write(tmp_path, ONNX_CONFIG.replace('"m"', f'"m{number}"'), {"model.onnx": model}, f"m{number}")
    report = lint(tmp_path, NEWEST, cores=2)
    assert (report.models, report.findings) == (1000, ())


def test_ensembles_of_ensembles_a_hundred_deep(tmp_path: Path) -> None:
    good_onnx(tmp_path)
    for number in range(100):
        below = "m" if number == 0 else f"e{number - 1}"
        config = ENSEMBLE_CONFIG.replace('"e"', f'"e{number}"').replace('model_name: "m"', f'model_name: "{below}"')
        write(tmp_path, config if number == 0 else config.replace('key: "y"', 'key: "answer"'), {}, f"e{number}")
    assert codes(tmp_path) == set()


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything; this is nobody."""
    before = os.geteuid()
    os.seteuid(65534 if before == 0 else before)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("closed", ["m", "m/config.pbtxt", "m/1", "m/1/model.onnx", "m/labels.txt"])
def test_what_is_closed_to_us_is_a_finding(closed: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is for root only
        repository = Path(folder)
        good_labels(repository)
        repository.chmod(0o755)
        (repository / closed).chmod(0)
        with unprivileged():
            found = codes(repository)
        (repository / closed).chmod(0o755)
    assert found & {"TRN005", "TRN110"}, found


def test_an_empty_repository_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"holds no model: each is a folder"):
        lint(tmp_path, NEWEST, cores=2)


def spoiled(data: bytes, chance: random.Random) -> bytes:
    """Cut off, or with a few bytes changed."""
    changed = bytearray(data[: chance.randrange(len(data) + 1)] if chance.random() < 0.5 else data)
    for _ in range(chance.randint(1, 20) if changed else 0):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("form", ["onnx", "openvino", "torch"])
def test_spoiled_model_files_never_raise(tmp_path: Path, form: str) -> None:
    config, name, data = {
        "onnx": (ONNX_CONFIG, "model.onnx", onnx_bytes()),
        "openvino": (OPENVINO_CONFIG, "model.xml", openvino_bytes()[0]),
        "torch": (TORCH_CONFIG, "model.pt", torchscript_bytes()),
    }[form]
    folder, chance = write(tmp_path, config, {}), random.Random(2)
    troubled = 0
    for _ in range(150):
        (folder / "1" / name).write_bytes(spoiled(data, chance))
        troubled += "TRN115" in codes(tmp_path)
    assert troubled > 25


def test_a_bomb_in_an_archive_and_one_in_xml(tmp_path: Path) -> None:
    bomb = archive({"net/data.pkl": bytes(80 << 20), "net/constants.pkl": b"."})
    write(tmp_path, TORCH_CONFIG, {"model.pt": bomb})
    entities = (
        b"<!DOCTYPE net [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]><net version='11'>&b;</net>"
    )
    write(tmp_path, OPENVINO_CONFIG.replace('"m"', '"x"'), {"model.xml": entities}, "x")
    (archived, document) = lint(tmp_path, NEWEST, cores=2).findings
    assert (archived.code, document.code) == ("TRN115", "TRN115")
    assert "larger than 64 MiB" in archived.message and "declares an entity" in document.message


def test_the_path_may_be_a_model_or_its_configuration(tmp_path: Path) -> None:
    folder = GOOD["ensemble"](tmp_path)
    assert isinstance(folder, Path)
    for path in (folder, folder / "config.pbtxt"):
        report = lint(path, NEWEST, cores=2)
        assert (report.models, report.findings) == (1, ())


def test_a_path_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"nowhere is no folder; name a model repository"):
        lint(tmp_path / "nowhere", NEWEST, cores=2)


def test_an_unknown_release_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"Triton 19.01 is not in the table of .*24.01 to "):
        find_release("19.01")
