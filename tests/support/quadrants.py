"""A network that has learned something in seconds: which quarter of a noisy 8 x 8 image is the brightest.

It has what structured pruning must follow: batch norms, a sum of two branches, a depthwise convolution, a last layer
whose channels are the answer.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from numpy.typing import NDArray

from builder.artifact import Artifact
from builder.source import source_artifact
from builder.spec import ModelSpec
from builder.spec_file import load_spec
from builder.step import Step, run_recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

Compress = dict[str, list[dict[str, object]]]
CODE = """\
from torch import nn


class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.depth = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.back = nn.Conv2d(32, 16, 1)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        x = self.stem(x)
        x = (x + self.back(self.depth(self.body(x)))).relu()
        return self.head(self.drop(nn.functional.avg_pool2d(x, 4).flatten(1)))
"""


def samples(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images `[count, 1, 8, 8]` and their brightest quarter `[count]`."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    images = random.normal(size=(count, 1, 8, 8)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        top, left = 4 * (label // 2), 4 * (label % 2)
        image[0, top : top + 4, left : left + 4] += 0.5
    return images, labels


@cache
def trained_state() -> dict[str, Tensor]:
    """The state_dict after some epochs of plain PyTorch, seeded."""
    import torch

    scope: dict[str, type[nn.Module]] = {}
    exec(CODE, scope)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # more only wait for each other
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = scope["make"]()
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
        images, labels = (torch.from_numpy(value) for value in samples(1000, 100))
        for _ in range(6):
            for rows in torch.randperm(1000).split(50):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    torch.set_num_threads(before)
    return {name: value.clone() for name, value in network.state_dict().items()}


def quadrants(
    folder: Path,
    compress: Compress | None = None,
    variants: tuple[str, ...] = (),
    code: str = CODE,
) -> Path:
    """The spec of the trained network in `folder`, with 600 samples to train on. Other `code` gets fresh weights."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.py").write_text(code)
    state = trained_state() if code == CODE else fresh(folder / "net.py").state_dict()
    save_file({name: value.clone().contiguous() for name, value in state.items()}, folder / "net.safetensors")
    for seed, (name, count) in enumerate((("calibration", 100), ("evaluation", 400), ("training", 600))):
        images, labels = samples(count, seed)
        np.savez(folder / f"{name}.npz", x=images, label=labels)
    content = {
        "name": "quadrants",
        "checkpoint": {"state_dict": "net.safetensors", "factory": "net.py:make"},
        "inputs": [{"name": "x", "dtype": "float32", "dims": [1, 8, 8]}],
        "outputs": [{"name": "scores", "dtype": "float32", "dims": [4]}],
        "batch": {"max": 8},
        "data": {"calibration": "calibration.npz", "evaluation": "evaluation.npz", "training": "training.npz"},
        "metric": {"name": "top1", "output": "scores"},
        "gates": {"max_drop": "20pt"},
        "compress": compress or {},
        "variants": list(variants or ("torch_fp32", *(f"{name}_onnx_fp32" for name in compress or {}))),
    }
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def quadrants_spec(folder: Path, code: str = CODE) -> ModelSpec:
    """The same, read."""
    return load_spec(quadrants(folder, code=code))


def fresh(file: Path) -> nn.Module:
    """What a factory file makes, seeded."""
    import torch

    found = importlib.util.spec_from_file_location("net", file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    torch.manual_seed(0)
    network: nn.Module = module.make()
    return network


def made(spec: ModelSpec, folder: Path, *recipe: Step) -> Artifact:
    """What the steps make of the checkpoint."""
    return run_recipe(recipe, source_artifact(spec, folder / "cache"), folder / "cache")


def accuracy(network: nn.Module) -> float:
    """On samples that nothing was trained on."""
    import torch

    images, labels = samples(1000, 50)
    with torch.no_grad():
        return float((network(torch.from_numpy(images)).argmax(1).numpy() == labels).mean())
