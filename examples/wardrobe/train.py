"""How the weights were trained: `python -m examples.wardrobe.train [--data FOLDER]`. Nobody needs to run this.

Half an hour on one core that computes in bfloat16, such as those with AVX512_BF16; one thread, so that equal seeds give
equal weights. The held-out and the test images are looked at once, at the end. Writes `wardrobe.safetensors` and
`training.json` beside itself.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from examples.wardrobe.data import SEED, Part, load
from examples.wardrobe.model import Wardrobe, build_model

HERE = Path(__file__).parent
EPOCHS, BATCH, SHIFT, HOLE = 10, 128, 2, 3
HIGHEST_RATE, DECAY, RISING = 0.2, 5e-4, 0.25


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image of `[n, 1, 28, 28]` by itself: half of them mirrored, moved by up to two pixels, and a hole of 7 x 7
    pixels (DeVries and Taylor, "Cutout", arXiv:1708.04552)."""
    count, side = len(images), images.shape[-1]
    mirrored = torch.rand(count, generator=generator) < 0.5
    down, right = (torch.randint(0, 2 * SHIFT + 1, (count, 1), generator=generator) for _ in range(2))
    at = torch.arange(side)
    rows, columns = down + at, right + at
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = functional.pad(images[:, 0], (SHIFT, SHIFT, SHIFT, SHIFT))
    moved = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    y, x = (torch.randint(0, side, (count, 1), generator=generator) for _ in range(2))
    hole = ((at - y).abs() <= HOLE)[:, :, None] & ((at - x).abs() <= HOLE)[:, None, :]
    return moved.masked_fill(hole, 0.0)[:, None]


def tensors(part: Part) -> tuple[Tensor, Tensor]:
    """Images `[n, 1, 28, 28]` float32 in 0..1 and labels `[n]` int64."""
    return torch.from_numpy(part.image.astype(np.float32) / 255), torch.from_numpy(part.label.astype(np.int64))


@torch.inference_mode()
def accuracy(model: nn.Module, part: Part) -> float:
    """Top-1 accuracy as a fraction, in evaluation mode and float32."""
    images, labels = tensors(part)
    model.eval()
    hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True))
    return hits / len(labels)


def train(part: Part, epochs: int) -> Wardrobe:
    """A trained network: SGD with Nesterov momentum, one-cycle schedule (Smith and Topin, arXiv:1708.07120), plain
    labels, since smoothed ones make a poorer teacher (Müller et al., arXiv:1906.02629)."""
    images, labels = tensors(part)
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = build_model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = len(images) // BATCH
    optimizer = torch.optim.SGD(model.parameters(), lr=HIGHEST_RATE, momentum=0.9, nesterov=True, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=HIGHEST_RATE, total_steps=epochs * steps, pct_start=RISING
    )
    for epoch in range(epochs):
        model.train()
        started, total = time.monotonic(), 0.0
        order = torch.randperm(len(images), generator=generator)
        for step in range(steps):
            pick = order[step * BATCH : (step + 1) * BATCH]
            varied = augment(images[pick], generator).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(varied)
            loss = functional.cross_entropy(logits.float(), labels[pick])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return model  # type: ignore[no-any-return]


def main() -> None:
    """Trains, measures, and writes the files that are committed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="a folder with the four Fashion-MNIST files")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = load(options.data)
    model = train(parts.training, options.epochs)
    # Kernels are kept in FP16, which halves the file; whoever loads them computes in FP32, as is measured here.
    state = {
        name: (value.half() if value.dim() > 1 else value).contiguous() for name, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    facts = {
        "parameters": sum(value.numel() for value in model.parameters()),
        "training_images": len(parts.training.label),
        "epochs": options.epochs,
        "seed": SEED,
        "accuracy_5000_held_out_images": accuracy(model, parts.held_out),
        "accuracy_10000_test_images": accuracy(model, parts.evaluation),
        "torch": torch.__version__,
    }
    save_file(state, HERE / "wardrobe.safetensors")
    (HERE / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
