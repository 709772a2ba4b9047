"""Serving and load testing measured: `make bench-serving` writes `benchmarks/serving.json` and the table in
docs/load-testing.md. Needs `make peers` once, for the servers it is compared with and NVIDIA's perf_analyzer.

Ratios are of windows that lie seconds apart, in turns; intervals come from resampling rounds. Server, peers and load
generator share the machine's cores unless a claim says otherwise. Each part takes less than five minutes and is kept in
`--work FOLDER`, so that a stopped run goes on there; `--part NAME` runs one.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import onnxruntime

from benchmarks.claims import between, claims_table, counted, tally
from benchmarks.client_latency import SMALL, write_models
from benchmarks.demo import commit
from benchmarks.peers.prepare import perf_analyzer
from benchmarks.serving_load import Contestant, Dialect, Generator
from benchmarks.serving_models import SIDE, build
from benchmarks.serving_peers import against, interleaved, onnx_peers, ratio_claim, torch_peers
from benchmarks.serving_verdicts import frozen_claims, verdict_claims
from client import InferenceClient
from core.comparison import Benchmark, Claim
from core.files import write_atomically
from core.intervals import block_ratio
from core.load_results import LoadWindow
from core.machine import cores, describe, now, versions
from core.results import ResultModel
from core.samples import SamplePackInfo, pack_bytes, write_pack
from core.tensors import Arrays, TensorSpec
from server.options import ServeOptions
from server.supervisor import Server

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parent / "docs/load-testing.md"
BEGIN, END = "<!-- serving: begin (written by `make bench-serving`) -->", "<!-- serving: end -->"
ROUNDS: Final = 24  # short windows, so that what the machine does meanwhile meets both sides of a ratio
BATCHES: Final = (1, 2, 4, 8, 16, 32)
Measured = tuple[tuple[Claim, ...], tuple[LoadWindow, ...]]
"""Claims, and the windows behind them."""


@contextmanager
def serving(work: Path, *models: str, repository: Path | None = None) -> Iterator[Server]:
    """Those models of the benchmark's repository, or of another, whose goldens are checked at the start only."""
    options = ServeOptions(
        repository or work / "models/repository", run_dir=work / "run", models=models, golden_interval_s=0,
        hang_timeout_s=120,
    )  # fmt: skip
    with Server(options) as server:
        yield server


def contestant(server: Server, work: Path, model: str, dialect: Dialect = "raw") -> Contestant:
    """A model of the benchmark's own, spoken to in that dialect."""
    address = server.grpc_url if dialect == "grpc" else server.http_url
    pack = work / "models/artifacts" / model.partition("_")[0]
    return Contestant(name=model, dialect=dialect, address=address, model=model, pack=pack)


def verdicts(work: Path) -> Measured:
    """The load test's verdicts, resampled and live."""
    with serving(work, "deep_onnx_fp32", "twin_onnx_fp32", "slow_onnx_fp32") as server:
        return verdict_claims(server, work / "models/artifacts/deep", work / "verdicts")


def frozen(work: Path) -> Measured:
    """A server that is stopped for a second."""
    with serving(work, "tiny_onnx_fp32") as server:
        return frozen_claims(server, work / "models/artifacts/tiny", work / "frozen")


def perf_analyzer_gap(work: Path) -> Measured:
    """NVIDIA's perf_analyzer beside the load test, in turns, over HTTP with four users."""
    program, environment = perf_analyzer()
    names, users = {"": "deep_onnx_fp32", "_small": "tiny_onnx_fp32"}, 4
    claims, windows = list[Claim](), list[LoadWindow]()
    with serving(work, *names.values()) as server:
        mine = [contestant(server, work, name, "http") for name in names.values()]
        with Generator(mine) as generator:
            for suffix, name in names.items():
                gaps: dict[str, list[float]] = {"rps": [], "p50": []}
                for number in range(1, ROUNDS // 2 + 1):
                    theirs = _analyzed(program, environment, server.http_url, name, users, work)
                    window = generator.window(name, users, 1.0, number)
                    windows.append(window)
                    gaps["rps"].append(window.throughput_rps / theirs["Inferences/Second"])
                    gaps["p50"].append((window.p50_ms or 0.0) * 1000 / theirs["p50 latency"])
                unit = f"% of perf_analyzer's, {name}, {users} users"
                claims += [
                    gap_claim(f"perf_analyzer_{figure}_gap_pct{suffix}", ratios, unit, None if suffix else 5.0)
                    for figure, ratios in gaps.items()
                ]
    return tuple(claims), tuple(windows)


def _analyzed(
    program: Path, environment: Mapping[str, str], url: str, name: str, users: int, work: Path
) -> dict[str, float]:
    """One run of perf_analyzer: the columns of its file. Three windows of 0.35 s, whose mean it reports."""
    report = work / "perf_analyzer.csv"
    command = [
        str(program), "-m", name, "-u", url, "-i", "http", "--concurrency-range", str(users), "-p", "350", "-s", "90",
        "-f", str(report),
    ]  # fmt: skip
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"perf_analyzer failed: {(done.stderr or done.stdout)[-1000:]}")
    [row] = csv.DictReader(io.StringIO(report.read_text()))
    return {column: float(row[column]) for column in ("Inferences/Second", "p50 latency")}


