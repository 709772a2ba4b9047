"""`trident tokenize`: texts in, an .npz with an encoder's inputs out, for a spec's data or for `trident infer`."""

from __future__ import annotations

import argparse
import io
import json

import numpy as np

from builder.texts import read_texts, tokenize
from core.errors import UsageError
from core.files import write_atomically


def run(options: argparse.Namespace) -> int:
    """Writes the arrays and says what they are."""
    texts, labels = read_texts(options.texts, options.labels)
    arrays = tokenize(options.folder, texts, options.length, options.types) | labels
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    try:
        write_atomically(options.out, buffer.getvalue())
    except OSError as error:
        raise UsageError(f"{options.out} cannot be written: {error.strerror}") from error
    facts = {name: {"dtype": str(array.dtype), "shape": list(array.shape)} for name, array in arrays.items()}
    if options.json:
        print(json.dumps({"file": str(options.out), "arrays": facts}, indent=2))
    else:
        told = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in arrays.items())
        print(f"{options.out}: {told}")
    return 0
