"""The sample pack: labelled evaluation samples with the original's answers, made by the builder, read by load test,
client and supervisor. Two files in `artifacts/<model>/`: `samples.npz` and `samples.json`.

Arrays in the npz: `input/<name>` `[n, ...]` as they go over the wire, `label` `[n]`, `golden/<output>` `[n, ...]` of
the original. The same layout, without labels and with 16 rows of the *variant's own* answers, is `golden.npz`.
"""

from __future__ import annotations

import io
import lzma
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from core.errors import InputError
from core.files import sha256_file, write_atomically
from core.results import ResultModel, Sha256
from core.tensors import Arrays, TensorSpec

GOLDEN_ROWS = 16

# What zipfile, its decompressors and numpy raise for bytes that are no archive of arrays: RuntimeError for an encrypted
# member, NotImplementedError for an unknown compression, MemoryError and OverflowError for an absurd shape.
_DAMAGED = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, OverflowError, TypeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
)


class SamplePackInfo(ResultModel):
    """`samples.json`."""

    model: str
    count: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metric: str
    higher_is_better: bool = True
    metric_output: str
    sha256: Sha256


@dataclass(frozen=True)
class SamplePack:
    """The pack in memory. `inputs` and `goldens` have `info.count` rows each, `labels` is `[count]`."""

    info: SamplePackInfo
    inputs: Arrays
    goldens: Arrays
    labels: NDArray[np.generic]


def pack_bytes(inputs: Arrays, goldens: Arrays, labels: NDArray[np.generic] | None = None) -> bytes:
    """The npz's bytes; equal arrays give equal bytes (numpy dates every member 1980)."""
    arrays: Arrays = {f"input/{name}": value for name, value in inputs.items()}
    arrays |= {f"golden/{name}": value for name, value in goldens.items()}
    if labels is not None:
        arrays["label"] = labels
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_arrays(path: Path) -> Arrays:
    """All arrays of an npz file. Raises InputError if it is missing, damaged or holds pickled objects."""
    try:
        # Opened here: numpy leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path} is a single array; an .npz archive with named arrays is needed")
            arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except _DAMAGED as error:
        why = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read as an .npz archive: {why}") from error
    # numpy hands a member that is no array over as its bytes.
    if odd := [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]:
        raise InputError(f"{path} cannot be read as an .npz archive: its member {odd[0]!r} is no array")
    return arrays


def split_pack(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """Inputs and goldens of a pack's arrays, by name."""
    inputs = {name.removeprefix("input/"): value for name, value in arrays.items() if name.startswith("input/")}
    goldens = {name.removeprefix("golden/"): value for name, value in arrays.items() if name.startswith("golden/")}
    return inputs, goldens


def write_pack(folder: Path, info: SamplePackInfo, data: bytes) -> None:
    """Writes both files; `info.sha256` must be that of `data`. The npz goes first."""
    write_atomically(folder / "samples.npz", data)
    write_atomically(folder / "samples.json", info.to_json())


def read_pack(folder: Path) -> SamplePack:
    """Reads and verifies a pack. Raises InputError if it is missing, damaged, or not what its JSON describes."""
    try:
        info = SamplePackInfo.model_validate_json((folder / "samples.json").read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no sample pack; build the model first (`trident build`)") from error
    except ValidationError as error:
        raise InputError(f"{folder / 'samples.json'} cannot be read: {error.errors()[0]['msg']}") from error
    except OSError as error:
        raise InputError(f"{folder / 'samples.json'} cannot be read: {error.strerror}") from error
    path = folder / "samples.npz"
    try:
        sha256 = sha256_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; build the model again") from error
    if sha256 != info.sha256:
        raise InputError(f"{path} is not the file that samples.json describes; build the model again")
    arrays = read_arrays(path)
    if "label" not in arrays:
        raise InputError(f"{path} has no array 'label'; build the model again")
    inputs, goldens = split_pack(arrays)
    return SamplePack(info, inputs, goldens, arrays["label"])
