"""The heavy part of a build, run in a child process: PyTorch, ONNX Runtime, OpenVINO and NNCF are loaded only here.

A native crash on an artifact's first load thus costs one variant and not the build, and a build that finds everything
unchanged loads none of them.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from builder.artifact import Artifact
from builder.data import check_data, examine_samples, load_samples, warnings
from builder.errors import CheckpointError, DataError, StepError
from builder.imports import import_artifact
from builder.layers import read_layers
from builder.recipes import Recipe
from builder.source import load_torch, source_artifact
from builder.spec import ModelSpec
from builder.step import run_recipe
from builder.steps.cluster_weights import ShareWeights
from core.errors import TridentError, one_line
from core.files import write_atomically
from core.machine import cores
from core.results import Costs, GraphFacts, LayerNoise, MetricValue, Timing, Verdict
from core.samples import GOLDEN_ROWS, SamplePackInfo, pack_bytes, read_pack, write_pack
from core.tensors import Arrays

T = TypeVar("T")
BATCH = 64  # of the in-process evaluation
POLL_S = 0.2


@dataclass(frozen=True)
class Workplace:
    """Where a model's build keeps its things: `artifacts/<model>/` and the cache that all models share."""

    folder: Path
    cache: Path

    def outputs(self, variant: str) -> Path:
        """A variant's in-process answers to all evaluation samples, npz by output name."""
        return self.folder / "outputs" / f"{variant}.npz"


@dataclass(frozen=True)
class Built:
    """What the child hands back for one variant."""

    artifact: Artifact
    verdict: Verdict
    timing: Timing
    costs: Costs | None  # of what passed its gates
    graph: GraphFacts
    shared_bytes: int | None
    layers: tuple[LayerNoise, ...]
    golden: bytes
    golden_tolerance: dict[str, float]
    opset: int | None
    ir_version: int | None


@dataclass(frozen=True)
class Original:
    """What the checkpoint itself is: its metric, and its count of parameters where the format tells."""

    metric: MetricValue
    parameters: int | None
    warnings: tuple[str, ...]


