"""Makes the example's data files: `python -m examples.wardrobe.prepare [--data FOLDER]`, from the repository's root.

FOLDER holds the four Fashion-MNIST files; without it they are looked for, and else fetched, as data.py says. Writes
beside itself `training.npz`, `held_out.npz`, `calibration.npz` and `evaluation.npz`. The weights are committed.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np

from core.files import write_atomically
from examples.wardrobe.data import load

HERE = Path(__file__).parent


def main() -> None:
    """Writes the data files. The pictures stay uint8: the spec's `preprocess` scales them, as a caller's are scaled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="a folder with the four Fashion-MNIST files")
    parts = load(parser.parse_args().data)
    for name, part in parts._asdict().items():
        packed = io.BytesIO()
        np.savez(packed, image=part.image, label=part.label)
        write_atomically(HERE / f"{name}.npz", packed.getvalue())
    print(f"{HERE} is ready: {', '.join(f'{name}.npz ({len(part.label)})' for name, part in parts._asdict().items())}")


if __name__ == "__main__":
    main()