def gap_claim(name: str, ratios: Sequence[float], unit: str, target: float | None) -> Claim:
    """How far two tools are apart, whichever says more. It holds if the whole interval lies within the target."""
    value, (low, high) = block_ratio(ratios)
    far = max(abs(low - 1), abs(high - 1)) * 100
    near = 0.0 if low <= 1 <= high else min(abs(low - 1), abs(high - 1)) * 100
    return Claim(
        id=name, value=100 * abs(value - 1), ci95=(near, far), unit=f"{unit}; ours is {value:.3f} of it",
        target=target, better="lower", holds=target is None or far <= target,
    )  # fmt: skip


def peers(work: Path) -> Measured:
    """The same ONNX file behind other servers."""
    model, pack = work / "models/tiny.onnx", work / "models/artifacts/tiny"
    names = ("tiny_onnx_fp32", "tiny-two_onnx_fp32")
    with serving(work, *names) as server:
        http = tuple(contestant(server, work, name) for name in names)
        grpc = tuple(
            contestant(server, work, name, "grpc").model_copy(update={"name": f"{name} over gRPC"}) for name in names
        )
        ours = {"fastapi_raw": http, "fastapi_json": http, "litserve": http, "mlserver": grpc}
        targets = {"fastapi_raw": 1.6, "fastapi_json": 7.0, "litserve": 1.5, "mlserver": None}
        return against(ours, onnx_peers(model), pack, work / "peers", targets)


def image_peer(work: Path) -> Measured:
    """Pictures of the usual size as JSON, beside the same as bytes."""
    with serving(work, "image_onnx_fp32") as server:
        ours = {"fastapi_json_image": (contestant(server, work, "image_onnx_fp32"),)}
        ways = {"fastapi_json_image": onnx_peers(work / "models/image.onnx")["fastapi_json"]}
        return against(ours, ways, work / "models/artifacts/image", work / "peers", {"fastapi_json_image": 7.0})


def dense_peers(work: Path) -> Measured:
    """A network whose time goes into reading its weights, which servers that form batches do once a batch."""
    name, ways = "dense_onnx_fp32", onnx_peers(work / "models/dense.onnx")
    with serving(work, name) as server:
        mine = (contestant(server, work, name),)
        chosen = {f"{peer}_dense": ways[peer] for peer in ("fastapi_raw", "litserve")}
        targets = {"fastapi_raw_dense": 1.6, "litserve_dense": 1.5}
        return against(dict.fromkeys(chosen, mine), chosen, work / "models/artifacts/dense", work / "peers", targets)


