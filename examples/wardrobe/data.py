"""Fashion-MNIST, whole: found, or fetched out of a Debian package, checked by its hash, and cut into the parts that the
example uses.

Xiao et al., "Fashion-MNIST" (arXiv:1708.07747); copyright 2017 Zalando SE, MIT licence.
"""

from __future__ import annotations

import gzip
import hashlib
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

DOWNLOADS: Final = Path(__file__).parent / "downloads"
PACKAGE: Final = "dataset-fashion-mnist"
INSTALLED: Final = Path("usr/share/datasets/fashion-mnist")  # where the package puts its files, below the root
# SHA-256 of the unzipped contents: these are the same wherever the files come from, the zipping need not be.
SHA256: Final = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
HELD_OUT, CALIBRATION, SEED = 5000, 500, 20261125


class Part(NamedTuple):
    """Images `[n, 1, 28, 28]` and labels `[n]`, uint8."""

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]


class Parts(NamedTuple):
    """What trains, what choices are made by, what sets the quantization's ranges, what judges.

    Calibration samples are training samples; otherwise no two parts share one.
    """

    training: Part  # 55,000 of the 60,000 training images
    held_out: Part  # the other 5,000
    calibration: Part  # 500 out of `training`
    evaluation: Part  # the 10,000 test images


def load(folder: Path | None = None) -> Parts:
    """The parts, always the same ones. `folder` holds the four files; without it they are looked for where the Debian
    package installs them, then in `downloads/`, and else fetched. Ends the program with a sentence if they cannot be
    had, or are others."""
    folder = folder or _folder()
    images, labels = _read(folder, "train-images-idx3-ubyte", 16), _read(folder, "train-labels-idx1-ubyte", 8)
    order = np.random.default_rng(SEED).permutation(len(labels))
    held_out, training = order[:HELD_OUT], order[HELD_OUT:]

    def part(chosen: NDArray[np.int64]) -> Part:
        return Part(images.reshape(-1, 1, 28, 28)[chosen], labels[chosen])

    test = Part(
        _read(folder, "t10k-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28), _read(folder, "t10k-labels-idx1-ubyte", 8)
    )
    return Parts(part(training), part(held_out), part(training[:CALIBRATION]), test)


def _folder() -> Path:
    for folder in (Path("/") / INSTALLED, DOWNLOADS):
        if all((folder / f"{name}.gz").is_file() for name in SHA256):
            return folder
    return _fetch()


def _fetch() -> Path:
    """The files of the Debian package in `downloads/`. apt-get downloads it: nothing is installed, no root needed."""
    DOWNLOADS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DOWNLOADS) as scratch:
        # As another user apt-get may not write here, and as root it then warns that it works without its sandbox.
        _run(["apt-get", "-o", "APT::Sandbox::User=root", "download", PACKAGE], scratch)
        package = next(Path(scratch).glob("*.deb"))
        _run(["dpkg-deb", "--extract", package.name, "."], scratch)
        for name in SHA256:
            (Path(scratch) / INSTALLED / f"{name}.gz").rename(DOWNLOADS / f"{name}.gz")
    return DOWNLOADS


def _run(command: list[str], folder: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        sys.exit(
            f"Debian's package {PACKAGE} could not be had: {shlex.join(command)} failed. Name a folder with the four"
            " Fashion-MNIST files (train-images-idx3-ubyte.gz and so on) by --data."
        )


def _read(folder: Path, name: str, header_bytes: int) -> NDArray[np.uint8]:
    file = folder / f"{name}.gz"
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError) as error:
        sys.exit(f"{file} cannot be read ({error}): get Fashion-MNIST's four files anew.")
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        sys.exit(f"{file} holds something else than Fashion-MNIST's file (SHA-256 {found}, not {SHA256[name]}).")
    return np.frombuffer(content, np.uint8, offset=header_bytes)
