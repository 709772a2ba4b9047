"""From files to arrays: what is read, completed, preprocessed, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.errors import SignatureError
from client.inputs import load_inputs
from client.metadata import ModelMetadata, TensorInfo
from core.datatypes import BY_NAME
from core.errors import InputError
from core.samples import pack_bytes

PREPROCESS = {"image": [{"op": "decode_image", "mode": "L", "width": 3, "height": 2}, {"op": "scale", "by": 0.5}]}
IMAGE = TensorInfo("image", BY_NAME["float32"], (1, 2, 3), batched=True)
PLAIN = ModelMetadata("digits", ("1",), "", "onnxruntime", (IMAGE,), (), max_batch=4, parameters={})
PICTURES = replace(PLAIN, parameters={"trident.preprocess": json.dumps(PREPROCESS)})
TWO = replace(PLAIN, inputs=(IMAGE, TensorInfo("scale", BY_NAME["int64"], (1,), batched=True)))
PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3) * 10  # [height, width]


def floats(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.arange(n * 6, dtype=np.float32).reshape(n, 1, 2, 3)


def save(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Path:
    np.save(path, array)
    return path


def picture(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = PIXELS) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_an_npy_fills_the_only_input(tmp_path: Path) -> None:
    loaded = load_inputs([save(tmp_path / "x.npy", floats(3))], PLAIN)
    np.testing.assert_array_equal(loaded["image"], floats(3))


def test_an_array_that_lacks_just_the_batch_axis_gets_one(tmp_path: Path) -> None:
    loaded = load_inputs([save(tmp_path / "x.npy", floats(1)[0])], PLAIN)
    np.testing.assert_array_equal(loaded["image"], floats(1))


def test_an_npz_fills_inputs_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=floats(2), scale=np.ones((2, 1), np.int64))
    loaded = load_inputs([tmp_path / "x.npz"], TWO)
    assert {name: array.shape for name, array in loaded.items()} == {"image": (2, 1, 2, 3), "scale": (2, 1)}


def test_of_a_sample_pack_only_the_inputs_are_taken(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(pack_bytes({"image": floats(2)}, {"logits": floats(2)}, np.zeros(2)))
    assert list(load_inputs([tmp_path / "x.npz"], PLAIN)) == ["image"]


def test_images_become_a_preprocessed_batch(tmp_path: Path) -> None:
    paths = [picture(tmp_path / "a.png"), picture(tmp_path / "b.bmp", PIXELS + 100)]
    expected = np.stack([PIXELS[None], PIXELS[None] + 100]).astype(np.float32) * np.float32(0.5)
    loaded = load_inputs(paths, PICTURES)["image"]
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 1, 2, 3)])
def test_raw_uint8_pixels_are_preprocessed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    loaded = load_inputs([save(tmp_path / "x.npy", PIXELS.reshape(shape))], PICTURES)
    np.testing.assert_array_equal(loaded["image"][0, 0], PIXELS * np.float32(0.5))


def test_arrays_of_the_models_own_type_are_sent_as_they_are(tmp_path: Path) -> None:
    loaded = load_inputs([save(tmp_path / "x.npy", floats(1))], PICTURES)
    np.testing.assert_array_equal(loaded["image"], floats(1))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64"])
def test_other_types_are_refused_and_not_converted(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(SignatureError, match=rf"takes image: float32 \[N, 1, 2, 3\], .* is {dtype} "):
        load_inputs([save(tmp_path / "x.npy", floats(1).astype(dtype))], PICTURES)


def test_uint8_without_preprocessing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="is uint8"):
        load_inputs([save(tmp_path / "x.npy", PIXELS[None, None])], PLAIN)


def test_an_image_for_a_model_without_preprocessing_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(
        SignatureError, match=r"does not say how images become image: float32 .* give an \.npy or \.npz"
    ):
        load_inputs([picture(tmp_path / "a.png")], PLAIN)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.png"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        load_inputs([tmp_path / name], PICTURES)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.png"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is none of them, and long enough to have a header")
    with pytest.raises(InputError, match=rf"{name} cannot be read as an"):
        load_inputs([tmp_path / name], PICTURES)


def test_a_pickled_array_is_refused_and_nothing_is_run(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([print], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"x\.npy cannot be read as an \.npy array"):
        load_inputs([tmp_path / "x.npy"], PLAIN)


def test_an_archive_under_the_wrong_name_is_told_apart(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=floats(1))
    wrong = (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(InputError, match=r"name it \.npz"):
        load_inputs([wrong], PLAIN)


def test_one_file_cannot_fill_two_inputs(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="one file cannot fill several inputs"):
        load_inputs([save(tmp_path / "x.npy", floats(1))], TWO)


def test_several_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only images can be given several at a time"):
        load_inputs([save(tmp_path / "x.npy", floats(1)), picture(tmp_path / "a.png")], PICTURES)


def test_no_file_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="no input was given"):
        load_inputs([], PLAIN)


def test_wrong_names_in_an_npz_are_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", picture=floats(1))
    with pytest.raises(SignatureError, match="the arrays given are named picture"):
        load_inputs([tmp_path / "x.npz"], PLAIN)


def test_more_samples_than_the_largest_batch_are_left_to_the_client_to_split(tmp_path: Path) -> None:
    assert len(load_inputs([save(tmp_path / "x.npy", floats(5))], PLAIN)["image"]) == 5
    with pytest.raises(SignatureError, match="the batch given has 0 samples"):
        load_inputs([save(tmp_path / "x.npy", floats(0))], PLAIN)
