"""The example with the larger Fashion-MNIST network: its weights, its students, and how it comes by its data.

No download: the Debian package is one of ours, and apt-get a script that hands it out.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from builder.spec_file import load_spec
from examples.wardrobe import data, prepare
from examples.wardrobe.model import build_half, build_model, build_quarter
from examples.wardrobe.train import accuracy, augment

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_committed_weights_answer_well() -> None:
    network = build_model()
    network.load_state_dict(load_file(EXAMPLES / "wardrobe/wardrobe.safetensors"))
    test = np.load(EXAMPLES / "fashion/evaluation.npz")  # the first 2,000 of the 10,000 test images
    assert accuracy(network, data.Part(test["image"], test["label"])) > 0.93


def test_students_have_a_quarter_and_a_sixteenth_of_the_weights() -> None:
    whole, half, quarter = (
        sum(value.numel() for value in build().parameters() if value.dim() == 4)
        for build in (build_model, build_half, build_quarter)
    )
    assert whole / half == pytest.approx(4, rel=0.01)
    assert whole / quarter == pytest.approx(16, rel=0.03)


def test_the_network_is_what_the_spec_says() -> None:
    spec = load_spec(EXAMPLES / "wardrobe/model.yaml")
    for build in (build_model, build_quarter):
        with torch.inference_mode():
            assert build().eval()(torch.rand(2, 1, 28, 28)).shape == (2, *spec.outputs[0].dims)
    assert spec.data.training is not None


def test_augmented_images_are_mirrored_moved_and_holed_each_by_itself() -> None:
    images = torch.zeros(400, 1, 28, 28)
    images[:, :, 10, 5] = 1.0
    found = augment(images, torch.Generator().manual_seed(0)).nonzero()[:, 2:]
    rows, columns = set(found[:, 0].tolist()), set(found[:, 1].tolist())
    assert rows == {8, 9, 10, 11, 12}
    assert columns == {3, 4, 5, 6, 7, 20, 21, 22, 23, 24}
    assert 340 < len(found) < 396  # a hole of 7 x 7 hits about one pixel in sixteen


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which an apt-get gives a Debian package like the real one, with 5,600 and 20 images of noise."""
    noise = np.random.default_rng(0)
    files = {
        "train-images-idx3-ubyte": bytes(16) + noise.bytes(5600 * 784),
        "train-labels-idx1-ubyte": bytes(8) + noise.bytes(5600),
        "t10k-images-idx3-ubyte": bytes(16) + noise.bytes(20 * 784),
        "t10k-labels-idx1-ubyte": bytes(8) + noise.bytes(20),
    }
    monkeypatch.setattr(data, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    monkeypatch.setattr(data, "DOWNLOADS", tmp_path / "downloads")
    monkeypatch.setattr(data, "INSTALLED", Path("usr/share/datasets/no-such-package"))
    tree = tmp_path / "tree"
    (tree / data.INSTALLED).mkdir(parents=True)
    for name, content in files.items():
        (tree / data.INSTALLED / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\n"
        "Maintainer: Test <test@example.org>\nDescription: noise\n"
    )
    subprocess.run(["dpkg-deb", "-Znone", "--build", tree, tmp_path / "made.deb"], check=True, capture_output=True)
    (tmp_path / "bin").mkdir()
    give = tmp_path / "bin/apt-get"
    give.write_text(f"#!/bin/sh\nmv {tmp_path}/made.deb dataset-fashion-mnist_1_all.deb\n")  # once, and no more
    give.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return tmp_path


def test_data_is_fetched_once_and_cut_into_parts_that_share_nothing(
    package: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "HERE", package / "made")
    monkeypatch.setattr("sys.argv", ["prepare"])
    prepare.main()
    parts = {
        name: np.load(package / f"made/{name}.npz") for name in ("training", "held_out", "calibration", "evaluation")
    }
    assert {name: part["image"].shape for name, part in parts.items()} == {
        "training": (600, 1, 28, 28),
        "held_out": (5000, 1, 28, 28),
        "calibration": (500, 1, 28, 28),
        "evaluation": (20, 1, 28, 28),
    }
    images = {name: {image.tobytes() for image in part["image"]} for name, part in parts.items()}
    assert images["calibration"] < images["training"]
    assert not images["held_out"] & images["training"]
    train = data._read(package / "downloads", "train-images-idx3-ubyte", 16).reshape(-1, 784)
    labels = dict(zip(map(bytes, train), data._read(package / "downloads", "train-labels-idx1-ubyte", 8), strict=True))
    for name in ("training", "held_out", "calibration"):  # each image still has its own label
        assert [labels[image.tobytes()] for image in parts[name]["image"]] == parts[name]["label"].tolist()
    assert sorted(file.name for file in (package / "downloads").iterdir()) == sorted(
        f"{name}.gz" for name in data.SHA256
    )
    data.load()  # from downloads/, since apt-get has nothing to give any more
    capfd.readouterr()


def test_data_that_cannot_be_had_or_is_other_ends_with_a_sentence(
    package: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (package / "made.deb").unlink()
    with pytest.raises(SystemExit, match=r"could not be had: apt-get .* Name a folder"):
        data.load()
    assert list((package / "downloads").iterdir()) == []
    (package / "bin/apt-get").unlink()
    with pytest.raises(SystemExit, match="cannot be read"):
        data.load(package)
    given = package / "tree" / data.INSTALLED
    (given / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(28)))
    with pytest.raises(SystemExit, match="holds something else than Fashion-MNIST's file"):
        data.load(given)
    capfd.readouterr()
