"""The planner's part of `make bench-lint`: ONNX models of the examples, served as planned and by Triton's defaults for
ONNX on a CPU, two instances with a thread for every core each, side by side on one server.

The load: as many callers as the defaults' instances can have batches for, in a closed loop, each its own connection.
A round gives each configuration its turn, in changing order; a claim is over the ratios within rounds.

The defaults are measured twice. `embedded` is the same backend with two instances of all threads: only the plan
differs. `native` also lets ONNX Runtime's idle threads spin, as NVIDIA's own backend does, which has no parameter for
it; Trident's backend never lets them.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from benchmarks.claims import claim
from benchmarks.demo import TRIDENT, run
from benchmarks.in_process import write_spec
from client import InferenceClient
from core.comparison import Claim
from core.samples import read_pack
from core.tensors import Arrays
from server.options import ServeOptions
from server.supervisor import Server

EXAMPLES: Final = ("fashion", "crepe", "lite0", "minilm", "wardrobe")
COMPUTE_BOUND: Final = "minilm"  # of the examples, the one whose inference takes longest
PLANNED, EMBEDDED, NATIVE = "planned", "embedded", "native"
CALLERS, WINDOW_S, ROUNDS = 8, 1.5, 13
SPINNING: Final = """\
import onnxruntime
from server.backends.onnxruntime.model import TritonPythonModel as Ours


class TritonPythonModel(Ours):
    def load(self, path, config):
        file = path.with_name("model.onnx")
        self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
"""


def planner_claims(example: str, folder: Path) -> tuple[Claim, ...]:
    """How much more the plan of an example serves than either default. On the compute-bound one it is to be 1.3."""
    rates = measure(example, folder / example)
    bound, name = (1.3, "") if example == COMPUTE_BOUND else (0.97, f"_{example}")
    claims = []
    for what, other, unit in (
        ("default", EMBEDDED, "x Triton's defaults for ONNX on a CPU"),
        ("native_default", NATIVE, "x the same with threads that spin, as NVIDIA's own backend leaves them"),
    ):
        ratios = [ours / theirs for ours, theirs in zip(rates[PLANNED], rates[other], strict=True)]
        served = f"{example}'s onnx_fp32 served to {CALLERS} callers"
        claims.append(claim(f"planner_over_{what}{name}", ratios, f"{unit}, {served}", bound))
    return tuple(claims)


def measure(example: str, folder: Path) -> dict[str, list[float]]:
    """Answers a second of each configuration, round by round."""
    folder.mkdir()
    spec = write_spec(example, ("onnx_fp32",), folder, {})
    built = folder / "built"
    run([*TRIDENT, "build", str(spec), "--repository", str(built), "--artifacts", str(folder / "artifacts")])
    repository = folder / "served"
    for name in (PLANNED, EMBEDDED, NATIVE):
        write_model(built / f"{example}_onnx_fp32", repository / name)
    inputs = read_pack(folder / "artifacts" / example).inputs
    with Server(ServeOptions(repository=repository, run_dir=folder / "run", golden_interval_s=0)) as server:
        found: dict[str, list[float]] = {name: [] for name in (PLANNED, EMBEDDED, NATIVE)}
        for name in found:
            rate(server.http_url, name, inputs, 1.0)
        order = random.Random(0)
        for _ in range(ROUNDS):
            for name in order.sample(list(found), len(found)):
                found[name].append(rate(server.http_url, name, inputs, WINDOW_S))
    return found


def write_model(source: Path, target: Path) -> None:
    """The built model under another name, as it was planned or by Triton's defaults."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("golden.npz"))
    config = text_format.Parse((source / "config.pbtxt").read_text(), pb.ModelConfig())
    config.name = target.name
    if target.name != PLANNED:
        config.instance_group[0].count = 2
        for name in ("intra_op_thread_count", "inter_op_thread_count"):
            del config.parameters[name]
    if target.name == NATIVE:
        config.backend = "python"
        for version in target.glob("[0-9]*"):
            (version / "model.py").write_text(SPINNING)
    (target / "config.pbtxt").write_text(text_format.MessageToString(config))


def rate(url: str, model: str, inputs: Arrays, seconds: float) -> float:
    """Answers a second to callers in a closed loop."""
    counts = [0] * CALLERS
    ends = time.monotonic() + seconds

    def call(number: int) -> None:
        with InferenceClient(url) as client:
            for sample in _samples(inputs, number):
                if time.monotonic() >= ends:
                    break
                client.infer(model, sample)
                counts[number] += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - started)


def _samples(inputs: Arrays, first: int) -> Iterator[Arrays]:
    count = len(next(iter(inputs.values())))
    at = first
    while True:
        yield {name: array[at % count : at % count + 1] for name, array in inputs.items()}
        at += CALLERS
