"""Inputs as people write them: JSON, and texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.datatypes import BYTES
from client.errors import SignatureError
from client.metadata import ModelMetadata, TensorInfo
from core.errors import InputError
from core.tensors import Arrays

STANDARD_INPUT = Path("-")


def read_json(path: Path, metadata: ModelMetadata) -> Arrays:
    """The arrays in a JSON file (`-`: standard input): nested lists by input name, a list for the only input, or a
    whole request of the Open Inference Protocol. Numbers become the input's data type, if they are such numbers. Raises
    InputError, or SignatureError for a name that is no input."""
    try:
        value = json.loads(sys.stdin.read() if path == STANDARD_INPUT else path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if isinstance(value, list) and len(metadata.inputs) == 1:
        value = {metadata.inputs[0].name: value}
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold an object with a list for each input: {metadata.signature()}")
    known = {tensor.name: tensor for tensor in metadata.inputs}
    given = _protocol_inputs(value, path) if "inputs" in value and "inputs" not in known else value
    if unknown := sorted(given.keys() - known.keys()):
        raise metadata.mismatch(f"{path} has {', '.join(unknown)}")
    return {name: _array(data, known[name], path) for name, data in given.items()}


def text_array(texts: Sequence[str], metadata: ModelMetadata) -> Arrays:
    """Texts as a batch for the only input of a model that takes texts. Raises SignatureError for any other model."""
    tensor = metadata.inputs[0]
    if len(metadata.inputs) != 1 or tensor.datatype is not BYTES:
        raise SignatureError(
            f"model {metadata.name!r} takes no text but {metadata.signature()}; "
            "make these arrays of the text first, as its training did, and give them as .npz or JSON"
        )
    flat = np.array([text.encode() for text in texts], object)
    return {tensor.name: flat.reshape(-1, *[1] * len(tensor.dims)) if tensor.batched else flat}


def _protocol_inputs(request: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        return {
            tensor["name"]: np.reshape(np.array(tensor["data"], object), tensor["shape"]).tolist()
            for tensor in request["inputs"]
        }
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no request with inputs of name, shape and data: {error!r}") from error


def _array(value: Any, tensor: TensorInfo, path: Path) -> NDArray[np.generic]:
    try:
        found = np.array(value)
    except ValueError as error:
        raise InputError(f"{path}: {tensor.name!r} is no array, its lists differ in length") from error
    if tensor.datatype is BYTES:
        return found.astype(object)
    wanted = tensor.datatype.numpy
    if found.dtype.kind not in ("biuf" if wanted.kind == "f" else "b" if wanted.kind == "b" else "biu"):
        raise InputError(f"{path}: {tensor.name!r} must hold {wanted} only, and has {found.dtype}")
    if wanted.kind in "iu" and found.size and not np.array_equal(found.astype(wanted), found):
        raise InputError(f"{path}: {tensor.name!r} has numbers that {wanted} cannot hold")
    return found.astype(wanted)
