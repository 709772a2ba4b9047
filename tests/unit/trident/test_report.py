"""The report's arithmetic, and its HTML from awkward data."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from core.comparison import Summary
from core.load_results import LoadReport
from core.results import LayerNoise, ModelBuild
from tests.support.report_data import report_data
from trident import main
from trident.charts import Scale, pareto, spread, ticks
from trident.report import render
from trident.report_words import why


def test_a_range_of_zero_maps_to_the_middle() -> None:
    assert Scale(3, 3, 0, 100)(3) == 50
    assert Scale(0, 10, 0, 100)(2.5) == 25


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.923, 0.947), (0, 4321), (-2, 3)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 6
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    assert ticks(5, 5) == [5]


def test_pareto_keeps_what_nothing_beats() -> None:
    assert pareto([(1, 1), (2, 2), (3, 1.5), (1, 1)]) == [0, 1, 3]


def test_spread_labels_do_not_overlap_and_stay_inside() -> None:
    found = sorted(spread([5, 5, 5, 99], 10, 0, 100))
    assert all(b - a >= 10 - 1e-9 for a, b in pairwise(found))
    assert found[0] >= 0
    assert found[-1] <= 100


def test_the_answer_names_the_best_published_variant() -> None:
    html = render(*report_data())
    assert "Serve openvino_int8: 3,420 samples/s" in html
    assert "trident build examples/fashion/model.yaml\ntrident loadtest fashion" in html
    assert "<script" not in html
    assert "http://" not in html
    assert "https://" not in html


def test_each_cause_of_error_is_said_once_and_only_where_it_is_one() -> None:
    pruned, int8 = why("pruned_onnx_fp32"), why("openvino_int8")
    assert "without fine-tuning" in pruned
    assert "order of additions" not in pruned
    assert why("pruned_openvino_int8") == f"{pruned} {int8}"
    assert why("onnx_int8_static") != int8
    assert "neighbours" in why("onnx_int8_dynamic")
    assert "calibration" not in why("onnx_int8_dynamic")
    assert "order of additions" in why("onnx_fp32")
    small = why("small_onnx_fp32", ("prune_channels", "finetune", "export_onnx"))
    assert small.startswith("Channels were removed; ")
    assert "trained further" in small
    assert "order of additions" not in small
    thin = why("thin_onnx_fp32", ("low_rank", "cluster_weights", "export_onnx"))
    assert "strongest combinations" in thin
    assert "nearest of a few values" in thin
    assert why("small_openvino_int8", ("prune_channels",)).endswith(int8)
    assert why("onnx_int8_mixed").startswith(why("onnx_int8_static"))
    assert why("openvino_int8_mixed").startswith(int8)
    assert "left in floating point" in why("openvino_int8_mixed")
    assert "until the metric was kept" in why("openvino_int8_controlled")
    assert "Another tool" in why("imported_openvino_int8")


def test_what_was_never_judged_is_not_recommended() -> None:
    build, load, summary = report_data()
    rows = tuple(
        row.model_copy(update={"verdict": None}) if row.variant == "openvino_int8" else row for row in build.rows
    )
    html = render(build.model_copy(update={"rows": rows}), load, summary)
    assert "Serve openvino_int8" not in html
    assert "Serve onnx_int8_static: 2,980 samples/s" in html


def test_the_takeaways_are_computed() -> None:
    build, load, summary = report_data()
    # p50 x 0.4 of compute in a mean of p50 x 1.1, for every variant.
    assert "Compute takes 36% of it. Most of a request is not the model" in render(build, load, summary)
    assert "that is 1.50 to 1.50 times what HTTP serves" in render(build, load, summary)
    rows = tuple(row.model_copy(update={"grpc_throughput_rps": None}) for row in summary.rows)
    assert "times what HTTP serves" not in render(build, load, summary.model_copy(update={"rows": rows}))


def _awkward() -> dict[str, tuple[ModelBuild, LoadReport, Summary]]:
    build, load, summary = report_data()
    kept = ("variant", "status", "reason", "dominated")
    bare = summary.rows[0].model_copy(
        update={name: None for name in type(summary.rows[0]).model_fields if name not in kept}
    )  # fmt: skip
    failed = bare.model_copy(update={"status": "failed", "reason": "<script>alert(1)</script>"})
    same = summary.rows[0].model_copy(update={"accuracy": 0.5, "p50_ms": 1.0})
    long = summary.rows[1].model_copy(update={"variant": "x" * 40})
    http = tuple(window for window in load.windows if window.protocol == "http")
    rows = (failed, *summary.rows[1:])
    return {
        "no gRPC": (build, load.model_copy(update={"windows": http}), summary),
        "nothing loaded": (
            build,
            load.model_copy(update={"windows": ()}),
            summary.model_copy(update={"rows": (bare,)}),
        ),
        "failed": (build, load, summary.model_copy(update={"rows": rows})),
        "single": (build, load, summary.model_copy(update={"rows": summary.rows[:1]})),
        "identical": (build, load, summary.model_copy(update={"rows": (same, same)})),
        "long": (build, load, summary.model_copy(update={"rows": (long,)})),
    }


def _diagnosed() -> ModelBuild:
    """A build with a variant in mixed precision: 20 layers, two of them kept in float, one with an odd name."""
    build, _, _ = report_data()
    layers = tuple(
        LayerNoise(layer="<conv>" if i == 0 else f"conv_{i}", operator="Conv", sqnr_db=i * 3 - 5, kept_float=i < 2)
        for i in range(20)
    )
    mixed = build.rows[6].model_copy(update={"variant": "openvino_int8_mixed", "layers": layers})
    return build.model_copy(update={"rows": (*build.rows, mixed)})


def test_what_int8_costs_is_shown_layer_by_layer() -> None:
    _, load, summary = report_data()
    html = render(_diagnosed(), load, summary)
    figure = html.partition("<h3>What INT8 costs, layer by layer: openvino_int8_mixed</h3>")[2].partition("</figure>")[
        0
    ]
    assert "Of 20 layers that INT8 applies to, 2 stay in float. It hurts most in &lt;conv&gt; (Conv): -5.0 dB" in figure
    assert "Shown are the worst 15" in figure
    assert figure.count('class="bar s0"') == 2  # kept in float: a colour of their own
    assert figure.count('class="bar s1"') == 13
    assert "kept in float" in figure
    assert html.count("It hurts most in") >= 2  # in the picture and on the card
    assert "What INT8 costs" not in render(*report_data())


def test_the_doctor_shows_the_ranking_as_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fashion" / "build.json"
    path.parent.mkdir()
    path.write_bytes(_diagnosed().to_json())
    arguments = ["doctor", "fashion", "--artifacts", str(tmp_path)]
    with pytest.raises(SystemExit) as table:
        main.main(arguments)
    assert table.value.code == 0
    assert "2 stay in float" in (shown := capsys.readouterr().out)
    assert "<conv>" in shown
    with pytest.raises(SystemExit):
        main.main([*arguments, "--json"])
    layers = json.loads(capsys.readouterr().out)["openvino_int8_mixed"]
    assert layers[0] == {"layer": "<conv>", "operator": "Conv", "sqnr_db": -5.0, "kept_float": True}
    path.write_bytes(report_data()[0].to_json())
    with pytest.raises(SystemExit) as none:
        main.main(arguments)
    assert none.value.code == 3
    assert "no variant of fashion has a ranking of its layers; put onnx_int8_mixed" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(_awkward()))
def test_awkward_data_gives_a_whole_page(name: str) -> None:
    html = render(*_awkward()[name])
    assert html.rstrip().endswith("</html>")
    assert "<script>" not in html
    assert "nan" not in html.split("</style>")[1].replace("tenant", "")
    if name == "failed":
        assert "&lt;script&gt;alert(1)" in html
    if name == "single":
        assert "the baseline itself" in html


def test_the_command_writes_the_file_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build, load, summary = report_data()
    folder = tmp_path / "fashion" / "loadtest"
    folder.mkdir(parents=True)
    (folder.parent / "build.json").write_bytes(build.to_json())
    (folder / "summary.json").write_bytes(summary.to_json())
    arguments = ["report", "--artifacts", str(tmp_path), "--json"]
    with pytest.raises(SystemExit) as missing:
        main.main(arguments)
    assert missing.value.code == 3
    assert "load.json does not exist" in capsys.readouterr().err
    (folder / "load.json").write_bytes(load.to_json())
    with pytest.raises(SystemExit) as done:
        main.main(arguments)
    assert done.value.code == 0
    assert Path(json.loads(capsys.readouterr().out)["report"]).read_text().startswith("<!doctype html>")
    (folder.parent / "build.json").write_bytes(build.model_copy(update={"source_sha256": "b" * 64}).to_json())
    with pytest.raises(SystemExit) as mixed:
        main.main(arguments)
    assert mixed.value.code == 3
    assert "was built after the load test" in capsys.readouterr().err
    (folder.parent / "build.json").write_bytes(build.to_json())
    with pytest.raises(SystemExit) as unwritable:
        main.main([*arguments, "--out", "/proc/no/report.html"])
    assert unwritable.value.code == 5
    assert "/proc/no/report.html cannot be written" in capsys.readouterr().err
