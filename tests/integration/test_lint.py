"""What the real server says of the faults that lint finds: the words on each rule's page are its own."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from lint.run import RULES
from server.errors import AnswerError, NoAnswerError
from server.options import ServeOptions
from server.probe import Probe
from server.supervisor import Server
from tests.integration.server_fixtures import wait_for
from tests.support.lint_faults import FAULTS, Fault
from tests.support.lint_repositories import GOOD, PYTHON_CONFIG, SIDE_BY_SIDE, TWO_STEPS, Make, good_onnx, write

WORDS = [(fault, RULES[fault.code].server_says if fault.says is None else fault.says) for fault in FAULTS]
REFUSED = [(fault, words) for fault, words in WORDS if words]
CLOCK = count(
    2_000_000_000
)  # the server reads a file again if its time is another; writing is quicker than clocks tick
PASS_ON = """
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        rows = [request.inputs()[0].as_numpy() for request in requests]
        return [triton.InferenceResponse([triton.Tensor("y", row)]) for row in rows]
"""
SLOW = """
import time
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.1)
        rows = [request.inputs()[0].as_numpy()[:, :3] for request in requests]
        return [triton.InferenceResponse([triton.Tensor("y", row)]) for row in rows]
"""


@dataclass(frozen=True)
class Host:
    """A running server whose repository can be exchanged for another."""

    repository: Path
    server: Server

    @property
    def probe(self) -> Probe:
        """Requests with the key for loading models."""
        assert self.server._life is not None
        return self.server._life.probe

    def put(self, make: Make) -> None:
        """Puts a repository in the place of the present one. The server forgets the models of that, for one that it
        cannot read again it would judge by the last time."""
        for name in {row.name for row in self.probe.index()} - {"keeper"}:
            self.probe.unload(name)
        for model in self.repository.iterdir():
            if model.name != "keeper":
                shutil.rmtree(model)
        make(self.repository)
        for path in self.repository.rglob("*"):
            if path.exists():
                os.utime(path, (0, next(CLOCK)))

    def refusal(self, fault: Fault) -> str:
        """What it answers when the model is to be loaded, and what it logs meanwhile."""
        self.put(fault.make)
        seen = len(self.server.log.read_bytes())
        with pytest.raises(AnswerError) as caught:
            self.probe.load(fault.model, 60)
        return f"{caught.value}\n{self.server.log.read_bytes()[seen:].decode(errors='replace')}"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One server for all."""
    folder = tmp_path_factory.mktemp("lint")
    repository = folder / "repository"
    good_onnx(repository).rename(repository / "keeper")
    path = repository / "keeper" / "config.pbtxt"
    path.write_text(path.read_text().replace('"m"', '"keeper"'))
    with Server(ServeOptions(repository, run_dir=folder / "run", golden_interval_s=0)) as server:
        yield Host(repository, server)


@pytest.mark.parametrize(("fault", "words"), REFUSED, ids=[f"{f.code}-{at}" for at, (f, _) in enumerate(REFUSED)])
def test_the_server_refuses_it_in_these_words(host: Host, fault: Fault, words: str) -> None:
    assert words in host.refusal(fault)


@pytest.mark.parametrize("name", ["onnx", "openvino", "torch", "labels", "ensemble"])
def test_the_server_takes_the_good_ones(host: Host, name: str) -> None:
    host.put(GOOD[name])
    for model in ("m", *(["e"] if name == "ensemble" else [])):
        host.probe.load(model, 60)
    assert host.probe.infer(model, 1, {"x": np.ones((2, 4), np.float32)}, ("answer" if model == "e" else "y",))


def test_a_fixed_batch_fails_on_every_other_one(host: Host) -> None:
    host.put(next(fault.make for fault in FAULTS if fault.code == "TRN201"))
    host.probe.load("m", 60)
    host.probe.infer("m", 1, {"x": np.ones((1, 4), np.float32)}, ("y",))
    with pytest.raises(AnswerError, match="Got invalid dimensions for input: x"):
        host.probe.infer("m", 1, {"x": np.ones((2, 4), np.float32)}, ("y",))


def ensemble_of(config: str, queue: int) -> Make:
    """`m` is slow and refuses what its queue cannot hold; `last` is quick."""
    one = (PYTHON_CONFIG + "max_batch_size: 1\n").replace("max_batch_size: 8\n", "")

    def make(root: Path) -> None:
        write(root, one.replace("max_queue_size: 64", f"max_queue_size: {queue}"), {"model.py": SLOW.encode()})
        dims = "[ 4 ]" if config is SIDE_BY_SIDE else "[ 3 ]"
        last = one.replace('"m"', '"last"').replace("dims: [ 4 ]", f"dims: {dims}")
        write(root, last, {"model.py": PASS_ON.encode()}, "last")
        write(root, config.replace("max_batch_size: 8", "max_batch_size: 1"), {}, "e")

    return make


@pytest.mark.parametrize(
    ("config", "queue", "dies"), [(TWO_STEPS, 1, False), (SIDE_BY_SIDE, 64, False), (SIDE_BY_SIDE, 1, True)]
)
def test_the_server_dies_of_a_full_queue_beside_another_step(host: Host, config: str, queue: int, dies: bool) -> None:
    host.put(ensemble_of(config, queue))
    for model in ("last", "m", "e"):
        host.probe.load(model, 60)
    probe, restarts = replace(host.probe, timeout_s=20), host.server.restarts
    outputs = ("answer",) if config is TWO_STEPS else ("answer", "between")  # a step that nobody asks for is not run

    def ask(_number: int) -> str:
        try:
            probe.infer("e", 1, {"x": np.ones((1, 4), np.float32)}, outputs)
        except AnswerError as error:
            return "refused" if "maximum queue size" in str(error) else str(error)
        except NoAnswerError:
            return "no answer"
        return "answered"

    with ThreadPoolExecutor(12) as pool:
        outcome = Counter(pool.map(ask, range(12)))
    assert bool(outcome["no answer"]) == dies, outcome
    assert bool(outcome["refused"]) == (queue == 1 and not dies), outcome
    if dies:
        wait_for(lambda: host.server.restarts > restarts and host.probe.live(), "the supervisor has started it again")
        assert b"Signal (11) received." in host.server.log.read_bytes()
