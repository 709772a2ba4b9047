"""Texts to the token numbers that an encoder takes, by the tokenizer in its Hugging Face folder: for a spec's data and
for requests. Nothing is fetched; a `tokenizer.json` is data, and nothing of it is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from builder.errors import CheckpointError, DataError
from core.errors import one_line
from core.tensors import Arrays

FILE: Final = "tokenizer.json"
PADDING: Final = ("[PAD]", "<pad>", "<|endoftext|>")


def tokenize(folder: Path, texts: Sequence[str], length: int | None = None, types: bool = False) -> Arrays:
    """`input_ids` and `attention_mask`, with `types` also `token_type_ids`, each int64 `[n, S]`. S is `length`, longer
    texts being cut and shorter ones padded; unset, that of the longest text.

    The file's own cutting and padding are switched off: they are of its training, and would make each file another
    size. Raises CheckpointError without the extra `text` or without such a file, DataError for no texts at all.
    """
    if not texts:
        raise DataError("there is no text to tokenize; give a line for each")
    tokenizer = _load(folder / FILE)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if length:
        special = tokenizer.num_special_tokens_to_add(is_pair=False)  # which it never cuts
        if length <= special:
            raise DataError(f"{length} tokens are too few: {folder / FILE} adds {special} to each text; give more")
        tokenizer.enable_truncation(length)
    found = tokenizer.encode_batch(list(texts))
    size = length or max(len(one.ids) for one in found)
    padding = next((number for name in PADDING if (number := tokenizer.token_to_id(name)) is not None), 0)
    ids, mask = np.full((len(found), size), padding, np.int64), np.zeros((len(found), size), np.int64)
    for row, one in enumerate(found):
        ids[row, : len(one.ids)], mask[row, : len(one.ids)] = one.ids, 1
    arrays: Arrays = {"input_ids": ids, "attention_mask": mask}
    return arrays | {"token_type_ids": np.zeros_like(ids)} if types else arrays


def read_texts(path: Path, labelled: bool) -> tuple[list[str], Arrays]:
    """The lines of a file, empty ones left out; with `labelled` each is a label, a tab and the text, and the second
    part holds the labels: `label` `[n]`, int64, or float64 where one is not whole. Raises DataError."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name a file with a text in each line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {one_line(error)}") from error
    if not labelled:
        return lines, {}
    labels, texts = [], []
    for number, line in enumerate(lines, 1):
        label, tab, text = line.partition("\t")
        try:
            labels.append(float(label))
        except ValueError:
            tab = ""
        if not tab:
            raise DataError(
                f"{path}: text {number} is {line[:40]!r}; with labels a line is a number, a tab and the text"
            )
        texts.append(text)
    values = np.array(labels)
    return texts, {"label": values.astype(np.int64) if (values == np.floor(values)).all() else values}


def _load(file: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise CheckpointError(
            f"{file} is for the package tokenizers, which is not installed; install the extra `text` "
            f"(pip install 'trident-triton[text]')"
        ) from error
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist; name the folder of a Hugging Face encoder with its tokenizer")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # of its own parser, derived from Exception alone
        raise CheckpointError(f"{file} cannot be read as a tokenizer: {one_line(error)}") from error
