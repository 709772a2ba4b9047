"""Training samples as tensors: split into those that are learned from and those that only judge, batched, varied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from builder.data import load_samples, value_count
from builder.errors import DataError, StepError
from builder.spec_compress import FEWEST, Training

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from builder.spec import ModelSpec

SPLIT = 0  # the seed by which samples are held out, the same for all trainings


class Batch(NamedTuple):
    """Some samples: their rows in the file, the network's arguments `[n, ...]`, labels `[n]` where they were read, and
    which were mirrored, `[n]` bool, if any may have been."""

    rows: list[int]
    inputs: tuple[Tensor, ...]
    labels: Tensor | None
    mirrored: Tensor | None = None


@dataclass(frozen=True)
class TrainingData:
    """All samples `[N, ...]` in the order of the network's arguments, labels `[N]` (int64 where they name classes, else
    float32), and which rows are learned from (`used`) and which only judge (`held`)."""

    inputs: tuple[Tensor, ...]
    labels: Tensor | None
    used: tuple[int, ...]
    held: tuple[int, ...]

    def batch(self, rows: list[int], device: str = "cpu") -> Batch:
        """These rows, on a device."""
        labels = None if self.labels is None else self.labels[rows].to(device)
        return Batch(rows, tuple(value[rows].to(device) for value in self.inputs), labels)


def load_training(spec: ModelSpec, training: Training, labelled: bool = True, file: Path | None = None) -> TrainingData:
    """Reads `data.training`, or `file`, and holds a share of it out. Raises DataError if labels are wanted and it has
    none that fit, StepError if there are too few samples."""
    import torch

    path = file or spec.data.training
    if path is None:
        raise StepError(f"{spec.name} has no samples to train on; name a file of them in data.training")
    samples = load_samples(spec, path, labelled)
    if len(samples) < FEWEST:
        raise StepError(f"{spec.name} has {len(samples)} samples to train on; give {FEWEST} or more, better 1000")
    used, held = split(len(samples), training)
    inputs = tuple(torch.from_numpy(samples.inputs[tensor.name]) for tensor in spec.inputs)
    labels = None
    if labelled:
        values = value_count(spec)
        # A metric of the user's own does not say whether labels name classes; beside several scores whole numbers do.
        named = spec.metric.function.labels == "class" or (values or 1) > 1
        whole = named and np.issubdtype(samples.labels.dtype, np.integer)
        labels = torch.from_numpy(samples.labels.astype(np.int64 if whole else np.float32))
        classes = values and max(2, values)  # a single score tells two classes apart
        if whole and classes and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise DataError(f"{path}: labels go from {labels.min()} to {labels.max()}, but there are {classes} classes")
    return TrainingData(inputs, labels, used, held)


def split(count: int, training: Training) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The rows to learn from, and those that judge. What may judge follows from `count` and `held_out` alone, so that
    no technique judges by what one before it has learned; `seed` and `samples` only choose among the rest."""
    import torch

    def shuffled(size: int, seed: int) -> list[int]:
        found: list[int] = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
        return found

    order = shuffled(count, SPLIT)
    wanted = min(count, training.samples or count)
    held, apart = (max(1, int(size * training.held_out)) for size in (wanted, count))
    used = order[apart:]
    if len(used) > wanted - held:
        used = [used[at] for at in shuffled(len(used), training.seed)[: wanted - held]]
    return tuple(used), tuple(order[:held])


def batches(rows: Sequence[int], size: int) -> Iterator[list[int]]:
    """The rows in pieces of `size`, the last one shorter."""
    return (list(rows[at : at + size]) for at in range(0, len(rows), size))


def varied(batch: Batch, training: Training, generator: Generator) -> Batch:
    """The batch with its images `[n, C, H, W]` mirrored, moved and with a hole as the settings say, each by itself.

    The hole may lie across the border: DeVries and Taylor, "Cutout" (arXiv:1708.04552).
    """
    import torch
    from torch.nn import functional

    if not training.varies:
        return batch
    mirrored = torch.rand(len(batch.rows), generator=generator) < 0.5 if training.mirror else None

    def vary(images: Tensor) -> Tensor:
        if images.dim() != 4:
            raise StepError(
                "mirror, shift and cutout are for images [C, H, W]; leave them out of this training's settings"
            )
        count, _, height, width = images.shape
        if mirrored is not None:
            images = torch.where(mirrored.to(images.device).view(-1, 1, 1, 1), images.flip(-1), images)
        if training.shift:
            by = training.shift
            down, right = (torch.randint(0, 2 * by + 1, (count, 1), generator=generator) for _ in range(2))
            rows = (down + torch.arange(height)).to(images.device)  # [n, H], in the padded image
            columns = (right + torch.arange(width)).to(images.device)
            padded = functional.pad(images, (by, by, by, by))
            sample = torch.arange(count, device=images.device).view(-1, 1, 1)
            images = padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        if training.cutout:
            down, right = (_within(size, training.cutout, count, generator) for size in (height, width))
            hole = down[:, None, :, None] & right[:, None, None, :]
            images = images.masked_fill(hole.to(images.device), 0.0)
        return images

    return batch._replace(inputs=tuple(vary(value) for value in batch.inputs), mirrored=mirrored)


def _within(size: int, side: int, count: int, generator: Generator) -> Tensor:
    """Which of `size` places lie in an interval of `side` around a random one, `[count, size]`."""
    import torch

    first = torch.randint(0, size, (count, 1), generator=generator) - side // 2
    at = torch.arange(size)
    return (first <= at) & (at < first + side)
