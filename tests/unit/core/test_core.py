import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from core.datatypes import DATA_TYPES, from_triton
from core.errors import InputError
from core.files import sha256_file, sha256_parts, write_atomically
from core.machine import cores, describe
from core.samples import SamplePackInfo, pack_bytes, read_pack, write_pack
from core.tensors import TensorSpec
from core.transforms import PREPROCESS, apply_to_array, decode_image, parse_preprocess


def test_every_data_type_agrees_with_numpy_onnx_and_triton() -> None:
    from tritonclient.utils import np_to_triton_dtype

    for row in DATA_TYPES:
        assert np_to_triton_dtype(row.numpy) == row.triton
        assert onnx.helper.tensor_dtype_to_np_dtype(row.onnx) == row.numpy
        assert from_triton(row.triton) is row
    with pytest.raises(InputError, match="BF16"):
        from_triton("BF16")


def test_tensor_check_names_what_is_expected_and_what_came() -> None:
    tensor = TensorSpec(name="ids", dtype="int64", dims=("S", 4))
    tensor.check(np.zeros((2, 7, 4), np.int64), "it")
    with pytest.raises(InputError, match=r"ids: int64 \[N, S, 4\], but its shape is \[2, 7, 5\]"):
        tensor.check(np.zeros((2, 7, 5), np.int64), "it")
    with pytest.raises(InputError, match="its data type is float32"):
        tensor.check(np.zeros((2, 7, 4), np.float32), "it")


def test_parts_are_hashed_with_their_borders() -> None:
    assert sha256_parts(["ab", "c"]) != sha256_parts(["a", "bc"])


def test_write_atomically_leaves_the_old_file_when_it_cannot_write(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from core.files import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: write_atomically(Path(sys.argv[1]), b'x' * 1000)\n"
        "except OSError: sys.exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(target)], check=False).returncode == 9
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_cores_is_within_the_affinity_mask() -> None:
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"{one}; from core.machine import cores; print(cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"1\n"
    assert describe().cores == cores() >= 1


def _pack(folder: Path) -> SamplePackInfo:
    x, y = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((3, 1), np.float32)
    data = pack_bytes({"x": x}, {"y": y}, np.array([0, 0, 0]))
    write_atomically(folder / "probe", data)
    info = SamplePackInfo(
        model="m", count=3, metric="top1", metric_output="y", sha256=sha256_file(folder / "probe"),
        inputs=(TensorSpec(name="x", dims=(2,)),), outputs=(TensorSpec(name="y", dims=(1,)),),
    )  # fmt: skip
    write_pack(folder, info, data)
    return info


def test_sample_pack_round_trip_and_tampering(tmp_path: Path) -> None:
    info = _pack(tmp_path)
    pack = read_pack(tmp_path)
    assert pack.info == info
    assert pack.inputs["x"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert pack.goldens["y"].shape == (3, 1)
    raw = bytearray((tmp_path / "samples.npz").read_bytes())
    np.savez_compressed(tmp_path / "samples.npz", **{"input/x": np.zeros((3, 2)), "label": np.zeros(3)})
    with pytest.raises(InputError, match="not the file that"):
        read_pack(tmp_path)
    (tmp_path / "samples.npz").write_bytes(raw[:50])
    with pytest.raises(InputError, match="cannot be read"):
        read_pack(tmp_path)
    (tmp_path / "samples.json").unlink()
    with pytest.raises(InputError, match="build the model first"):
        read_pack(tmp_path)


def test_transforms_from_image_file_to_tensor(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 4), (255, 0, 0)).save(tmp_path / "red.png")
    steps = PREPROCESS.validate_python(
        {
            "x": [
                {"op": "decode_image", "mode": "RGB", "width": 2, "height": 3},
                {"op": "scale", "by": 1 / 255},
                {"op": "normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.25]},
            ]
        }
    )["x"]
    pixels = decode_image(steps[0], tmp_path / "red.png")  # type: ignore[arg-type]
    assert (pixels.shape, pixels.dtype) == ((3, 3, 2), np.uint8)
    ready = apply_to_array(steps, pixels[None])
    assert ready.dtype == np.float32
    assert ready[0, :, 0, 0].tolist() == pytest.approx([1.0, -1.0, -2.0])
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read as an image"):
        decode_image(steps[0], tmp_path / "no.png")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"trident\.preprocess"):
        parse_preprocess('{"x": [{"op": "blur"}]}')
