import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from core import machine
from core.datatypes import DATA_TYPES, from_triton
from core.errors import InputError
from core.files import sha256_file, sha256_parts, write_atomically
from core.machine import cores, describe, memory_bytes, numa_nodes
from core.samples import SamplePackInfo, pack_bytes, read_arrays, read_pack, write_pack
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
    with pytest.raises(InputError, match="not the file that"):  # and not parsed before that is known
        read_pack(tmp_path)
    (tmp_path / "samples.npz").unlink()
    with pytest.raises(InputError, match=r"samples\.npz cannot be read: No such file"):
        read_pack(tmp_path)
    (tmp_path / "samples.json").unlink()
    with pytest.raises(InputError, match="build the model first"):
        read_pack(tmp_path)
    (tmp_path / "samples.json").mkdir()
    with pytest.raises(InputError, match=r"samples\.json cannot be read: Is a directory"):
        read_pack(tmp_path)


def test_sample_pack_without_labels(tmp_path: Path) -> None:
    info = _pack(tmp_path)
    data = pack_bytes({"x": np.zeros((3, 2), np.float32)}, {})
    write_atomically(tmp_path / "probe", data)
    write_pack(tmp_path, info.model_copy(update={"sha256": sha256_file(tmp_path / "probe")}), data)
    with pytest.raises(InputError, match="has no array 'label'"):
        read_pack(tmp_path)


def _npz(member: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("x.npy", member)
    return bytearray(buffer.getvalue())


def _set(data: bytearray, signature: bytes, offset: int, value: bytes) -> bytearray:
    """`value` written `offset` bytes after each `signature`."""
    at = data.find(signature)
    while at >= 0:
        data[at + offset : at + offset + len(value)] = value
        at = data.find(signature, at + 1)
    return data


def _npy(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def _damaged() -> dict[str, bytearray]:
    good = _npy("(3,)") + bytes(12)
    local, central, name = b"PK\x03\x04", b"PK\x01\x02", b"x.npy"
    return {
        "bytes of the stream": _set(_npz(good), local, 30 + len(name), b"\xff" * 12),  # zlib.error
        "bytes of an LZMA stream": _set(_npz(good, zipfile.ZIP_LZMA), local, 30 + len(name) + 4, b"\xff" * 12),
        "unknown compression": _set(_set(_npz(good), central, 10, b"\x63"), local, 8, b"\x63"),  # NotImplementedError
        "encrypted": _set(_set(_npz(good), central, 8, b"\x01"), local, 6, b"\x01"),  # RuntimeError
        "too large for memory": _npz(_npy(f"({10**15},)")),  # MemoryError
        "too large for an integer": _npz(_npy(f"({10**30},)")),  # OverflowError
        "no array": _npz(b"text"),
        "broken header": _npz(_npy("(3,")),
    }


@pytest.mark.parametrize("kind", _damaged())
def test_a_damaged_archive_gets_one_sentence(tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.npz").write_bytes(_damaged()[kind])
    with pytest.raises(InputError, match=r"x\.npz cannot be read as an \.npz archive: \S"):
        read_arrays(tmp_path / "x.npz")


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


def test_a_control_group_bounds_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"cpu.max": ["max 100000", "150000 100000"], "memory.max": ["max\n", "1073741824\n"]}
    monkeypatch.setattr(machine, "_cgroup_files", lambda name: files[name])
    assert cores() == 1
    assert memory_bytes() == 1 << 30
    files["memory.max"] = ["max\n"]
    assert memory_bytes() == describe().memory_bytes


def test_cpu_lists_and_nodes(tmp_path: Path) -> None:
    (tmp_path / "cpulist").write_text("0-2,8\n")
    assert machine._cpus(tmp_path / "cpulist") == {0, 1, 2, 8}
    (tmp_path / "cpulist").write_text("\n")  # a node of memory alone
    assert machine._cpus(tmp_path / "cpulist") == set()
    assert 1 <= numa_nodes() <= len(os.sched_getaffinity(0))
