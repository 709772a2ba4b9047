"""`trident infer`: files in, labels or numbers out."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import numpy as np

from client.inputs import load_inputs
from client.inputs_json import text_array
from client.outputs import Answer, answers
from core.errors import UsageError
from core.files import write_atomically
from core.tensors import Arrays
from trident.connect import connect
from trident.console import result_console


def run(options: argparse.Namespace) -> int:
    """Sends one request; prints an answer for each sample."""
    with connect(options) as client:
        metadata = client.metadata(options.model)
        files = [Path(name) for name in options.inputs]
        given = text_array(options.inputs, metadata) if options.text else load_inputs(files, metadata)
        outputs = client.infer(options.model, given)
    if options.output:
        _write(options.output, outputs)
    found = answers(outputs, metadata, options.top)
    if options.json:
        print(json.dumps([_plain(answer) for answer in found], indent=2))
        return 0
    console = result_console()
    for number, answer in enumerate(found):
        console.print(f"{number}: {_sentence(answer)}", soft_wrap=True, markup=False)
    return 0


def _write(path: Path, outputs: Arrays) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **outputs)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def _plain(answer: Answer) -> dict[str, object]:
    guesses = [{"label": guess.label, "probability": guess.probability} for guess in answer.guesses]
    return {"guesses": guesses, "outputs": answer.values}


def _sentence(answer: Answer) -> str:
    if answer.guesses:
        return ", ".join(f"{guess.label} {guess.probability:.1%}" for guess in answer.guesses)
    return ", ".join(f"{name} = {value}" for name, value in answer.values.items())
