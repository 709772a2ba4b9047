"""Compressions in a spec: what they become, and that a mistake gets one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.errors import SpecError
from builder.recipes import recipes_of
from builder.spec_file import load_spec
from tests.support.tiny import SPEC

CHECKPOINT = "{state_dict: a.pt, factory: a.py:make}"
TEXT = SPEC.format(name="t", checkpoint=CHECKPOINT, max_drop="1pt", variants="VARIANTS") + "compress: {COMPRESS}\n"
WITH_TRAINING = TEXT.replace("evaluation.npz}", "evaluation.npz, training: t.npz}")
PRUNE = "{step: prune_channels, share: 0.5}"
# What a compression says, and the sentence.
COMPRESSIONS = {
    "name with a line": (f"a_b: [{PRUNE}]", "compress.a_b: 'a_b' cannot be read; write it such as small"),
    "name that is taken": (f"onnx: [{PRUNE}]", "compress.onnx: a compression cannot be called torch, onnx"),
    "no steps": ("small: []", "compress.small: empty; give at least one$"),
    "no step": ("small: [{share: 0.5}]", r"compress.small\[0\]: step is required, but missing; add it$"),
    "typo of a step": ("small: [{step: prune_chanels}]", "did you mean 'prune_channels'"),
    "quantized before": (
        f"small: [{{step: quantize_onnx_static}}, {PRUNE}]",
        r"small\[0\]: step 'quantize_onnx_static' is not known; .*; the variant's base exports and quantizes, after",
    ),
    "typo of a field": (
        f"small: [{PRUNE[:-1]}, train: {{epoch: 3}}}}]",
        r"compress.small\[0\].train.epoch: unknown field; did you mean 'epochs'\?$",
    ),
    "too few samples": (
        "small: [{step: finetune, samples: 1}]",
        r"small\[0\].samples: Input should be greater than or equal to 10$",
    ),
    "all of it": ("small: [{step: prune_weights, share: 1.0}]", r"small\[0\].share: .* less than 1 \(it is 1.0\)$"),
    "loss without unit": (
        f"small: [{PRUNE[:-1]}, threshold: '1'}}]",
        "threshold: '1' cannot be read; write it such as 1",
    ),
    "gradual without training": (
        "small: [{step: prune_weights, share: 0.5, gradual: true}]",
        r"compress.small\[0\]: gradual raises the share while training: give `train`",
    ),
}
TICKET = "{step: lottery_ticket, share: 0.5}"
EARLY = f"{TICKET[:-1]}, early: e.safetensors}}"
SPARSE = "{step: prune_weights, share: 0.5}"
FACTORS = "{step: low_rank, share: 0.5}"
# Orders in which a technique would undo what another one did.
UNDONE = {
    "pruned": (f"{SPARSE}, {TICKET}", "lottery_ticket takes all weights back to fresh ones, so that prune_weights"),
    "pruned, early": (f"{SPARSE}, {EARLY}", "takes all weights back to early ones, so that prune_weights before it"),
    "tuned": (f"{{step: finetune}}, {PRUNE}, {TICKET}", "so that finetune before it would be for nothing; put it a"),
    "taught": (f"{{step: distill}}, {TICKET}", "so that distill before it would be for nothing"),
    "twice": (f"{TICKET}, {TICKET}", "so that lottery_ticket before it would be for nothing"),
    "zeros": (f"{SPARSE}, {FACTORS}", r"small: low_rank would fill the zeros that prune_weights makes; put low_rank"),
    "zeros of a ticket": (f"{TICKET}, {FACTORS}", "would fill the zeros that lottery_ticket makes"),
}
VARIANTS = {
    "smal_onnx_fp32": r":11: variants\[0\]: 'smal_onnx_fp32' is not known; did you mean 'small_onnx_fp32'\?$",
    "small_onnx_fp3": "did you mean 'small_onnx_fp32'",
    "openvino_int8_small": "has small last, and a network is compressed first: write 'small_openvino_int8'",
    "small_imported_a": "'small_imported_a' is not known",
    "onnx_fp32": "compress names 'small', and no variant uses it; add small_onnx_fp32 to variants",
}


def written(folder: Path, compress: str, variants: str = "small_onnx_fp32", text: str = WITH_TRAINING) -> Path:
    """A spec in `folder`."""
    path = folder / "model.yaml"
    path.write_text(text.replace("VARIANTS", variants).replace("COMPRESS", compress))
    return path


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_a_compression_that_cannot_be(tmp_path: Path, kind: str) -> None:
    compress, sentence = COMPRESSIONS[kind]
    with pytest.raises(SpecError, match=sentence) as caught:
        load_spec(written(tmp_path, compress))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", UNDONE)
def test_an_order_that_undoes_what_was_done(tmp_path: Path, kind: str) -> None:
    compress, sentence = UNDONE[kind]
    with pytest.raises(SpecError, match=sentence) as caught:
        load_spec(written(tmp_path, f"small: [{compress}]"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "compress",
    [
        f"{TICKET}, {{step: finetune}}, {SPARSE}", f"{FACTORS}, {TICKET}, {{step: distill}}", f"{PRUNE}, {TICKET}",
        f"{{step: finetune}}, {EARLY}", f"{FACTORS}, {SPARSE}",
    ],
)  # fmt: skip
def test_an_order_that_undoes_nothing(tmp_path: Path, compress: str) -> None:
    assert len(load_spec(written(tmp_path, f"small: [{compress}]")).compress["small"]) == compress.count("step:")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_of_no_compression_and_a_compression_of_no_variant(tmp_path: Path, variant: str) -> None:
    with pytest.raises(SpecError, match=VARIANTS[variant]):
        load_spec(written(tmp_path, f"small: [{PRUNE}]", variant))


@pytest.mark.parametrize(
    "technique",
    [
        "{step: finetune}",
        "{step: lottery_ticket, share: 0.5}",
        "{step: prune_weights, share: 0.5, train: {}}",
        "{step: prune_channels, share: 0.5, train: {}}",
        "{step: prune_channels, share: 0.5, threshold: 1pt}",
    ],
)
def test_what_trains_needs_samples(tmp_path: Path, technique: str) -> None:
    with pytest.raises(SpecError, match=r"compress.small: \w+ needs samples to train on; name a file in data.training"):
        load_spec(written(tmp_path, f"small: [{technique}]", text=TEXT))
    load_spec(written(tmp_path, f"small: [{technique}]"))
    load_spec(written(tmp_path, f"small: [{PRUNE}, {{step: prune_weights, share: 0.5}}]", text=TEXT))


def test_a_composed_variant_has_the_steps_of_both_and_its_paths_resolved(tmp_path: Path) -> None:
    techniques = f"small: [{PRUNE}, {{step: lottery_ticket, share: 0.5, early: e.safetensors}}]"
    spec = load_spec(written(tmp_path, techniques, "openvino_int8, small_openvino_int8"))
    base, composed = recipes_of(spec)
    assert [step.name for step in composed.steps[:2]] == ["prune_channels", "lottery_ticket"]
    assert composed.steps[2:] == base.steps
    assert composed.steps[1].reads() == (tmp_path / "e.safetensors",)
    assert (composed.variant, composed.tolerance, composed.faithful) == ("small_openvino_int8", base.tolerance, False)
    assert spec.all_variants == ("openvino_int8", "small_openvino_int8")