def torch_peer(work: Path) -> Measured:
    """The example's network in eager PyTorch behind FastAPI, beside Trident's best variant of it."""
    example, pack = HERE.parent / "examples/fashion", work / "models/artifacts/fashion"
    names = ("fashion_openvino_int8", "fashion-two_openvino_int8")
    with serving(work, *names) as server:
        ours = {"fastapi_torch": tuple(contestant(server, work, name) for name in names)}
        ways = torch_peers(example / "model.py", example / "fashion.pt")
        return against(ours, ways, pack, work / "peers", {"fastapi_torch": 5.0})


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """The file as the server's backend loads it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = cores(), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def rps_of(session: onnxruntime.InferenceSession, batch: int, seconds: float) -> float:
    """Samples a second, one batch after the other."""
    x, done, began_s = np.random.default_rng(2).random((batch, 3, SIDE, SIDE), np.float32), 0, time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < seconds:
        session.run(None, {"x": x})
        done += batch
    return done / took_s


def retained(work: Path) -> Measured:
    """What is left of the throughput in process when the model is served: batches on both sides, or on neither."""
    session, windows = session_of(work / "models/deep.onnx"), list[LoadWindow]()
    ways = {"": ("deep_onnx_fp32", 8, 16), "_single": ("deep-single_onnx_fp32", 1, 4)}
    shares: dict[str, list[float]] = {suffix: [] for suffix in ways}
    names = [name for name, _, _ in ways.values()]
    with serving(work, *names) as server, Generator([contestant(server, work, name) for name in names]) as generator:
        for number in range(1, ROUNDS + 1):
            for suffix, (name, batch, users) in ways.items():
                alone = rps_of(session, batch, 1.0)
                windows.append(generator.window(name, users, 1.0, number))
                shares[suffix].append(100 * windows[-1].throughput_rps / alone)
    return tuple(
        ratio_claim(
            f"retained_throughput_pct{suffix}", shares[suffix],
            f"% of in process at batch {batch}, {name}, {users} users, {cores()} threads", None if suffix else 92.0,
        )
        for suffix, (name, batch, users) in ways.items()
    ), tuple(windows)  # fmt: skip


def times_ms(path: Path, seconds: float = 0.7) -> dict[int, float]:
    """Batch size -> the median time of one batch in process, the sizes in turns."""
    session = session_of(path)
    [taken] = session.get_inputs()
    batches = {size: np.random.default_rng(2).random((size, *taken.shape[1:]), np.float32) for size in BATCHES}
    took: dict[int, list[float]] = {size: [] for size in BATCHES}
    deadline_s = time.perf_counter() + seconds * len(BATCHES)
    while time.perf_counter() < deadline_s:
        for size, batch in batches.items():
            began_s = time.perf_counter()
            session.run(None, {taken.name: batch})
            took[size].append(1000 * (time.perf_counter() - began_s))
    return {size: median(values) for size, values in took.items()}


def batching(work: Path) -> Measured:
    """Batches that the server forms, over a largest batch of 1; and what the network's own times allow. The users are
    Triton's own rule of thumb for the most throughput: twice the largest batch."""
    users, pairs = 64, {"small": ("tiny", "tiny-single"), "cnn": ("fashion", "fashion-single")}
    names = [f"{model}_onnx_fp32" for pair in pairs.values() for model in pair]
    files = {"small": work / "models/tiny.onnx"}
    [files["cnn"]] = (work / "models/repository/fashion_onnx_fp32").glob("*/model.onnx")
    with (
        serving(work, *names) as server,
        Generator([contestant(server, work, name) for name in names]) as generator,
        InferenceClient(server.http_url) as client,
    ):
        before = {name: client.statistics(name) for name in names}
        windows = interleaved(generator, names, (users,), 0.5, ROUNDS)
        counts = {name: client.statistics(name) - before[name] for name in names}
    claims = []
    targets = {"small": 1.6, "cnn": 1.15}
    for kind, pair in pairs.items():
        many, single = ([w for w in windows if w.variant == f"{model}_onnx_fp32"] for model in pair)
        count = counts[many[0].variant]
        mean = count.inferences / max(1, count.executions)
        time_ms = times_ms(files[kind])
        table = ", ".join(f"t({size}) {value:.2f}" for size, value in time_ms.items())
        bound = max(size * time_ms[1] / time_ms[size] for size in BATCHES)
        gains = [one.throughput_rps / other.throughput_rps for one, other in zip(many, single, strict=True)]
        tails = [(other.p95_ms or 0.0) / (one.p95_ms or np.inf) for one, other in zip(many, single, strict=True)]
        unit = f"x {pair[1]}, {users} users"
        claims += [
            ratio_claim(f"batching_gain_{kind}", gains, f"{unit}, {mean:.1f} a batch", targets[kind]),
            ratio_claim(f"batching_p95_{kind}", tails, f"x shorter p95 than {pair[1]}, {users} users", 1.0),
            counted(f"batching_bound_{kind}", bound, f"x, what the network alone allows: {table} ms", 0.0, "higher")
            .model_copy(update={"target": None}),
        ]  # fmt: skip
    return tuple(claims), windows


def users_per_core(work: Path) -> Measured:
    """What each kind of user can send per second of its CPU time, to a model that computes nothing. The generator has
    the last core for itself, the server the others."""
    available = sorted(os.sched_getaffinity(0))
    repository, pack = work / "null/repository", work / "null/pack"
    if not repository.exists():
        write_models(repository)
    write_null_pack(pack)
    dialects: dict[Dialect, float] = {"http": 2000.0, "grpc": 1700.0, "raw": 4000.0}
    try:
        os.sched_setaffinity(0, available[:-1] or available)
        with serving(work, "null", repository=repository) as server:
            mine = [
                Contestant(
                    name=dialect, dialect=dialect, model="null", pack=pack,
                    address=server.grpc_url if dialect == "grpc" else server.http_url,
                )
                for dialect in dialects
            ]  # fmt: skip
            with Generator(mine, available[-1:]) as generator:
                windows = interleaved(generator, list(dialects), (16,), 0.5, ROUNDS)
    finally:
        os.sched_setaffinity(0, available)
    claims = []
    for dialect, target in dialects.items():
        mine_ = [window for window in windows if window.variant == dialect]
        rates = [window.throughput_rps / (window.generator_cores or np.inf) for window in mine_]
        busy = median(window.generator_cores or 0.0 for window in mine_)
        unit = f"requests per second of CPU time, 12 KB, 16 users, {busy:.2f} of a core busy"
        claims.append(ratio_claim(f"{dialect}_user_rps_per_core", rates, unit, target))
    return tuple(claims), windows


