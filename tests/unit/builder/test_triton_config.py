from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from builder.planner import Facts
from builder.spec import ModelSpec
from builder.spec_file import load_spec
from builder.triton_config import make_config
from core.axes import Buckets, ServedAxis, parse_axes
from core.results import Costs
from tests.support.costs import costs_of
from tests.support.tiny import onnx_spec


def _spec(folder: Path, serving: str = "", target: str = "wheel", batch: int = 8) -> ModelSpec:
    path = onnx_spec(folder)
    text = path.read_text().replace("batch: {max: 8}", f"batch: {{max: {batch}}}")
    path.write_text(f"{text}serving: {{{serving}}}\ntarget: {target}\n")
    return load_spec(path)


def _config(
    spec: ModelSpec, form: str = "onnx", cores: int = 4, costs: Costs | None = None
) -> tuple[str, pb.ModelConfig]:
    facts = Facts(cores=cores, nodes=1, memory_bytes=8 << 30, isa_flags=("avx2",), costs=costs)
    text = make_config(spec, "onnx_fp32", form, "0" * 64, facts)  # type: ignore[arg-type]
    return text, text_format.Parse(text, pb.ModelConfig())


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("wishes", ["", "instances: 3", "instances: 2, threads: 16", "threads: 1"])
def test_threads_times_instances_never_exceed_the_cores(tmp_path: Path, wishes: str, cores: int) -> None:
    _, config = _config(_spec(tmp_path, wishes), cores=cores)
    threads = int(config.parameters["intra_op_thread_count"].string_value)
    assert 1 <= threads * config.instance_group[0].count <= cores


def test_a_wish_for_fewer_threads_is_granted(tmp_path: Path) -> None:
    _, config = _config(_spec(tmp_path, "threads: 1"), cores=8)
    assert config.parameters["intra_op_thread_count"].string_value == "1"


def test_queue_is_bounded_for_the_target_whose_batcher_can(tmp_path: Path) -> None:
    _, config = _config(_spec(tmp_path, target="nvidia"))
    policy = config.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (256, 2_000_000)
    text, config = _config(_spec(tmp_path))
    assert not config.dynamic_batching.HasField("default_queue_policy")
    assert "stalls single requests" in text
    _, config = _config(_spec(tmp_path, "max_queue_size: 9"))
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 9


def test_batch_of_one_has_no_dynamic_batching_and_still_a_batch_axis(tmp_path: Path) -> None:
    _, config = _config(_spec(tmp_path, batch=1))
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")
    assert [warmup.batch_size for warmup in config.model_warmup] == [1]


def test_native_openvino_gets_its_padding(tmp_path: Path) -> None:
    _, config = _config(_spec(tmp_path, target="nvidia"), "openvino")
    assert config.parameters["ENABLE_BATCH_PADDING"].string_value == "YES"
    _, config = _config(_spec(tmp_path), "openvino")
    assert "ENABLE_BATCH_PADDING" not in config.parameters


# threads, instances: a model whose second thread is no use is served by as many instances as there are cores.
@pytest.mark.parametrize(
    ("form", "target", "parameters"),
    [
        ("onnx", "wheel", {"intra_op_thread_count": "1", "inter_op_thread_count": "1"}),
        ("onnx", "nvidia", {"intra_op_thread_count": "1", "inter_op_thread_count": "1"}),
        ("torchscript", "wheel", {"INTRA_OP_THREAD_COUNT": "1", "INTER_OP_THREAD_COUNT": "1"}),
        ("openvino", "wheel", {"INFERENCE_NUM_THREADS": "1"}),
        ("openvino", "nvidia", {"INFERENCE_NUM_THREADS": "4", "NUM_STREAMS": "4", "ENABLE_BATCH_PADDING": "YES"}),
    ],
)
def test_threads_are_given_as_the_backend_of_the_target_takes_them(
    tmp_path: Path, form: str, target: str, parameters: dict[str, str]
) -> None:
    _, config = _config(_spec(tmp_path, target=target), form, 4, costs_of(serial=1.0))
    assert config.instance_group[0].count == 4
    given = {name: value.string_value for name, value in config.parameters.items() if not name.startswith("trident.")}
    assert given == parameters


def test_the_planned_batch_limit_is_what_is_warmed_up(tmp_path: Path) -> None:
    spec = _spec(tmp_path)
    path = tmp_path / "model.yaml"
    path.write_text(path.read_text().replace("batch: {max: 8}\n", ""))
    _, config = _config(load_spec(path), costs=costs_of(overhead_ms=15.0))
    assert config.max_batch_size == 4
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 4]
    text, config = _config(spec, costs=costs_of(overhead_ms=15.0))
    assert config.max_batch_size == 8
    assert "the spec's batch.max" in text


def test_each_field_stands_under_its_reason(tmp_path: Path) -> None:
    text, _ = _config(_spec(tmp_path))
    lines = text.splitlines()
    for field in ("name:", "backend:", "max_batch_size:", "dynamic_batching {", "instance_group {", "parameters {"):
        first = next(number for number, line in enumerate(lines) if line.startswith(field))
        assert lines[first - 1].startswith("# "), field


def test_buckets_are_published_and_warmed_up(tmp_path: Path) -> None:
    path = onnx_spec(tmp_path)
    text = path.read_text().replace("{name: x, dtype: float32, dims: [8]}", "{name: x, dtype: int64, dims: [S, 8]}")
    text = text.replace("dims: [3]", "dims: [S]")
    path.write_text(text + "axes: {S: {min: 2, opt: 4, max: 16, buckets: [4, 16]}}\npad: {x: 7}\n")
    _, config = _config(load_spec(path))
    warmed = {(part.name, part.batch_size): tuple(part.inputs["x"].dims) for part in config.model_warmup}
    assert warmed == {
        ("batch_1_S_4", 1): (4, 8), ("batch_1_S_16", 1): (16, 8),
        ("batch_8_S_4", 8): (4, 8), ("batch_8_S_16", 8): (16, 8),
    }  # fmt: skip
    axes, buckets = parse_axes(*(config.parameters[f"trident.{name}"].string_value for name in ("axes", "buckets")))
    assert axes == {"S": ServedAxis(min=2, max=16, at={"x": (1,), "scores": (1,)})}
    assert buckets == {"S": Buckets(sizes=(4, 16), pad={"x": 7})}
