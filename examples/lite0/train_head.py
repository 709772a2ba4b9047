"""How the head was trained: `python -m examples.lite0.train_head --data FOLDER`. Nobody needs to run this.

FOLDER holds the four Fashion-MNIST files, as for examples/fashion/train.py. The head is a linear probe on the features
of the first 6,000 *training* images; the evaluation images are test images, and choose nothing. Writes
`head.safetensors` and `training.json`; about two minutes on one core.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from examples.lite0.model import Lite0
from examples.lite0.prepare import imagenet_weights
from examples.probe import accuracy, fit_probe

HERE = Path(__file__).parent
TRAINING_SAMPLES = 6000


def training_images(folder: Path) -> tuple[Tensor, Tensor]:
    """The first training images, `[n, 1, 28, 28]` float32 in 0..1, and their labels `[n]`."""
    pixels = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 1, 28, 28)[:TRAINING_SAMPLES]
    answers = np.frombuffer(labels, np.uint8, offset=8)[:TRAINING_SAMPLES]
    return torch.from_numpy(images.astype(np.float32) / 255), torch.from_numpy(answers.astype(np.int64))


def frozen_network() -> Lite0:
    """The network with the ImageNet weights in its trunk, in evaluation mode; its head is not trained yet."""
    network = Lite0()
    trunk = {name: value for name, value in imagenet_weights().items() if not name.startswith("_fc.")}
    missing, unexpected = network.load_state_dict(trunk, strict=False)
    assert sorted(missing) == ["_fc.bias", "_fc.weight"] and not unexpected, (missing, unexpected)
    return network.eval()


def main() -> None:
    """Trains, measures on the evaluation images, writes what is committed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    images, labels = training_images(parser.parse_args().data)
    evaluation = np.load(HERE.parent / "fashion/evaluation.npz")
    network = frozen_network()

    @torch.inference_mode()
    def features(x: Tensor) -> Tensor:
        return torch.cat([network.features(part) for part in x.split(100)]).clone()

    weight, bias, penalty = fit_probe(features(images).clone(), labels, classes=10)
    test = features(torch.from_numpy(evaluation["image"].astype(np.float32) / 255))
    facts = {
        "training_images": TRAINING_SAMPLES,
        "penalty": penalty,
        "accuracy_evaluation": accuracy(test @ weight.T + bias, torch.from_numpy(evaluation["label"].astype(np.int64))),
        "torch": torch.__version__,
    }
    save_file({"_fc.weight": weight, "_fc.bias": bias}, HERE / "head.safetensors")
    (HERE / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
