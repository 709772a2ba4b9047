"""What load tests came to over time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.comparison import Summary
from core.errors import InputError
from loadtest.scenarios import SCENARIOS
from tests.support.report_data import report_data
from trident import main
from trident.history import keep, read_history, stretches
from trident.history_page import render


def at(minute: int, **changes: object) -> Summary:
    """The comparison of a load test at that minute."""
    _, _, summary = report_data()
    return summary.model_copy(update={"created_at": f"2026-11-25T10:{minute:02}:00+00:00", **changes})


def test_comparisons_are_kept_and_read_in_their_order(tmp_path: Path) -> None:
    for minute in (7, 3, 5):
        path = keep(at(minute), tmp_path)
    assert path.name == "2026-11-25T10-05-00Z.json"
    assert [summary.created_at[14:16] for summary in read_history(tmp_path, "fashion")] == ["03", "05", "07"]


def test_no_history_and_a_broken_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no load test of fashion; run `trident loadtest fashion` first"):
        read_history(tmp_path, "fashion")
    keep(at(1), tmp_path).write_text("{}")
    with pytest.raises(InputError, match="another version wrote it"):
        read_history(tmp_path, "fashion")


def test_only_runs_that_compare_are_joined() -> None:
    other = at(3, scenario=SCENARIOS["ab"])
    history = [at(1), at(2), other, at(4), at(5, server_version="2.60.0")]
    assert stretches(history) == [[0, 1], [2], [3], [4]]
    python = history[0].machine.model_copy(update={"python": "3.13"})
    assert stretches([at(1), at(2, machine=python)]) == [[0, 1]]


def test_a_chart_has_a_point_for_every_run_and_variant_and_a_line_for_every_stretch() -> None:
    history = [at(1), at(2), at(3, server_version="2.60.0")]
    page = render(history)
    assert page.count("<figure>") == 3
    assert page.count("run 2: ") == 3 * 3 * 8  # in a mark: label, title, tooltip; eight variants were loaded
    assert page.count("<polyline") == 2 * 3 * 8
    assert "<script" not in page
    assert "http" not in page.split("</style>")[1]


def test_one_run_is_a_page_too() -> None:
    assert render([at(1)]).count("run 1: ") == 3 * 3 * 8


def test_the_command_shows_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build, _, _ = report_data()
    (tmp_path / "fashion").mkdir()
    (tmp_path / "fashion/build.json").write_bytes(build.to_json())
    keep(at(1), tmp_path)
    keep(at(2), tmp_path)
    for arguments in ([], ["--json"]):
        with pytest.raises(SystemExit) as end:
            main.main(["history", "--artifacts", str(tmp_path), *arguments])
        assert end.value.code == 0
    out = capsys.readouterr().out
    assert "fashion: 2 load tests" in out
    assert [run["model"] for run in json.loads(out[out.index("[\n") :])] == ["fashion"] * 2
    assert (tmp_path / "fashion/history/history.html").is_file()
    with pytest.raises(SystemExit) as end:
        main.main(["history", "--artifacts", str(tmp_path), "--out", "/proc/no/page.html"])
    assert end.value.code == 5
