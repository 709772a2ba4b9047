"""How the example's checkpoint and data files were made: `python examples/fashion/train.py --data FOLDER`.

FOLDER holds the four Fashion-MNIST files (`train-images-idx3-ubyte.gz` and so on; Debian's package
`dataset-fashion-mnist` installs them in /usr/share/datasets/fashion-mnist). Nobody needs to run this to use the
example: what it writes is committed. On two CPU cores it takes about a quarter of an hour.

Writes beside itself: `fashion.pt` (the state_dict), `evaluation.npz` (the first 2,000 test images, labels),
`calibration.npz` (500 *training* images, labels) and `training.json` (what was measured).
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import torch
from model import build_model
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).parent
SEED = 20261122
EVALUATION_SAMPLES, CALIBRATION_SAMPLES = 2000, 500


def read_idx(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images `[N, 28, 28]` and labels `[N]` of one split (`train` or `t10k`), read from the idx files."""
    pixels = gzip.decompress((folder / f"{split}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{split}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors half of the batch `[N, 1, 28, 28]` and shifts the whole of it by up to two pixels."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(-1), images)
    dy, dx = torch.randint(0, 5, (2,), generator=generator).tolist()
    return functional.pad(images, (2, 2, 2, 2))[:, :, dy : dy + 28, dx : dx + 28]


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy as a fraction."""
    model.eval()
    hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True))
    return hits / len(labels)


def train(images: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """A trained network: SGD with Nesterov momentum, one-cycle schedule, label smoothing."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = build_model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch, steps = 128, len(images) // 128
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=epochs * steps, pct_start=0.25)
    for epoch in range(epochs):
        model.train()
        started, total = time.monotonic(), 0.0
        order = torch.randperm(len(images), generator=generator)
        for step in range(steps):
            pick = order[step * batch : (step + 1) * batch]
            loss = functional.cross_entropy(model(augment(images[pick], generator)), labels[pick], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return model


def main() -> None:
    """Trains, measures on all 10,000 test images, and writes the files that are committed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=7)
    options = parser.parse_args()
    train_x, train_y = read_idx(options.data, "train")
    test_x, test_y = read_idx(options.data, "t10k")

    def tensor(pixels: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(pixels[:, None].astype(np.float32) / 255).contiguous(memory_format=torch.channels_last)

    model = train(tensor(train_x), torch.from_numpy(train_y.astype(np.int64)), options.epochs)
    images, labels = tensor(test_x), torch.from_numpy(test_y.astype(np.int64))
    whole = accuracy(model, images, labels)
    subset = accuracy(model, images[:EVALUATION_SAMPLES], labels[:EVALUATION_SAMPLES])
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    torch.save(state, HERE / "fashion.pt")
    chosen = np.random.default_rng(SEED).choice(len(train_x), CALIBRATION_SAMPLES, replace=False)
    # Kept as uint8: the spec's `preprocess` scales them, as a caller's images are scaled.
    np.savez_compressed(HERE / "calibration.npz", image=train_x[chosen][:, None], label=train_y[chosen])
    np.savez_compressed(
        HERE / "evaluation.npz", image=test_x[:EVALUATION_SAMPLES, None], label=test_y[:EVALUATION_SAMPLES]
    )
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": options.epochs,
        "seed": SEED,
        "accuracy_10000_test_images": whole,
        "accuracy_evaluation_subset": subset,
        "torch": torch.__version__,
    }
    (HERE / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
