"""What compression wins on a network of 11 MB: `make bench-compress` writes `benchmarks/compress.json` and the tables
in docs/compress.md and examples/wardrobe/README.md. It trains, and takes most of an hour on two cores; the time that
each part took is printed.

The original is examples/wardrobe, and so is the chain: its compression in that example's spec, quantized. Losses are
paired, on all 10,000 test images. Times are of alternating blocks in one process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import yaml

from benchmarks.claims import counted, tally
from benchmarks.compress_pages import rewrite_pages
from benchmarks.compress_search import optimized
from benchmarks.demo import TRIDENT, commit, run
from benchmarks.in_process import EXAMPLES, InProcess, faster, lost, points, timed, write_spec
from builder.artifact import Artifact
from builder.data import Samples, load_samples
from builder.graph import graph_facts
from builder.recipes import recipe_of
from builder.runtimes import predictor
from builder.source import source_artifact
from builder.spec_file import load_spec
from builder.step import run_recipe
from builder.verify import predict_all, take
from core.comparison import Benchmark, Claim, SummaryRow
from core.files import write_atomically
from core.intervals import mean_interval
from core.machine import cores, describe, now, versions
from core.results import BuildReport, BuildRow, ResultModel

HERE = Path(__file__).parent
CHILD: Final = "quarter_openvino_int8"
PUBLISHED: Final = ("torch_fp32", "onnx_fp32", "openvino_fp32", "openvino_int8", "quarter_openvino_fp32", CHILD)
# Structure alone decides their time, so they are not trained.
UNTRAINED: Final[dict[str, list[dict[str, Any]]]] = {
    "half": [{"step": "prune_channels", "share": 0.5}],
    "sparse": [{"step": "prune_weights", "share": 0.8}],
}
# Half of every layer's arithmetic less, and a short training of what begins near the original.
FACTORED: Final[dict[str, list[dict[str, Any]]]] = {
    "thin": [
        {"step": "low_rank", "share": 0.5},
        {"step": "finetune", "epochs": 2, "samples": 20000, "lr": 0.02, "optimizer": "sgd", "weight_decay": 0.0005,
         "warmup": 0.25, "mirror": True, "shift": 2, "mixed": True},
    ],
}  # fmt: skip
SEEDS: Final = (1, 2, 3)
# Where a teacher should help by what is known of them: few labels, so that there is much that only it can tell; images
# that are only mirrored, so that it is asked about the very images that the student sees, though only once.
FEW: Final[dict[str, Any]] = {"epochs": 40, "samples": 5000, "shift": 0}


def trained(folder: Path) -> tuple[Claim, ...]:
    """The example as it is: the teacher's quarter taught, both exported and quantized, built and published."""
    path = write_spec("wardrobe", PUBLISHED, folder)
    seconds = run([*TRIDENT, "build", str(path), "--repository", f"{folder}/r", "--artifacts", f"{folder}/a"])
    return (counted("chain_build_s", seconds, "s, training and all six variants", 1800.0, "lower"),)


def chain(folder: Path) -> tuple[Claim, ...]:
    """What that build says of the whole chain, timed again now that nothing trains, and its time beside the original's;
    batch 16 as a row."""
    path = folder / "wardrobe.yaml"
    run([*TRIDENT, "build", str(path), "--retime", "--repository", f"{folder}/r", "--artifacts", f"{folder}/a"])
    row = next(row for row in _built(folder) if row.variant == CHILD)
    verdict, compression = row.verdict, row.compression
    assert verdict and compression, row.reason
    made = _artifacts(path, folder / "a/cache", (CHILD,))
    loaded = {name: predictor(artifact, cores()) for name, artifact in made.items()}
    spec = load_spec(path)
    few = take(load_samples(spec, spec.data.evaluation).inputs, list(range(16)))
    drop = (verdict.drop, *verdict.drop_ci95)
    return (
        faster("combined_speedup", loaded, "original", CHILD, few, 1, 15.0),
        faster("combined_speedup_batch16", loaded, "original", CHILD, few, 16, None),
        counted("combined_compression", compression, f"x smaller than torch_fp32, {CHILD}", 20.0, "higher"),
        points("combined_drop_pt", drop, f"of top1, {CHILD}, {verdict.metric.samples} samples", 1.0),
    )


