"""Small networks with specs of their own: several inputs and outputs, named axes, other kinds of checkpoints.

Labels are the original's own decisions, as in `tiny`.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from builder.artifact import Artifact
from builder.recipes import RECIPES
from builder.spec import ModelSpec
from builder.spec_file import load_spec
from builder.worker import Workshop
from core.errors import TridentError
from core.tensors import Arrays

if TYPE_CHECKING:
    from torch import nn

FORMATS = ("torch_fp32", "onnx_fp32", "openvino_fp32")
Tensor = tuple[str, str, Sequence[int | str]]
"""Name, data type, dims."""


def write_spec(
    folder: Path,
    checkpoint: dict[str, object],
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    arrays: Arrays,
    answer: Callable[[Arrays], np.ndarray],
    variants: Sequence[str] = FORMATS,
    **more: object,
) -> Path:
    """A spec in `folder`, judged by top1 of the first output. `arrays` are half calibration, half evaluation samples;
    `answer` gives the scores `[n, classes]` that label them. `more` are further fields of the spec."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = answer(arrays).argmax(axis=1)
    half = len(labels) // 2
    for name, rows in (("calibration", slice(half)), ("evaluation", slice(half, None))):
        np.savez(folder / f"{name}.npz", label=labels[rows], **{key: value[rows] for key, value in arrays.items()})
    content = {
        "name": "net",
        "checkpoint": checkpoint,
        "inputs": [{"name": name, "dtype": dtype, "dims": list(dims)} for name, dtype, dims in inputs],
        "outputs": [{"name": name, "dtype": dtype, "dims": list(dims)} for name, dtype, dims in outputs],
        "batch": {"max": 8},
        "data": {"calibration": "calibration.npz", "evaluation": "evaluation.npz"},
        "metric": {"name": "top1", "output": outputs[0][0]},
        "gates": {"max_drop": "100pt"},
        "variants": list(variants),
        **more,
    }
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def factory_checkpoint(folder: Path, code: str) -> tuple[dict[str, object], nn.Module]:
    """Writes `net.py`, whose `make` gives the network, and its weights, drawn anew. Gives the spec's `checkpoint` and
    the network with those weights."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.py").write_text(f"import torch\nfrom torch import nn\n\n{code}")
    module_spec = importlib.util.spec_from_file_location("net", folder / "net.py")
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    torch.manual_seed(0)
    network: nn.Module = module.make().eval()
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "net.safetensors")
    return {"state_dict": "net.safetensors", "factory": "net.py:make"}, network


def tiny_bert(folder: Path) -> nn.Module:
    """A BERT of one layer and random weights, vectors of 16, saved as its users find them."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    model: nn.Module = BertModel(config).eval()
    model.save_pretrained(folder)  # type: ignore[operator]
    return model


def scores_of(network: nn.Module) -> Callable[[Arrays], np.ndarray]:
    """The first output, from copies of the arrays in their order."""
    import torch

    def answer(arrays: Arrays) -> np.ndarray:
        with torch.no_grad():
            result = network(*(torch.from_numpy(array.copy()) for array in arrays.values()))
        first = result[0] if isinstance(result, tuple) else result
        return np.asarray(first.numpy(), np.float64)

    return answer


@contextmanager
def torchscript() -> Iterator[None]:
    """PyTorch warns that TorchScript is deprecated; here it is meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def prove_variant(spec: ModelSpec, variant: str, cache: Path) -> Artifact:
    """What a build does up to the proof, without timing: makes the variant, and raises what the proof does."""
    from builder.data import load_samples
    from builder.runtimes import predictor
    from builder.source import source_artifact
    from builder.step import run_recipe
    from builder.verify import Accuracy, prove_axes

    recipe = RECIPES[variant]
    source = source_artifact(spec, cache)
    artifact = run_recipe(recipe.steps_from(source.format) or (), source, cache)
    inputs = load_samples(spec, spec.data.evaluation).inputs
    accuracy = Accuracy(recipe.tolerance, recipe.faithful)
    prove_axes(predictor(artifact, 1), predictor(source, 1), inputs, spec, accuracy)
    return artifact


def prove_variants(spec_file: Path, variants: Sequence[str]) -> tuple[dict[str, Artifact], dict[str, str]]:
    """`prove_variant` of each, in one child process as in a build: the artifacts of those proven, the reasons of the
    others."""
    spec, folder = load_spec(spec_file), spec_file.parent
    proven, reasons = {}, {}
    workshop = Workshop(folder / "build.log")
    try:
        for variant in variants:
            try:
                proven[variant] = workshop.run(prove_variant, spec, variant, folder / "cache")
            except TridentError as error:
                reasons[variant] = str(error)
    finally:
        workshop.close()
    return proven, reasons
