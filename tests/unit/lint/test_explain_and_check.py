"""A configuration in plain words, and what a release can load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tritonclient.grpc import model_config_pb2 as pb

from lint import releases
from lint.compatibility import judge
from lint.explain import WORDS, explain
from lint.releases import NEWEST, RELEASES, find_release, onnx_limits, openvino_limit
from lint.run import checked, release_for
from tests.support.command import trident
from tests.support.lint_faults import edit, swap
from tests.support.lint_repositories import (
    ENSEMBLE_CONFIG,
    GOOD,
    good_onnx,
    good_openvino,
    good_torch,
    onnx_bytes,
    write,
)


def said(folder: Path, cores: int = 2) -> str:
    model, context, _findings = checked(folder, NEWEST, cores)
    return "\n".join(f"{line.field}|{line.value}|{line.meaning}" for line in explain(model, context))


def test_every_field_has_words() -> None:
    fields = set(pb.ModelConfig.DESCRIPTOR.fields_by_name)
    assert set(WORDS) == fields


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("# A", "# A", "max_batch_size|8|up to 8 samples are computed at once"),
        ("max_batch_size: 8", "max_batch_size: 0", "max_batch_size|0|no batching"),
        ("# A", "# A", "dynamic_batching|delay 100 us|a lone request waits up to 0.1 ms"),
        ("microseconds: 100", "microseconds: 0", "a lone one leaves at once"),
        ("# A", "# A", "beyond 64 waiting a request is refused"),
        (
            "max_queue_size: 64", "timeout_action: DELAY default_timeout_microseconds: 5000",
            "beyond 5 ms in the queue a request is put last",
        ),
        ("# A", "# A", "1 thread each; 1 in all fits 2 cores"),
        ("count: 1", "count: 4", "4 in all is more than 2 cores; they take the cores from each other"),
        ("instance_group [ { kind: KIND_CPU count: 1 } ]", "", "two, each with a thread for every core"),
        ("# A", "# A", "input|x|a client sends FP32 [N, 4], 16 bytes a sample"),
        ("# A", "# A", "|takes x|FP32 [any, 4]"),
        ("# A", "# A", "model_warmup|batches of 1|run before"),
        ("# A", "response_cache { enable: true }\n# A", "response_cache|on|the same inputs are answered from memory"),
    ],
)  # fmt: skip
def test_what_is_said(tmp_path: Path, old: str, new: str, words: str) -> None:
    swap(old, new)(tmp_path)
    assert words in said(tmp_path / "m")


def test_an_ensemble_is_told_step_by_step(tmp_path: Path) -> None:
    GOOD["ensemble"](tmp_path)
    assert "ensemble_scheduling|m|makes answer from x; its latency" in said(tmp_path / "e")
    write(tmp_path / "alone", ENSEMBLE_CONFIG, {}, "e")
    assert "m|makes answer from x, which is not in the repository" in said(tmp_path / "alone" / "e")


def test_a_plan_says_which_tensorrt_made_it(tmp_path: Path) -> None:
    folder = GOOD["tensorrt"](tmp_path)
    assert isinstance(folder, Path)

    def reason(head: bytes, release: str = "24.10") -> str:
        (folder / "1" / "model.plan").write_bytes(head)
        judged = judge(checked(folder, find_release(release), 2)[0], find_release(release))
        assert judged is not None and judged.loads == "unknown"
        return judged.reason

    made = b"ftrt" + bytes(20) + bytes((10, 5, 0, 18)) + bytes(9)
    assert "made by TensorRT 10.5.0.18; the trtllm image of 24.10 has 10.4.0" in reason(made)
    assert "of that in 24.01 Triton's document says nothing" in reason(made, "24.01")
    for older in (b"ftrt" + bytes(3), b"ptrt" + made[4:], b"ftrt\xcd" + made[5:]):
        assert "does not say which" in reason(older)


def test_a_repository_that_says_its_target_is_read_for_it(tmp_path: Path) -> None:
    good_onnx(tmp_path / "hand")
    assert release_for(None, tmp_path / "hand") == NEWEST
    for target, name in (("wheel", "wheel"), ("nvidia", NEWEST.name)):
        folder = good_onnx(tmp_path / target)
        with (folder / "config.pbtxt").open("a") as config:
            config.write(f'parameters {{ key: "trident.target" value {{ string_value: "{target}" }} }}\n')
        assert release_for(None, tmp_path / target).name == release_for(None, folder).name == name
        assert release_for("24.10", tmp_path / target).name == "24.10"
    said = trident("lint", str(tmp_path / "wheel"))
    assert "for the embedded Triton 2.51" in said.stdout


def test_the_comment_above_a_field_is_its_reason(tmp_path: Path) -> None:
    comment = "# far above\n\n# as many as\n  # the knee says\nmax_batch_size: 8"
    swap("max_batch_size: 8", comment)(tmp_path)
    model, context, _findings = checked(tmp_path / "m", NEWEST, 2)
    reasons = {line.field: line.reason for line in explain(model, context) if line.reason}
    assert reasons["max_batch_size"] == "as many as the knee says"
    assert "backend" not in reasons


def test_a_broken_configuration_is_explained_as_far_as_it_goes(tmp_path: Path) -> None:
    swap("dims: [ 4 ]", "dims: [ 4")(tmp_path)
    assert "cannot be understood; `trident lint` says where and why" in said(tmp_path / "m")


def test_the_table_of_releases_is_in_order_and_only_grows() -> None:
    assert [release.name for release in RELEASES] == sorted(release.name for release in RELEASES)
    limits = [(*onnx_limits(release), openvino_limit(release)) for release in RELEASES]
    assert limits == [tuple(map(max, zip(*limits[: at + 1], strict=True))) for at in range(len(limits))]
    assert onnx_limits(find_release("24.10")) == (10, 21)
    assert onnx_limits(find_release("26.06")) == (13, 25)


@pytest.mark.parametrize(
    ("ir_version", "opset", "release", "loads", "lower"),
    [
        (8, 17, "24.01", "yes", None),
        (10, 20, "24.01", "no", (9, 19)),
        (10, 17, "24.01", "no", (9, 0)),
        (11, 23, "25.06", "no", (10, 22)),
        (11, 23, "26.06", "yes", None),
    ],
)
def test_an_onnx_file_is_judged_by_its_versions(
    tmp_path: Path, ir_version: int, opset: int, release: str, loads: str, lower: tuple[int, int] | None
) -> None:
    folder = good_onnx(tmp_path)
    (folder / "1" / "model.onnx").write_bytes(onnx_bytes(ir_version=ir_version, opset=opset))
    judged = judge(checked(folder, find_release(release), 2)[0], find_release(release))
    assert judged is not None
    assert (judged.loads, judged.lower) == (loads, lower)


def test_other_files_are_judged(tmp_path: Path) -> None:
    def answer(folder: Path, release: str) -> str:
        judged = judge(checked(folder, find_release(release), 2)[0], find_release(release))
        assert judged is not None
        return judged.loads

    xml = good_openvino(tmp_path / "a") / "1" / "model.xml"
    assert answer(xml.parent.parent, "24.01") == "yes"
    edit(xml, 'version="opset1"', 'version="opset14"')
    assert (answer(xml.parent.parent, "24.01"), answer(xml.parent.parent, "24.06")) == ("no", "yes")
    assert answer(good_torch(tmp_path / "b"), "24.01") == "yes"
    plan = GOOD["tensorrt"](tmp_path / "c")
    assert isinstance(plan, Path) and answer(plan, "26.06") == "unknown"
    (plan / "1" / "model.plan").write_bytes(b"no plan")
    assert answer(plan, "26.06") == "no"


def test_the_commands(tmp_path: Path) -> None:
    folder = good_onnx(tmp_path / "models")
    told = trident("explain", "m", "--repository", str(tmp_path / "models"), "--json", "--cores", "3")
    assert told.returncode == 0 and json.loads(told.stdout)["cores"] == 3
    assert "max_batch_size" in trident("explain", str(folder)).stdout
    nobody = trident("explain", "nobody", "--repository", str(tmp_path))
    assert (nobody.returncode, nobody.stderr.count("\n")) == (5, 1)
    (folder / "1" / "model.onnx").write_bytes(onnx_bytes(ir_version=12, opset=24))
    found = trident("check", str(tmp_path / "models"), "--triton", "25.06", "--json")
    assert (found.returncode, json.loads(found.stdout)["rows"][0]["loads"]) == (9, "no")
    assert trident("check", str(tmp_path / "models"), "--triton", "26.06").returncode == 0


def test_the_newest_known_limits_hold_for_later_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "_installed", lambda _package: "9999.1.0")
    assert onnx_limits(find_release("wheel")) == releases.ONNXRUNTIME_READS[-1][1:]