def untrained(folder: Path) -> tuple[Claim, ...]:
    """What fewer channels, and what zeros, are worth in time."""
    variants = tuple(f"{name}_{base}" for name in UNTRAINED for base in ("onnx_fp32", "openvino_fp32"))
    path = write_spec("wardrobe", ("onnx_fp32", "openvino_fp32", *variants), folder, UNTRAINED)
    artifacts = _artifacts(path, folder / "cache", ("onnx_fp32", "openvino_fp32", *variants))
    loaded = {name: predictor(artifact, cores()) for name, artifact in artifacts.items()}
    inputs = take(load_samples(load_spec(path), load_spec(path).data.evaluation).inputs, list(range(16)))
    flops = {name: graph_facts(artifacts[name], cores()).flops for name in ("onnx_fp32", "half_onnx_fp32")}
    whole, half = flops["onnx_fp32"], flops["half_onnx_fp32"]
    assert whole and half
    saved = 1 - half / whole
    found: list[Claim] = []
    for base, batch in (("openvino_fp32", 1), ("openvino_fp32", 16), ("onnx_fp32", 1), ("onnx_fp32", 16)):
        timing = timed(loaded, base, f"half_{base}", inputs, batch)
        share, low, high = (100 * (1 - 1 / ratio) / saved for ratio in (timing.speedup, *timing.speedup_ci95))
        name = "structured_mac_to_latency_pct" + ("" if not found else f"_{base.partition('_')[0]}_batch{batch}")
        unit = f"% of the {100 * saved:.0f}% of multiply-adds that half the channels save, {base}, batch {batch}"
        holds = low >= 75
        claim_ = Claim(id=name, value=share, ci95=(low, high), unit=unit, target=75.0, better="higher", holds=holds)
        found.append(claim_)
    for base in ("onnx_fp32", "openvino_fp32"):
        name = f"unstructured_speedup_{base.partition('_')[0]}"
        found.append(faster(name, loaded, base, f"sparse_{base}", inputs, 1, None))
    return tuple(found)


def factored(folder: Path) -> tuple[Claim, ...]:
    """What half of the arithmetic less by low rank is worth in time, and what it costs."""
    bases = ("openvino_fp32", "onnx_fp32")
    path = write_spec("wardrobe", (*bases, *(f"thin_{base}" for base in bases)), folder, FACTORED)
    artifacts = _artifacts(path, folder / "cache", (*bases, *(f"thin_{base}" for base in bases)))
    loaded = {name: predictor(artifact, cores()) for name, artifact in artifacts.items()}
    spec = load_spec(path)
    samples = load_samples(spec, spec.data.evaluation)
    few = take(samples.inputs, list(range(16)))
    answers = {name: predict_all(loaded[name], samples.inputs, 64) for name in ("onnx_fp32", "thin_onnx_fp32")}
    found = InProcess(loaded, {"original": answers["onnx_fp32"], **answers})
    size = {name: artifacts[name].size_bytes for name in answers}
    smaller = size["onnx_fp32"] / size["thin_onnx_fp32"]
    names = {base: f"low_rank_speedup_{base.partition('_')[0]}" for base in bases}
    return (
        *(faster(name, loaded, base, f"thin_{base}", few, 1, None) for base, name in names.items()),
        counted("low_rank_compression", smaller, "x smaller than onnx_fp32, thin_onnx_fp32", None, "higher"),
        lost("low_rank_drop_pt", spec, found, "thin_onnx_fp32", samples.labels.astype(np.int64), 1.0),
    )


def distilled(folder: Path) -> tuple[Claim, ...]:
    """The quarter taught by the teacher less the same trained by labels alone, for several seeds: equal images, steps,
    augmentation and choice of the best epoch."""
    own = yaml.safe_load((EXAMPLES / "wardrobe/model.yaml").read_text())["compress"]["quarter"]
    first: dict[str, Any] = own[0]
    trials = {
        f"{name}{seed}": [first | {"alpha": alpha, "ask": "once", "train": {**first["train"], **FEW, "seed": seed}}]
        for seed in SEEDS
        for name, alpha in (("taught", first["alpha"]), ("alone", 0.0))
    }
    path = write_spec("wardrobe", tuple(f"{name}_onnx_fp32" for name in trials), folder, trials)
    samples = load_samples(load_spec(path), load_spec(path).data.evaluation)
    scores = {}
    for name in trials:
        [artifact] = list(_artifacts(path, folder / "cache", (f"{name}_onnx_fp32",)).values())[1:]
        scores[name] = _right(artifact, samples)
        print(f"   {name}: {scores[name]:.2%}", flush=True)
    gains = [100 * (scores[f"taught{seed}"] - scores[f"alone{seed}"]) for seed in SEEDS]
    taught, alone = (", ".join(f"{scores[f'{name}{seed}']:.2%}" for seed in SEEDS) for name in ("taught", "alone"))
    unit = (
        f"points of top1 on {len(samples)} test images, the mean of {len(SEEDS)} seeds, {FEW['epochs']} epochs of "
        f"{FEW['samples']} images; taught {taught}; alone {alone}"
    )
    low, high = mean_interval(gains)  # of so few seeds a resampled median would only be the least and the most
    return (
        Claim(
            id="distilled_gain_pt", value=fmean(gains), ci95=(low, high), unit=unit, target=0.0, better="higher",
            holds=low > 0,
        ),
    )  # fmt: skip


