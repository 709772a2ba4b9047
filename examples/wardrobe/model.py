"""The networks of this example: a residual network for 28 x 28 grey images, and the same with fewer channels.

Whole, it has 2.8 million parameters and 85 million multiply-accumulates per image, far more than Fashion-MNIST needs:
the original that is to be made small. Residual blocks follow He et al., "Deep Residual Learning for Image Recognition"
(arXiv:1512.03385).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

MEAN, STD = 0.2860, 0.3530  # of the training images' pixels, scaled to 0..1
STEM: Final = 32
STAGES: Final = ((64, 2), (128, 2), (256, 2))  # channels, blocks; each stage begins by halving both sides
MULTIPLE: Final = 8  # narrower networks keep whole vector registers: their channels are multiples of it


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """`[N, c_in, H, W] -> [N, c_out, H/stride, W/stride]`, float32."""
        return torch.relu(self.body(x) + self.shortcut(x))


class Wardrobe(nn.Module):
    """Pixels in 0..1, `[N, 1, 28, 28]` float32, to logits of the ten classes, `[N, 10]` float32.

    `width` multiplies the channels of every layer.
    """

    def __init__(self, width: float = 1.0, classes: int = 10) -> None:
        super().__init__()
        channels = _scaled(STEM, width)
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        blocks = []
        for full, repeats in STAGES:
            for repeat in range(repeats):
                blocks.append(ResidualBlock(channels, _scaled(full, width), stride=2 if repeat == 0 else 1))
                channels = _scaled(full, width)
        self.blocks = nn.Sequential(*blocks)  # 28 x 28 -> 14 x 14 -> 7 x 7 -> 4 x 4
        self.head = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """`[N, 1, 28, 28] -> [N, classes]`."""
        x = self.blocks(self.stem((image - MEAN) / STD))  # [N, channels, 4, 4]
        return self.head(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _scaled(channels: int, width: float) -> int:
    return max(MULTIPLE, round(channels * width / MULTIPLE) * MULTIPLE)


def build_model() -> Wardrobe:
    """The factory that the spec names: the whole network, untrained, ready for the committed weights."""
    return Wardrobe()


def build_half() -> Wardrobe:
    """A student with half the channels: a quarter of the parameters and multiply-accumulates."""
    return Wardrobe(0.5)


def build_quarter() -> Wardrobe:
    """A student with a quarter of the channels: a sixteenth of the parameters and multiply-accumulates."""
    return Wardrobe(0.25)
