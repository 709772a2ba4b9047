"""Publishing out of and into places that are no folder of this machine: S3 (a server of moto's), memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from builder.errors import PublishError
from builder.live import publish_from
from builder.remote import fetch, locate
from builder.repository import Repository
from tests.integration.test_live_repository import write_version
from tests.support.command import trident


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket's URL, on a server of its own; who would reach it by fsspec finds it by the environment."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("models")
        yield "s3://models/repository"
        fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


def source(tmp_path: Path, shift: int) -> str:
    """The folder of a model whose answers are shifted."""
    return str(write_version(tmp_path / f"source-{shift}", shift))


def test_to_s3_and_back(bucket: str, tmp_path: Path) -> None:
    """The command puts two versions there; a host then takes the newest, every byte compared on both ways."""
    for shift in (1, 2):
        assert trident("publish", source(tmp_path, shift), "--repository", bucket).returncode == 0
    folder = locate(f"{bucket}/one")
    assert folder.versions() == [1, 2]
    done = trident("publish", f"{bucket}/one", "--repository", str(tmp_path / "here"), "--json")
    assert (done.returncode, '"version": 1, "before": 0' in done.stdout) == (0, True)
    here = Repository.at(tmp_path / "here")
    assert here.intact("one", 1)
    assert here.passport("one", 1) == Repository.at(tmp_path / "source-2").passport("one", 1)
    publish_from(f"{bucket}/one", str(tmp_path / "here"), 2, version=1)
    assert here.passport("one", 2) == Repository.at(tmp_path / "source-1").passport("one", 1)


def test_old_versions_go_and_the_same_is_not_published_twice(tmp_path: Path) -> None:
    target = f"memory://{tmp_path.name}/old"
    for shift in (1, 2, 3, 3):
        publish_from(source(tmp_path, shift) if shift < 3 else str(_third(tmp_path)), target, 2)
    assert locate(f"{target}/one").versions() == [2, 3]


def _third(tmp_path: Path) -> Path:
    path = tmp_path / "source-3" / "one"
    return path if path.exists() else write_version(tmp_path / "source-3", 3)


def test_a_file_that_was_changed_is_not_taken(tmp_path: Path) -> None:
    target = f"memory://{tmp_path.name}/changed"
    publish_from(source(tmp_path, 1), target, 2)
    place = locate(f"{target}/one")
    place.files.pipe_file(f"{place.path}/1/model.onnx", b"another")
    with pytest.raises(PublishError, match=r"1/model.onnx is not the file that was verified"):
        publish_from(f"{target}/one", str(tmp_path / "here"), 2)
    assert Repository.at(tmp_path / "here").models() == []


def test_what_arrives_damaged_is_removed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = f"memory://{tmp_path.name}/lossy"
    publish_from(source(tmp_path, 1), target, 2)
    place = locate(f"{target}/one")
    put = type(place.files).put_file

    def lossy(files: object, local: str, remote: str) -> None:
        put(files, local, remote)
        place.files.pipe_file(remote, place.files.cat_file(remote)[:-1])

    monkeypatch.setattr(type(place.files), "put_file", lossy)
    with pytest.raises(PublishError, match="did not arrive as it was sent; publish again"):
        publish_from(source(tmp_path, 2), target, 2)
    assert place.versions() == [1]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nowhere/one", r"nowhere/one/config.pbtxt cannot be read: it does not exist"),
        ("gopher://host/one", r"gopher://host/one cannot be reached: Protocol not known: gopher"),
        ("s3://no-such-bucket/one", r"s3://no-such-bucket/one/config.pbtxt cannot be read"),
        ("some where/$(touch x)", r"is no name of a model; name the model's own folder"),
    ],
)
def test_places_that_cannot_be_read(bucket: str, tmp_path: Path, url: str, why: str) -> None:  # noqa: ARG001
    done = trident("publish", url, "--repository", str(tmp_path / "here"))
    assert (done.returncode, done.stderr.count("\n")) == (5, 1)
    with pytest.raises(PublishError, match=why):
        publish_from(url, str(tmp_path / "here"), 2)


def test_a_passport_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    version = write_version(tmp_path / "evil", 1) / "1"
    passport = Repository.at(tmp_path / "evil").passport("one", 1)
    assert passport is not None
    evil = passport.model_copy(update={"files": {"../../../etc/passwd": "0" * 64}})
    (version / "passport.json").write_bytes(evil.to_json())
    with pytest.raises(PublishError, match="lies outside of the version's folder"):
        fetch(str(version.parent), tmp_path)


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="has no version 7; it has 1"):
        publish_from(source(tmp_path, 1), str(tmp_path / "here"), 2, version=7)