def write_null_pack(folder: Path) -> None:
    """Samples for the model that answers ten zeros to whatever it gets."""
    inputs: Arrays = {"x": np.random.default_rng(1).random((64, SMALL), np.float32)}
    goldens: Arrays = {"y": np.zeros((64, 10), np.float32)}
    labels = np.zeros(64, np.int64)
    data = pack_bytes(inputs, goldens, labels)
    info = SamplePackInfo(
        model="null", count=64, inputs=(TensorSpec(name="x", dtype="float32", dims=(SMALL,)),),
        outputs=(TensorSpec(name="y", dtype="float32", dims=(10,)),), metric="top1", metric_output="y",
        sha256=hashlib.sha256(data).hexdigest(),
    )  # fmt: skip
    write_pack(folder, info, data)


PARTS: Final[Mapping[str, Callable[[Path], Measured]]] = {
    "perf_analyzer": perf_analyzer_gap, "frozen": frozen, "verdicts": verdicts,
    "peers": peers, "dense": dense_peers, "image": image_peer, "torch": torch_peer,
    "retained": retained, "batching": batching, "users": users_per_core,
}  # fmt: skip


class Done(ResultModel):
    """A part of the benchmark that is over: what `--work` keeps."""

    minutes: float
    claims: tuple[Claim, ...]
    windows: tuple[LoadWindow, ...]


def carry_out(name: str, work: Path) -> Done:
    """One part, unless `work` holds it already."""
    note = work / f"{name}.json"
    if not note.is_file():
        if not (work / "models/done").exists():
            build(work / "models")
            (work / "models/done").touch()
        begun = time.monotonic()
        claims, windows = PARTS[name](work)
        write_atomically(note, Done(minutes=(time.monotonic() - begun) / 60, claims=claims, windows=windows).to_json())
    done = Done.model_validate_json(note.read_bytes())
    print(f"-- {name}: {done.minutes:.1f} minutes", flush=True)
    for one in done.claims:
        print(f"   {one.id}: {one.value:.3g} ({one.ci95[0]:.3g} to {one.ci95[1]:.3g}) {'' if one.holds else 'NO'}")
    return done


def measure(work: Path) -> Benchmark:
    """Everything that `work` does not hold from a run before."""
    parts = [carry_out(name, work) for name in PARTS]
    minutes = sum(part.minutes for part in parts)
    own = counted("bench_minutes", minutes, f"minutes on {cores()} cores, the models' build apart", 40.0, "lower")
    return Benchmark(
        created_at=now(), command="make bench-serving", machine=describe(), versions=versions(), commit=commit(),
        rows=(), windows=tuple(window for part in parts for window in part.windows),
        claims=(*(found for part in parts for found in part.claims), own),
    )  # fmt: skip


def rewrite(page: str, benchmark: Benchmark) -> str:
    """The page with the part between the marks made anew."""
    return between(page, BEGIN, END, claims_table(benchmark))


def main() -> None:
    """Measures, or with `--page` only rewrites the page from the committed file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="a folder to keep finished parts in: a stopped run goes on there")
    parser.add_argument("--part", choices=list(PARTS), nargs="+", help="only these, with --work")
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite docs/load-testing.md")
    options = parser.parse_args()
    os.environ |= {"ORT_DISABLE_TELEMETRY": "1"}
    if options.part:
        if not options.work:
            parser.error("--part needs --work, which keeps what it found")
        for name in options.part:
            carry_out(name, options.work.absolute())
        return
    result = HERE / "serving.json"
    if not options.page:
        with tempfile.TemporaryDirectory() as folder:
            write_atomically(result, measure((options.work or Path(folder)).absolute()).to_json())
    benchmark = Benchmark.model_validate_json(result.read_bytes())
    write_atomically(PAGE, rewrite(PAGE.read_text(), benchmark).encode())
    print(f"{result}: {tally(benchmark)}")


if __name__ == "__main__":
    main()
