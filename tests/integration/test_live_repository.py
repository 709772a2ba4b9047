"""A served repository that changes: what is published, rolled back, damaged or removed while clients ask."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from builder.live import asked_for, publish_from, roll_back
from builder.remote import fetch
from builder.repository import Repository
from core.files import sha256_parts
from core.results import Passport
from server.options import ServeOptions
from server.stubs import find_stubs
from server.supervisor import Server
from tests.integration.server_fixtures import leaves_nothing, onnx_bytes, wait_for, write_goldens, write_onnx
from tests.support.command import trident

DEADLINE_S = 30.0
QUESTION = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]})


def write_version(repository: Path, shift: int, name: str = "one", wrong_by: float = 0.0) -> Path:
    """A model whose answers are greater by `shift`, with goldens that are wrong by `wrong_by`; its only version."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    version = write_onnx(repository, name)
    model = onnx.load_from_string(onnx_bytes())
    bias = model.graph.initializer[1]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(shift), bias.name))
    (version / "model.onnx").write_bytes(model.SerializeToString())
    write_goldens(version, shift + wrong_by)
    passport = Passport.model_validate_json((version / "passport.json").read_bytes())
    key = sha256_parts([str(shift), str(wrong_by)])
    (version / "passport.json").write_bytes(passport.model_copy(update={"build_key": key}).to_json())
    return version.parent


