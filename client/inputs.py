"""From files to arrays that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.errors import SignatureError
from client.inputs_json import STANDARD_INPUT, read_json, text_array
from client.metadata import ModelMetadata, TensorInfo
from core.errors import InputError
from core.samples import read_arrays, split_pack
from core.tensors import Arrays
from core.transforms import AnyTransform, DecodeImage, decode_image, parse_preprocess, prepare

Transforms = tuple[AnyTransform, ...]


def load_inputs(paths: Sequence[Path], metadata: ModelMetadata) -> Arrays:
    """The inputs of one request, by name: from one `.npz` (arrays by input name, or a sample pack), one `.npy` (for a
    model with one input), one `.json` or `-` (see `client.inputs_json`), one `.txt` (for a model that takes texts: each
    line is one), or image files (together a batch).

    An array that lacks just the batch axis gets one. A uint8 array for an input of another data type goes through the
    model's preprocessing, if it has one; no other data type is converted. Raises InputError if a file cannot be used,
    SignatureError if the arrays do not fit the model.
    """
    if not paths:
        raise InputError("no input was given; give an .npy, .npz, .json or .txt file, or image files")
    preprocess = parse_preprocess(metadata.parameters.get("trident.preprocess", "{}"))
    arrays = {
        name: _complete(array, name, metadata, preprocess.get(name, ()))
        for name, array in _read(paths, metadata, preprocess).items()
    }
    metadata.check_inputs(arrays, any_batch=True)
    return arrays


def _read(paths: Sequence[Path], metadata: ModelMetadata, preprocess: dict[str, Transforms]) -> Arrays:
    suffixes = {path.suffix.lower() for path in paths}
    if (suffixes & {".npy", ".npz", ".json", ".txt"} or STANDARD_INPUT in paths) and len(paths) > 1:
        raise InputError("only images can be given several at a time; put arrays into one .npz by input name")
    if suffixes == {".json"} or paths[0] == STANDARD_INPUT:
        return read_json(paths[0], metadata)
    if suffixes == {".txt"}:
        return text_array(_lines(paths[0]), metadata)
    if suffixes == {".npz"}:
        arrays = read_arrays(paths[0])
        inputs, _ = split_pack(arrays)
        return inputs or arrays
    tensor = _only_input(metadata)
    if suffixes == {".npy"}:
        return {tensor.name: _read_npy(paths[0])}
    return {tensor.name: _read_images(paths, metadata, tensor, preprocess.get(tensor.name, ()))}


def _only_input(metadata: ModelMetadata) -> TensorInfo:
    if len(metadata.inputs) != 1:
        raise metadata.mismatch("one file cannot fill several inputs, unless it is an .npz with an array for each")
    return metadata.inputs[0]


def _lines(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from error
    if not lines:
        raise InputError(f"{path} has no text; write one sample a line")
    return lines


def _read_npy(path: Path) -> NDArray[np.generic]:
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as an .npy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of several arrays; name it .npz")
    return array


def _read_images(
    paths: Sequence[Path], metadata: ModelMetadata, tensor: TensorInfo, transforms: Transforms
) -> NDArray[np.generic]:
    """The images as a batch, uint8 `[N, channels, height, width]`."""
    decode = next((transform for transform in transforms if isinstance(transform, DecodeImage)), None)
    if decode is None:
        raise SignatureError(
            f"model {metadata.name!r} does not say how images become {tensor} (its spec has no decode_image under "
            f"preprocess), so {paths[0]} cannot be sent; give an .npy or .npz with such an array"
        )
    return np.stack([decode_image(decode, path) for path in paths])


def _complete(
    array: NDArray[np.generic], name: str, metadata: ModelMetadata, transforms: Transforms
) -> NDArray[np.generic]:
    tensor = next((tensor for tensor in metadata.inputs if tensor.name == name), None)
    if tensor is None:
        return array  # check_inputs has the words for it
    array = prepare(transforms, array, tensor.datatype.numpy)
    return array[None] if tensor.batched and array.ndim == len(tensor.dims) else array