def examine_original(spec: ModelSpec, place: Workplace) -> Original:
    """Checks the data, runs the original on all evaluation samples and writes the sample pack."""
    from builder.graph import parameter_count
    from builder.runtimes import predictor
    from builder.verify import measure, predict_all, prove_original, take

    place.cache.mkdir(parents=True, exist_ok=True)
    evaluation = load_samples(spec, spec.data.evaluation)
    calibration = examine_samples(spec, spec.data.calibration)
    training = examine_samples(spec, spec.data.training) if spec.data.training else None
    check_data(spec, calibration, evaluation, training)
    source = source_artifact(spec, place.cache)
    try:
        original = predictor(source, cores())
        first = predict_all(original, take(evaluation.inputs, [0]), 1)  # a mistake is told before all are run
    except TridentError:
        raise
    except Exception as error:  # each runtime, and each network, raises kinds of its own
        raise CheckpointError(
            f"the checkpoint of {spec.name} does not run on inputs and to outputs as the spec describes them; "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    _check_outputs(spec, first)
    batch = min(BATCH, spec.batch.max, len(evaluation))
    try:
        outputs = predict_all(original, evaluation.inputs, batch)
    except Exception as error:
        raise CheckpointError(
            f"the checkpoint of {spec.name} runs on one sample and not on a batch of {batch}: its batch axis is fixed; "
            f"export it with a dynamic one, or say `batch: {{max: 1}}`; {type(error).__name__}: {one_line(error)}"
        ) from error
    _check_outputs(spec, outputs)
    prove_original(original, evaluation.inputs, spec)
    metric = measure(spec, outputs, evaluation.labels)
    if not math.isfinite(metric.value):
        raise DataError(f"{metric.name} is not defined on {spec.data.evaluation}: all labels or all answers are alike")
    data = pack_bytes(evaluation.inputs, outputs, evaluation.labels)
    info = SamplePackInfo(
        model=spec.name,
        count=len(evaluation),
        inputs=spec.inputs,
        outputs=spec.outputs,
        metric=spec.metric.name,
        higher_is_better=spec.metric.function.higher_is_better,
        metric_output=spec.metric.output,
        sha256=_sha256(data),
    )
    write_pack(place.folder, info, data)
    return Original(metric, parameter_count(spec), warnings(spec, calibration, metric))


def _check_outputs(spec: ModelSpec, outputs: Arrays) -> None:
    """Raises InputError or StepError unless the original gives what the spec says, in finite numbers."""
    for tensor in spec.outputs:
        tensor.check(outputs[tensor.name], f"output {tensor.name!r} of the checkpoint of {spec.name}")
        if np.issubdtype(outputs[tensor.name].dtype, np.floating) and not np.isfinite(outputs[tensor.name]).all():
            raise StepError(f"the checkpoint of {spec.name} answers NaN or infinity in {tensor.name!r}; train it again")


def build_variant(spec: ModelSpec, recipe: Recipe, place: Workplace, source_sha256: str) -> Built:
    """Checkpoint to verified, timed artifact. Raises BatchAxisError or StepError with the variant's reason to fail."""
    from builder.costs import measure_costs
    from builder.graph import graph_facts
    from builder.runtimes import predictor
    from builder.timing import time_pair
    from builder.verify import SMALLEST, Accuracy, judge, predict_all, prove_axes, take

    source = source_artifact(spec, place.cache)
    if source.sha256 != source_sha256:
        raise StepError("the checkpoint changed while it was being built; build again")
    artifact = _make(spec, recipe, place, source)
    pack = read_pack(place.folder)
    original, variant = predictor(source, cores()), predictor(artifact, cores())
    prove_axes(variant, original, pack.inputs, spec, Accuracy(recipe.tolerance, recipe.faithful))
    outputs = predict_all(variant, pack.inputs, min(BATCH, spec.batch.max))
    verdict = judge(spec, pack.goldens, outputs, pack.labels)
    write_atomically(place.outputs(recipe.variant), _npz(outputs))
    rows = list(range(min(GOLDEN_ROWS, pack.info.count, spec.batch.max)))
    opset, ir_version = _onnx_versions(artifact)
    return Built(
        artifact=artifact,
        verdict=verdict,
        timing=time_pair(original, variant, pack.inputs),
        costs=measure_costs(artifact, variant, pack.inputs, spec.batch.max) if verdict.passed else None,
        graph=graph_facts(artifact, cores()),
        shared_bytes=_shared_bytes(recipe, source, place),
        layers=read_layers(artifact.folder),
        golden=pack_bytes(take(pack.inputs, rows), take(outputs, rows)),
        golden_tolerance={
            name: recipe.tolerance * max(SMALLEST, float(np.abs(value).max())) for name, value in outputs.items()
        },
        opset=opset,
        ir_version=ir_version,
    )


def time_variant(spec: ModelSpec, recipe: Recipe, place: Workplace) -> tuple[Timing, Costs]:
    """Only what `build_variant` measures, of an artifact that the cache most likely still holds."""
    from builder.costs import measure_costs
    from builder.runtimes import predictor
    from builder.timing import time_pair

    source = source_artifact(spec, place.cache)
    artifact = _make(spec, recipe, place, source)
    inputs, variant = read_pack(place.folder).inputs, predictor(artifact, cores())
    timing = time_pair(predictor(source, cores()), variant, inputs)
    return timing, measure_costs(artifact, variant, inputs, spec.batch.max)


def _make(spec: ModelSpec, recipe: Recipe, place: Workplace, source: Artifact) -> Artifact:
    """The recipe's artifact: made from the checkpoint, or by another tool and looked over."""
    if recipe.imported:
        return import_artifact(spec, recipe.imported, place.cache)
    steps = recipe.steps_from(source.format)
    assert steps is not None  # the caller asked `unavailable` first
    if any(step.reads_training for step in steps):
        import torch

        torch.set_num_threads(cores())  # whatever else this process did before: other sums would be other weights
    return run_recipe(steps, source, place.cache, on_step=lambda name: print(f"== {recipe.variant}: {name}"))


def _shared_bytes(recipe: Recipe, source: Artifact, place: Workplace) -> int | None:
    """What the recipe's network, before its export, would take as codebooks and indices; None unless a step makes it
    share weights."""
    from builder.codebooks import shared_bytes

    if not any(isinstance(step, ShareWeights) for step in recipe.steps):
        return None
    steps = tuple(step for step in recipe.steps if step.produces == "torch")
    return shared_bytes(load_torch(source.spec, run_recipe(steps, source, place.cache).path))


def _onnx_versions(artifact: Artifact) -> tuple[int | None, int | None]:
    if artifact.format != "onnx":
        return None, None
    import onnx

    model = onnx.load(artifact.path, load_external_data=False)
    return max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), model.ir_version


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _npz(arrays: dict[str, Any]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


@dataclass
class Workshop:
    """One reused child process; a new one is made after a crash. Its prints go to `log`."""

    log: Path
    _pool: ProcessPoolExecutor | None = field(default=None, init=False)
    _running: bool = field(default=False, init=False)

    def run(
        self,
        function: Callable[..., T],
        *arguments: object,
        on_epoch: Callable[[str], None] = lambda line: None,  # noqa: ARG005
    ) -> T:
        """Runs a function of this module in the child and gives its result. Its errors come through; a crash of the
        child becomes a StepError. `on_epoch` is told each line on an epoch of training that it prints."""
        if self._pool is None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.touch()
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), _start_child, (str(self.log), os.getpid()))
        try:
            self._running = True
            with self.log.open() as log:
                log.seek(0, os.SEEK_END)
                found = self._pool.submit(function, *arguments)
                while not wait((found,), timeout=POLL_S).done:  # what interrupts the waiting leaves the call running
                    for line in log:
                        if line.startswith("epoch "):
                            on_epoch(line.strip())
            self._running = False
            return found.result()
        except BrokenProcessPool:
            self._pool = None
            raise StepError(
                f"the build process died, most likely in native code; its last words are in {self.log}"
            ) from None

    def reason(self, error: Exception) -> str:
        """Why a variant failed, in a sentence that says where to read more."""
        words = str(error) if isinstance(error, TridentError) else f"{type(error).__name__}: {one_line(error)}"
        return f"{words.strip()} (log: {self.log})"

    def close(self) -> None:
        """Ends the child: it may clean up after itself, unless a call is still running, which is not waited for."""
        if self._pool is not None:
            if self._running:
                for process in list((self._pool._processes or {}).values()):
                    process.terminate()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _start_child(log: str, parent: int) -> None:
    # As in the `pytorch` backend, and for its reason: what the original is timed against is the same on both sides.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # They report usage to their makers: ONNX Runtime unless told not to, OpenVINO and NNCF where this module is found.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    PR_SET_PDEATHSIG = 1  # noqa: N806
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the line above
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