@dataclass
class Callers:
    """Threads that ask the same question over and over, and what they were told: version -> answers, and errors."""

    url: str
    answers: dict[str, set[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    count: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Callers:
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        for thread in self._threads:
            thread.start()
        wait_for(lambda: self.count > 10, "they ask")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        host, _, port = self.url.partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        while not self._stop.is_set():
            connection.request("POST", "/v2/models/one/infer", QUESTION)
            answer = connection.getresponse()
            body = json.loads(answer.read())
            self.count += 1
            if answer.status == 200:
                self.answers.setdefault(body["model_version"], set()).add(body["outputs"][0]["data"][0])
            else:
                self.errors.append(str(body))
        connection.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with version 1 of a model, its answers not shifted."""
    publish_from(str(write_version(tmp_path / "source-0", 0)), str(tmp_path / "repository"), 3)
    return tmp_path / "repository"


@pytest.fixture
def told() -> list[str]:
    """What the server says."""
    return []


@pytest.fixture
def server(root: Path, tmp_path: Path, told: list[str]) -> Iterator[Server]:
    """A running server that looks often, and must leave nothing behind."""
    options = ServeOptions(
        root, run_dir=tmp_path / "run", health_port=0, look_interval_s=0.1, golden_interval_s=0, exit_timeout_s=1
    )
    with Server(options, told.append) as running:
        yield running
    assert leaves_nothing(running)


def serves(server: Server, model: str = "one") -> list[int]:
    """The versions of a model that are ready."""
    return [state.version for state in server.models if state.name == model and state.ready]


def page(server: Server, name: str) -> tuple[int, str]:
    """Status and text of one of the supervisor's pages."""
    try:
        with urllib.request.urlopen(f"http://{server.health_url}/{name}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_versions_come_and_go_under_load(server: Server, root: Path, tmp_path: Path, told: list[str]) -> None:
    """Nobody is refused, and every answer is that of the version which it names."""
    with Callers(server.http_url) as callers:
        for shift in (1, 2):
            change = publish_from(str(write_version(tmp_path / f"source-{shift}", shift)), str(root), 3)
            assert (change.version, change.before) == (shift + 1, shift)
            wait_for(lambda version=change.version: serves(server) == [version], "it is served", DEADLINE_S)  # type: ignore[misc]
        for version in (2, 3, 1):
            roll_back(Repository.at(root), "one", version)
            wait_for(lambda version=version: serves(server) == [version], "it serves again", DEADLINE_S)  # type: ignore[misc]
        before = callers.count
        wait_for(lambda: callers.count > before + 50, "they go on asking")
    assert callers.errors == []
    assert callers.answers == {"1": {0.5}, "2": {1.5}, "3": {2.5}}
    assert (server.restarts, server.reloads) == (0, 0)
    wait_for(lambda: len(find_stubs(server.shm_prefix)) == 1, "the replaced versions' processes have ended", DEADLINE_S)
    assert not any("NOT ready" in sentence for sentence in told)


def test_what_does_not_prove_itself_is_refused(server: Server, root: Path, tmp_path: Path, told: list[str]) -> None:
    """Wrong answers, and a file that is not what was verified; also by a server that starts anew meanwhile."""
    with Callers(server.http_url) as callers:
        publish_from(str(write_version(tmp_path / "wrong", 1, wrong_by=1.0)), str(root), 9)
        wait_for(lambda: server.refused, "it is refused", DEADLINE_S)
        assert server.refused["one"].versions == (2,)
        assert "differs from the published answers by up to 1" in server.refused["one"].reason
        publish_from(str(write_version(tmp_path / "damaged", 2)), str(root), 9)
        wait_for(lambda: serves(server) == [3], "the third is well", DEADLINE_S)
        assert server.refused == {}
        publish_from(str(write_version(tmp_path / "fourth", 3)), str(root), 9)
        (root / "one" / "4" / "model.onnx").write_bytes(b"half a mod")
        wait_for(lambda: server.refused, "it is refused", DEADLINE_S)
        assert server.refused["one"].reason == "version 4: its model.onnx is not the file that was verified"
        assert serves(server) == [3]
        status, text = page(server, "models")
        assert (status, json.loads(text)["refused"]["one"]["versions"]) == (200, [4])
    assert callers.errors == []
    assert callers.answers == {"1": {0.5}, "3": {2.5}}
    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: server.restarts == 1 and serves(server) == [3], "the one before it stands in", DEADLINE_S)
    assert "version 4 is refused, 3 serves on" in " ".join(told)
    (root / "one" / "4" / "model.onnx").unlink()
    roll_back(Repository.at(root), "one", 3)
    wait_for(lambda: server.refused == {}, "it serves what it is asked for", DEADLINE_S)


def test_models_come_and_go(server: Server, root: Path, tmp_path: Path) -> None:
    publish_from(str(write_version(tmp_path / "more", 5, "two")), str(root), 3)
    wait_for(lambda: serves(server, "two") == [1], "the new one is served", DEADLINE_S)
    (root / "two").rename(tmp_path / "gone")
    wait_for(lambda: {state.name for state in server.models} == {"one"}, "it is dismissed", DEADLINE_S)
    assert serves(server) == [1]
    assert {stub.model for stub in find_stubs(server.shm_prefix)} == {"one"}
    root.rename(tmp_path / "away")  # not mounted for a while
    with pytest.raises(AssertionError, match="not within"):
        wait_for(lambda: serves(server) != [1], "nothing changes", 1.0)
    (tmp_path / "away").rename(root)


def test_the_supervisors_pages(server: Server) -> None:
    assert page(server, "livez") == (200, '{"live": true}\n')
    assert page(server, "readyz")[0] == 200
    (stub,) = find_stubs(server.shm_prefix)
    os.kill(stub.pid, signal.SIGKILL)
    wait_for(lambda: page(server, "readyz")[0] == 503, "it is not ready", DEADLINE_S)
    assert "its process" in page(server, "readyz")[1] or "loading" in page(server, "readyz")[1]
    wait_for(lambda: page(server, "readyz")[0] == 200, "it is ready again", DEADLINE_S)
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page(server, "metrics")[1])
        for sample in family.samples
    }
    assert values["trident_server_up",] == values["trident_model_ready", "one", "1"] == 1
    assert values["trident_model_reloads_total",] == 1
    assert values["trident_server_restarts_total",] == values["trident_model_refused", "one"] == 0
    assert values["trident_model_resident_bytes", "one"] > 1e6
    assert page(server, "else")[0] == 404


