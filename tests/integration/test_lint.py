"""What the real server says of the faults that lint finds: the words on each rule's page are its own."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from lint.run import RULES
from server.arguments import Launch, arguments
from server.assemble import assembled, environment
from server.errors import AnswerError, NoAnswerError
from server.locate import find
from server.ports import reserve
from server.probe import Probe
from server.process import ServerProcess
from server.regions import leased_prefix
from server.stubs import find_stubs
from tests.integration.server_fixtures import wait_for
from tests.support.lint_faults import FAULTS, Fault
from tests.support.lint_repositories import GOOD, PYTHON_CONFIG, SIDE_BY_SIDE, TWO_STEPS, Make, write

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
    """A server that nobody watches over, with a repository that can be exchanged for another."""

    repository: Path
    log: Path
    prefix: str
    probe: Probe
    process: ServerProcess

    def put(self, make: Make) -> None:
        """Puts a repository in the place of the present one. The server forgets the models of that, for one that it
        cannot read again it would judge by the last time."""
        for name in {row.name for row in self.probe.index()}:
            self.probe.unload(name)
        # The server goes on unloading after its answer, and was seen to crash when the name is loaded again meanwhile.
        wait_for(lambda: not find_stubs(self.prefix), "all stubs have ended")
        shutil.rmtree(self.repository)
        self.repository.mkdir()
        make(self.repository)
        for path in self.repository.rglob("*"):
            if path.exists():
                os.utime(path, (0, next(CLOCK)))

    def refusal(self, fault: Fault) -> str:
        """What it answers when the model is to be loaded, and what it logs meanwhile."""
        self.put(fault.make)
        seen = len(self.log.read_bytes())
        with pytest.raises(AnswerError) as caught:
            self.probe.load(fault.model, 60)
        return f"{caught.value}\n{self.log.read_bytes()[seen:].decode(errors='replace')}"


@contextmanager
def serving(folder: Path) -> Iterator[Host]:
    """A server of its own. The supervisor's would be restarted, and knows only the models that it has loaded."""
    repository, log, installation = folder / "repository", folder / "triton.log", find()
    repository.mkdir()
    with leased_prefix() as prefix, assembled(installation, repository, prefix) as assembly:
        ports = reserve("127.0.0.1", (0, 0, 0))
        launch = Launch(
            assembly.repository, assembly.canaries, assembly.backends, "127.0.0.1", *ports, exit_timeout_s=8,
            control_key="key", shm_prefix=prefix,
        )  # fmt: skip
        command = [str(installation.binary), *arguments(launch, installation.version)]
        process = ServerProcess(command, environment(installation, os.environ), assembly.root, log)
        try:
            probe = Probe("127.0.0.1", ports[0], "key", timeout_s=30, grpc_port=ports[1])
            wait_for(probe.live, "the server is up", deadline_s=60)
            yield Host(repository, log, prefix, probe, process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One server for most tests."""
    with serving(tmp_path_factory.mktemp("lint")) as host:
        yield host


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
def test_the_server_dies_of_a_full_queue_beside_another_step(
    tmp_path: Path, config: str, queue: int, dies: bool
) -> None:
    outputs = ("answer",) if config is TWO_STEPS else ("answer", "between")  # a step that nobody asks for is not run
    with serving(tmp_path) as host:
        host.put(ensemble_of(config, queue))
        for model in ("last", "m", "e"):
            host.probe.load(model, 60)

        def ask(_number: int) -> str:
            try:
                host.probe.infer("e", 1, {"x": np.ones((1, 4), np.float32)}, outputs)
            except AnswerError as error:
                return "refused" if "maximum queue size" in str(error) else str(error)
            except NoAnswerError:
                return "no answer"
            return "answered"

        with ThreadPoolExecutor(12) as pool:
            outcome = Counter(pool.map(ask, range(12)))
        assert bool(outcome["no answer"]) == dies, outcome
        assert bool(outcome["refused"]) == (queue == 1 and not dies), outcome
        assert (b"Signal (11) received." in host.log.read_bytes()) == dies
