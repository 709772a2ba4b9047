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
