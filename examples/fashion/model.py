"""The example's network: a small ResNet for 28 x 28 grey images.

About 0.3 million parameters and 47 million multiply-accumulates per image; widths are multiples of 32 so that INT8
kernels can use whole vector registers. Residual blocks follow He et al., "Deep Residual Learning for Image
Recognition" (arXiv:1512.03385).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEAN, STD = 0.2860, 0.3530  # of the training images' pixels, scaled to 0..1


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
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


class FashionNet(nn.Module):
    """Pixels in 0..1, `[N, 1, 28, 28]` float32, to logits of the ten classes, `[N, 10]` float32."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.blocks = nn.Sequential(
            ResidualBlock(32, 32),  # 28 x 28
            ResidualBlock(32, 64, stride=2),  # 14 x 14
            ResidualBlock(64, 64),
            ResidualBlock(64, 96, stride=2),  # 7 x 7
        )
        self.head = nn.Linear(96, classes)

    def forward(self, image: Tensor) -> Tensor:
        """`[N, 1, 28, 28] -> [N, classes]`."""
        x = self.blocks(self.stem((image - MEAN) / STD))  # [N, 96, 7, 7]
        return self.head(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def build_model() -> FashionNet:
    """The factory that the spec names: an untrained network, ready for the committed state_dict."""
    return FashionNet()
