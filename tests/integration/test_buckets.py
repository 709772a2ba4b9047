"""Texts of all lengths from a spec with buckets, and a file of another tool, built and served by the real Triton."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from builder.build import BuildOptions, Listener, build
from client import InferenceClient, SignatureError
from server.options import ServeOptions
from server.supervisor import Server
from tests.support.networks import write_spec

TABLE = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def _embedder() -> onnx.ModelProto:
    """`ids` and `mask` `[N, S]` to `scores` `[N, 3]`, the sum of the rows of a table that the mask keeps, and `kept`
    `[N, S]`, the mask."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Cast", ["mask"], ["shares"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["shares", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "second"], ["scores"], keepdims=0),
        helper.make_node("Identity", ["mask"], ["kept"]),
    ]
    ints = [helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "S"]) for name in ("ids", "mask", "kept")]
    constants = {"table": TABLE, "last": np.array([-1]), "second": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "embedder",
        ints[:2],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3]), ints[2]],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def _scores(ids: np.ndarray) -> np.ndarray:
    return np.asarray(TABLE[ids].sum(axis=1))


def test_texts_of_every_length_are_answered_right_and_others_refused(tmp_path: Path) -> None:
    onnx.save(_embedder(), tmp_path / "net.onnx")
    onnx.save(_embedder(), tmp_path / "other.onnx")
    random = np.random.default_rng(1)
    arrays = {"ids": random.integers(0, 20, (60, 6)), "mask": np.ones((60, 6), np.int64)}
    spec = write_spec(
        tmp_path, {"onnx": "net.onnx"}, [("ids", "int64", ["S"]), ("mask", "int64", ["S"])],
        [("scores", "float32", [3]), ("kept", "int64", ["S"])], arrays, lambda given: _scores(given["ids"]),
        ["onnx_fp32"], axes={"S": {"min": 1, "opt": 8, "max": 16, "buckets": [4, 8, 16]}}, pad={"ids": 19, "mask": 0},
        imports={"theirs": "other.onnx"},
    )  # fmt: skip
    rows = build([spec], BuildOptions(tmp_path / "r", tmp_path / "a"), Listener()).models[0].rows
    assert [(row.status, row.reason) for row in rows] == [("published", "")] * 2
    options = ServeOptions(repository=tmp_path / "r", run_dir=tmp_path / "run", golden_interval_s=0)
    with Server(options) as server, InferenceClient(server.http_url) as client:
        for name in ("net_onnx_fp32", "net_imported_theirs"):
            for size in (1, 4, 5, 16):
                ids = random.integers(0, 20, (2, size))
                answer = client.infer(name, {"ids": ids, "mask": np.ones_like(ids)})
                assert np.abs(answer["scores"] - _scores(ids)).max() < 1e-5
                assert answer["kept"].shape == (2, size)
        long = np.zeros((1, 17), np.int64)
        with pytest.raises(SignatureError, match="axis S may be 1 to 16, and is 17"):
            client.infer("net_onnx_fp32", {"ids": long, "mask": long})
