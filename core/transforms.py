"""The closed table of transforms that a spec may name under `preprocess`, and how they are applied.

They run outside the model: the builder applies them to the data files, `trident infer` to the files that it is given;
the client's `infer` takes arrays as they go over the wire. See `prepare` for what is taken as ready. A published
model carries them as JSON in its config parameter `trident.preprocess`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from core.errors import InputError


class Transform(BaseModel):
    """Base of the transforms."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DecodeImage(Transform):
    """An image file to uint8 `[channels, height, width]`: converted to `mode`, and resized by Pillow with `filter`,
    which should be the one of the training. Arrays pass unchanged."""

    op: Literal["decode_image"]
    mode: Literal["L", "RGB"]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    filter: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"


class Scale(Transform):
    """`x * by + plus`, computed in float32."""

    op: Literal["scale"]
    by: float
    plus: float = 0.0


class Normalize(Transform):
    """`(x - mean) / std` by channel, the third axis from the end, computed in float32."""

    op: Literal["normalize"]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


AnyTransform = Annotated[DecodeImage | Scale | Normalize, Field(discriminator="op")]
Preprocess = dict[str, tuple[AnyTransform, ...]]
"""Input name -> its transforms, in order."""

PREPROCESS: TypeAdapter[Preprocess] = TypeAdapter(Preprocess)


def parse_preprocess(text: str) -> Preprocess:
    """Reads the JSON of a config parameter. Raises InputError for a transform that this version does not know."""
    try:
        return PREPROCESS.validate_json(text)
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise InputError(f"the model's parameter trident.preprocess cannot be read: {why}") from error


def apply_to_array(transforms: tuple[AnyTransform, ...], array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Applies all but the decoding to an array with any leading axes, e.g. uint8 `[N, C, H, W]` to float32.

    Raises InputError for an array that a transform cannot take: no numbers, or another count of channels.
    """
    for transform in transforms:
        try:
            if isinstance(transform, Scale):
                array = array.astype(np.float32) * np.float32(transform.by) + np.float32(transform.plus)
            elif isinstance(transform, Normalize):
                mean = np.asarray(transform.mean, np.float32)[:, None, None]
                array = (array.astype(np.float32) - mean) / np.asarray(transform.std, np.float32)[:, None, None]
        except (ValueError, TypeError) as error:
            what = f"{array.dtype} array of shape {list(array.shape)}"
            raise InputError(f"preprocess {transform.op!r} does not fit the {what}: {error}") from error
    return array


def prepare(
    transforms: tuple[AnyTransform, ...], array: NDArray[np.generic], dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """What the network takes from what is in a file: uint8 (pixels) is transformed, unless the network takes uint8; an
    array of any other type is taken as ready. The builder and `trident infer` both go by this. Raises InputError."""
    return apply_to_array(transforms, array) if array.dtype == np.uint8 != dtype else array


def decode_image(transform: DecodeImage, path: Path) -> NDArray[np.generic]:
    """The pixels of an image file, uint8 `[channels, height, width]`. Raises InputError if it is no readable image."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            size, filter_ = (transform.width, transform.height), Image.Resampling[transform.filter.upper()]
            resized = image.convert(transform.mode).resize(size, filter_)
            pixels = np.asarray(resized, np.uint8)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
