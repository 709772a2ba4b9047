"""Tones as strings make them, computed: sounds that a student may ask its teacher about, since they need no labels.

A stiff string's partials lie a little above the multiples of its pitch (Fletcher and Rossing, "The Physics of Musical
Instruments"), fade each at its own pace, and in low notes the fundamental is hardly there.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from examples.crepe.model import FRAME

RATE: Final = 16_000
LOWEST, HIGHEST = 31.8, 1975.0  # Hz: what CREPE's bins reach
PARTIALS: Final = 40


def tones(count: int, seed: int) -> NDArray[np.float32]:
    """Frames of mean 0 and standard deviation 1, `[count, 1024]`; pitches are spread evenly over CREPE's range."""
    random = np.random.default_rng(seed)
    time = np.arange(FRAME) / RATE
    return np.stack([_tone(random, pitch, time) for pitch in LOWEST * (HIGHEST / LOWEST) ** random.random(count)])


def _tone(random: np.random.Generator, pitch: float, time: NDArray[np.float64]) -> NDArray[np.float32]:
    order = np.arange(1, PARTIALS + 1)
    stiffness = 10 ** random.uniform(-5, -3)
    frequency = pitch * order * np.sqrt(1 + stiffness * order**2)
    loudness = order ** -random.uniform(0.5, 2.5) * random.uniform(0.1, 1, PARTIALS)
    loudness *= 1 / (1 + (random.uniform(0, 150) / frequency) ** 2)  # a small soundboard gives back no deep tones
    loudness[frequency > RATE / 2] = 0
    fading = np.exp(-time[:, None] * random.uniform(0, 5, PARTIALS))
    waves = np.sin(2 * np.pi * (frequency * time[:, None] + random.random(PARTIALS))) * fading
    sound = waves @ loudness
    sound += random.normal(size=len(time)) * sound.std() * 10 ** random.uniform(-3, -1)
    sound -= sound.mean()
    return (sound / sound.std(ddof=1)).astype(np.float32)
