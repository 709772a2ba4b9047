"""Hugging Face folders that must be refused, each with one sentence, and nothing of them run or fetched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from builder.errors import CheckpointError
from builder.source import load_torch, source_sha256
from builder.spec import ModelSpec
from builder.spec_file import load_spec
from tests.support.networks import tiny_bert, write_spec


def _spec(folder: Path, **more: object) -> ModelSpec:
    tiny_bert(folder / "bert")
    inputs = [("input_ids", "int64", [4]), ("attention_mask", "int64", [4])]
    arrays = {name: np.ones((4, 4), np.int64) for name, _, _ in inputs}
    checkpoint = {"huggingface": "bert", **more}
    outputs = [("scores", "float32", [16])]
    return load_spec(write_spec(folder, checkpoint, inputs, outputs, arrays, lambda given: given["input_ids"]))


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _spec(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CheckpointError, match=r"transformers that reads it is not installed; install the extra `text`"):
        load_torch(spec)


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    spec = _spec(tmp_path)
    weights = tmp_path / "bert" / "model.safetensors"
    state = load_file(weights)
    del state["encoder.layer.0.output.dense.weight"]
    save_file(state, weights, {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"not of the architecture that config\.json names \(1 weights missing, 0 "
    ):
        load_torch(spec)
    config = tmp_path / "bert" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "unheard-of"}))
    with pytest.raises(CheckpointError, match=r"bert cannot be loaded as an encoder: .*unheard-of"):
        load_torch(spec)


def test_code_of_the_folder_is_not_run(tmp_path: Path) -> None:
    spec = _spec(tmp_path)
    config, canary = tmp_path / "bert" / "config.json", tmp_path / "canary"
    code = f"from pathlib import Path\nPath({str(canary)!r}).touch()\n"
    (tmp_path / "bert" / "evil.py").write_text(code)
    auto = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | auto))
    with pytest.raises(CheckpointError, match="bert cannot be loaded as an encoder") as caught:
        load_torch(spec)
    assert "\n" not in str(caught.value)
    assert not canary.exists()


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    spec = _spec(tmp_path)
    (tmp_path / "bert" / "model.safetensors").rename(tmp_path / "bert" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist; correct `checkpoint`"):
        source_sha256(spec)
    with pytest.raises(CheckpointError, match="bert cannot be loaded as an encoder"):
        load_torch(spec)


@pytest.mark.parametrize("shape", [(3, 16, 1), (3, 15)])
def test_a_head_that_does_not_fit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    spec = _spec(tmp_path, head="head.safetensors")
    save_file({"weight": np.zeros(shape, np.float32), "bias": np.zeros(3, np.float32)}, tmp_path / "head.safetensors")
    with pytest.raises(CheckpointError, match=r"head\.safetensors .*(a head is `weight` \[C, D\]|takes vectors of 15)"):
        load_torch(spec)


def test_all_that_decides_the_answers_is_in_the_hash(tmp_path: Path) -> None:
    spec = _spec(tmp_path)
    found = {source_sha256(spec)}
    for change in ({"pooling": "cls"}, {"normalize": True}):
        checkpoint = spec.checkpoint.model_copy(update=change)
        found.add(source_sha256(spec.model_copy(update={"checkpoint": checkpoint})))
    config = tmp_path / "bert" / "config.json"
    config.write_text(config.read_text() + " ")
    found.add(source_sha256(spec))
    assert len(found) == 4