def _right(artifact: Artifact, samples: Samples) -> float:
    outputs = predict_all(predictor(artifact, cores()), samples.inputs, 64)["logits"]
    return float(np.mean(outputs.argmax(axis=1) == samples.labels))


def _built(folder: Path) -> tuple[BuildRow, ...]:
    return BuildReport.model_validate_json((folder / "a/build-report.json").read_bytes()).models[0].rows


def _children(folder: Path) -> tuple[SummaryRow, ...]:
    """The variants of the example as they were built, for the table in its README."""
    return tuple(
        SummaryRow(
            variant=row.variant, status=row.status, accuracy=row.accuracy, time_ms=row.time_ms,
            size_bytes=row.size_bytes, speedup=row.speedup,
            speedup_ci95=row.timing.speedup_ci95 if row.timing else None,
            timing_disturbed=bool(row.timing and row.timing.disturbed), compression=row.compression,
            retention=row.retention, dominated=row.dominated,
        )
        for row in _built(folder)
    )  # fmt: skip


def _artifacts(path: Path, cache: Path, variants: tuple[str, ...]) -> dict[str, Artifact]:
    """The original and these variants, out of a build's cache or made now."""
    import torch

    torch.set_num_threads(1)  # others change the sums, and a second one gains little in trainings as small as these
    spec = load_spec(path)
    source = source_artifact(spec, cache)
    made = {name: run_recipe(recipe_of(spec, name).steps, source, cache) for name in variants}
    return {"original": source, **made}


class Done(ResultModel):
    """A part of the benchmark that is over: what `--work` keeps."""

    minutes: float
    claims: tuple[Claim, ...]


def measure(work: Path) -> Benchmark:
    """Everything that `work` does not hold from a run before; gives the figures. Raises SystemExit if the machine was
    too busy for a ratio to be believed."""
    parts = []
    for part in (trained, distilled, optimized, untrained, factored, chain):
        note = work / f"{part.__name__}.json"
        if not note.is_file():
            begun, folder = time.monotonic(), work / ("trained" if part is chain else part.__name__)
            folder.mkdir(parents=True, exist_ok=True)
            claims = part(folder)
            write_atomically(note, Done(minutes=(time.monotonic() - begun) / 60, claims=claims).to_json())
        parts.append(Done.model_validate_json(note.read_bytes()))
        print(f"-- {part.__name__}: {parts[-1].minutes:.1f} minutes", flush=True)
    minutes = sum(part.minutes for part in parts)
    own = counted("bench_minutes", minutes, f"minutes on {cores()} cores, all of this", 60.0, "lower")
    return Benchmark(
        created_at=now(), command="make bench-compress", machine=describe(), versions=versions(), commit=commit(),
        rows=_children(work / "trained"), windows=(), claims=(*(found for part in parts for found in part.claims), own),
    )  # fmt: skip


def main() -> None:
    """Measures, or with `--page` only rewrites the page from the committed file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="a folder to keep finished parts in: a stopped run goes on there")
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite the tables from the file")
    options = parser.parse_args()
    # They report usage to their makers unless told not to. The last is what the builder and the server set as well.
    os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "GOMP_SPINCOUNT": "1000"}
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    result = HERE / "compress.json"
    if not options.page:
        with tempfile.TemporaryDirectory() as folder:
            write_atomically(result, measure((options.work or Path(folder)).absolute()).to_json())
    benchmark = Benchmark.model_validate_json(result.read_bytes())
    rewrite_pages(benchmark)
    print(f"{result}: {tally(benchmark)}")


if __name__ == "__main__":
    main()