def test_draining_is_said_before_requests_are_refused(root: Path, tmp_path: Path) -> None:
    server = Server(ServeOptions(root, run_dir=tmp_path / "run", health_port=0, drain_delay_s=1.5, exit_timeout_s=1))
    server.start()
    with Callers(server.http_url) as callers:
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        wait_for(lambda: page(server, "readyz")[0] == 503, "it says so", 1.0)
        before = callers.count
        wait_for(lambda: callers.count > before + 20, "it answers all the same", 1.0)
    stopping.join()
    assert callers.errors == []
    assert leaves_nothing(server)


def test_the_commands(server: Server, root: Path, tmp_path: Path) -> None:
    """Published and rolled back by the command line, which waits until the server has followed."""
    place = ("--repository", str(root))
    there = ("--server", str(server.health_url), *place)
    done = trident("publish", str(write_version(tmp_path / "next", 1)), *there, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["version"], told["before"], serves(server)) == (0, 2, 1, [2])
    assert told["served_after_s"] < DEADLINE_S
    done = trident("publish", str(write_version(tmp_path / "bad", 7, wrong_by=1)), *there)
    assert (done.returncode, serves(server)) == (5, [2])
    assert "version 3 was refused by the server: its output y differs" in done.stderr
    assert "version 2 serves on, and is what the repository asks for again" in done.stderr
    rows = json.loads(trident("versions", "one", *place, "--json").stdout)
    assert [(row["version"], row["serves"]) for row in rows] == [(3, None), (2, "held")]
    assert trident("rollback", "one", *there).returncode == 5  # 1 went when 3 came
    done = trident("publish", str(write_version(tmp_path / "good", 8)), "--keep", "3", *there)
    assert (done.returncode, serves(server)) == (0, [4])
    done = trident("rollback", "one", "--to", "2", *there)
    assert (done.returncode, serves(server)) == (0, [2])
    assert "one is to serve version 2 in place of 4; it does, " in done.stdout
    assert trident("verify", *place).returncode == 0
    (root / "one" / "4" / "golden.npz").write_bytes(b"")
    done = trident("verify", *place)
    assert (done.returncode, "one version 4: its golden.npz is not the file" in done.stderr) == (5, True)
    done = trident("rollback", "one", "--to", "4", *place)
    assert (done.returncode, "is not served again: its golden.npz" in done.stderr) == (5, True)


def test_a_rebuild_of_the_same_leaves_the_server_held(root: Path, tmp_path: Path) -> None:
    """As a build publishes: the same again changes nothing, another version ends it."""
    repository = Repository.at(root)
    second = fetch(str(write_version(tmp_path / "second", 1)), tmp_path, keep_versions=9)
    with repository.locked():
        assert repository.publish(second) == 2
    roll_back(repository, "one", 1)
    with repository.locked():
        assert repository.publish(second) == 2
    assert asked_for(repository, "one") == 1
    assert repository.has_config("one", repository.as_held("one", second.config))
    third = fetch(str(write_version(tmp_path / "third", 2)), tmp_path, keep_versions=9)
    with repository.locked():
        assert repository.publish(third) == 3
    assert asked_for(repository, "one") == 3


def test_two_publishers_at_once(root: Path, tmp_path: Path) -> None:
    """Each publishes ten versions of the same model; none is lost or half written, and the numbers have no gap."""
    publish = (
        "import sys; from pathlib import Path; from builder.live import publish_from\n"
        "for source in sys.argv[2:]: publish_from(source, sys.argv[1], 99)\n"
    )
    folders = [str(write_version(tmp_path / f"source-{shift}", shift)) for shift in range(1, 21)]
    publishers = [
        subprocess.Popen([sys.executable, "-c", publish, str(root), *some]) for some in (folders[:10], folders[10:])
    ]
    assert [publisher.wait(60) for publisher in publishers] == [0, 0]
    repository = Repository.at(root)
    assert repository.versions("one") == list(range(1, 22))
    assert all(repository.intact("one", version) for version in repository.versions("one"))
    keys = {repository.passport("one", version).build_key for version in repository.versions("one")}  # type: ignore[union-attr]
    assert len(keys) == 21
