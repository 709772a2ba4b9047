"""Two load tests beside each other: figures whose truth is known, limits, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.changes import Change
from core.errors import LoadTestError, UsageError
from core.load_results import Capacity, LoadReport
from core.samples import SamplePack
from core.scenario import ClosedLoop, Protocol
from loadtest.judge import record
from loadtest.raw import RawRequests
from loadtest.scenarios import SCENARIOS
from tests.support.report_data import report_data
from tests.unit.loadtest.test_judge import PACK, sent
from tests.unit.loadtest.test_verdicts import noisy, windows
from trident import main
from trident.compare import IncomparableError, Served, compare, parse_limit
from trident.compare_words import markdown

SCORES: dict[tuple[str, Protocol], dict[int, float]] = {("x", "http"): {n: float(n % 10 > 0) for n in range(2000)}}


def report(rates: list[float], **changes: object) -> LoadReport:
    """A load test of `x` with these throughputs, and an accuracy of 0.9."""
    _, load, _ = report_data()
    accuracy = load.accuracy[0].model_copy(update={"variant": "x", "protocol": "http"})
    return load.model_copy(update={"windows": tuple(windows("x", rates)), "accuracy": (accuracy,), **changes})


BEFORE = report(noisy(500, 1))


def changed(after: LoadReport, scores: tuple[Served, Served] = (SCORES, SCORES)) -> dict[str, Change]:
    """The changes by figure."""
    return {row.figure: row for row in compare(BEFORE, after, scores, ()).changes}


def outcomes(after: LoadReport, *limits: str, scores: tuple[Served, Served] = (SCORES, SCORES)) -> list[str]:
    """What became of the limits."""
    found = compare(BEFORE, after, scores, [parse_limit(text) for text in limits])
    return [check.outcome for check in found.checks]


def test_a_change_of_speed_is_found_and_has_its_sign() -> None:
    slower = changed(report([rate * 0.7 for rate in noisy(500, 2)]))
    assert slower["throughput"].change == pytest.approx(-0.3, abs=0.02)
    assert slower["p99"].change == pytest.approx(1 / 0.7 - 1, abs=0.03)
    assert {row.judgement for name, row in slower.items() if name != "accuracy"} == {"worse"}
    same = changed(report(noisy(500, 2)))
    assert {row.judgement for row in same.values()} == {"no significant difference"}
    assert same["throughput"].ci95 is not None
    assert same["throughput"].ci95[0] < 0 < same["throughput"].ci95[1]


def test_beyond_the_generators_ceiling_nothing_is_judged() -> None:
    near = report([rate * 0.7 for rate in noisy(500, 2)])
    near = near.model_copy(
        update={"windows": tuple(w.model_copy(update={"generator_share": 0.75}) for w in near.windows)}
    )
    row = changed(near)["p99"]
    assert (row.judgement, row.ci95) == ("none", None)
    assert row.reason == "the load generator was at 75% of what it can send, above 70%"
    assert outcomes(near, "p99=+5%") == ["undecided"]


def test_accuracy_is_compared_sample_by_sample() -> None:
    worse = {("x", "http"): {n: score * (n % 100 != 5) for n, score in SCORES["x", "http"].items()}}
    row = changed(BEFORE, (SCORES, worse))["accuracy"]
    assert row.change == pytest.approx(-0.01)  # 20 of 2000 were lost, and none won
    assert row.ci95 is not None
    assert row.ci95[0] > -0.016  # unpaired, the interval of 2000 samples would reach beyond 0
    assert row.judgement == "worse"
    other = changed(BEFORE, ({}, {}))["accuracy"]  # a metric of all samples together
    assert other.ci95 is not None
    assert (other.change, other.judgement) == (0, "no significant difference")


@pytest.mark.parametrize(
    ("factor", "limit", "outcome"),
    [
        (0.7, "p99=+5%", "broken"),
        (0.7, "p99=+50%", "kept"),
        (0.7, "throughput=-5%", "broken"),
        (1.3, "throughput=-5%", "kept"),
        (1.0, "throughput=-5%", "kept"),
        (0.97, "throughput=-1%", "undecided"),  # beyond the limit, and within the noise
    ],
)
def test_a_limit_is_broken_only_by_what_is_surely_a_change(factor: float, limit: str, outcome: str) -> None:
    assert outcomes(report([rate * factor for rate in noisy(500, 2)]), limit) == [outcome]


def test_what_cannot_be_judged_keeps_no_limit() -> None:
    failed = tuple(w.model_copy(update={"failures": 1}) for w in BEFORE.windows)
    assert outcomes(BEFORE.model_copy(update={"windows": failed}), "p99=+50%") == ["undecided"]
    assert outcomes(report([500] * 5), "p50=+50%") == ["undecided"]
    assert changed(report([500] * 5))["p50"].reason == "5 passes are too few, 6 are needed"
    with pytest.raises(UsageError, match="capacity=-5%: nothing of the kind was measured under scenario 'levels'"):
        outcomes(BEFORE, "capacity=-5%")


def test_capacities_compare_by_their_passes() -> None:
    def searched(*rates: float) -> LoadReport:
        rows = (
            Capacity(variant="x", protocol="http", target_p99_ms=20, rate_rps=rate, exceeded_rps=None) for rate in rates
        )
        return BEFORE.model_copy(update={"scenario": SCENARIOS["capacity"], "capacity": tuple(rows)})

    found = compare(
        searched(*range(100, 106)), searched(*range(80, 86)), (SCORES, SCORES), [parse_limit("capacity=-5%")]
    )
    assert [check.outcome for check in found.checks] == ["broken"]
    assert {change.figure for change in found.changes} == {"capacity", "accuracy"}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("model", {"model": "other"}),
        ("scenario", {"scenario": SCENARIOS["ab"]}),
        ("scenario", {"scenario": SCENARIOS["levels"].model_copy(update={"load": ClosedLoop(users=(2,))})}),
        ("seed", {"seed": 9}),
        ("host", {"machine": BEFORE.machine.model_copy(update={"cores": 64})}),
        ("server version", {"server_version": "2.60.0"}),
        ("evaluation samples", {"samples_sha256": "e" * 64}),
    ],
)
def test_runs_that_differ_in_more_than_what_was_served_are_refused(name: str, changes: dict[str, object]) -> None:
    with pytest.raises(IncomparableError, match=rf"cannot be compared, as they differ in {name} \(") as refused:
        changed(BEFORE.model_copy(update=changes))
    assert ";" not in str(refused.value)  # and in nothing else


def test_a_newer_python_does_not_make_another_host() -> None:
    machine = BEFORE.machine.model_copy(update={"python": "3.13"})
    assert changed(BEFORE.model_copy(update={"machine": machine}))


@pytest.mark.parametrize("text", ["p99", "p99=5%", "p99=+5", "p42=+5%", "p99=+5pt", "accuracy=-1%", "p99=-5%"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_limit(text)


def test_markdown_has_a_row_for_each_change() -> None:
    found = compare(BEFORE, report([rate * 0.7 for rate in noisy(500, 2)]), (SCORES, SCORES), [parse_limit("p99=+5%")])
    words = markdown(found)
    assert "- `p99=+5%` x over HTTP, 4 users: +4" in words
    assert "**broken**" in words
    assert words.count("\n| `x` |") == 4
    assert "| accuracy | 93.50% | 93.50% | +0.00 pt |" in words


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[LoadReport], Path]:
    """Writes a load test's folder, whose raw rows are right on two of four samples, and gives its path."""

    def write(load: LoadReport) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "load.json").write_bytes(load.to_json())
        with RawRequests(folder / "requests.parquet") as raw:
            pack: SamplePack = PACK
            raw.write("x", "http", 8, None, 0, record([sent(n, n, 1.0, 0) for n in range(4)], pack))
        return folder

    return write


def ended(*arguments: object) -> object:
    """The exit code of `trident compare`."""
    with pytest.raises(SystemExit) as end:
        main.main(["compare", *map(str, arguments)])
    return end.value.code


def test_the_command_ends_with_a_code_that_a_pipeline_can_tell_apart(
    folders: Callable[[LoadReport], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = folders(BEFORE)
    slow = folders(report([rate * 0.7 for rate in noisy(500, 2)]))
    assert ended(before, before, "--fail-on", "p99=+5%", "accuracy=-0.2pt") == 0
    assert "### fashion: " in capsys.readouterr().out
    assert ended(before, slow) == 0  # nothing was said to fail on
    assert ended(before, slow, "--fail-on", "p99=+5%", "--fail-on", "throughput=-90%") == 9
    assert "worse than allowed: `p99=+5%` x over HTTP, 4 users: +4" in capsys.readouterr().err
    assert ended(before, folders(BEFORE.model_copy(update={"seed": 9}))) == 8
    assert "they differ in seed (1 and 9)" in capsys.readouterr().err
    assert ended(before, before / "no") == 3
    assert ended(before, before, "--fail-on", "p99") == 2
    (before / "requests.parquet").write_bytes(b"no")
    assert ended(before, slow) == 3
    assert "cannot be read" in capsys.readouterr().err


def test_json_is_the_whole_comparison(
    folders: Callable[[LoadReport], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders(BEFORE)
    assert ended(folder, folder, "--json") == 0
    assert '"judgement": "no significant difference"' in capsys.readouterr().out
    assert np.isfinite(BEFORE.windows[0].throughput_rps)


def test_an_undecided_limit_has_its_own_code(
    folders: Callable[[LoadReport], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    near = folders(report([rate * 0.97 for rate in noisy(500, 2)]))
    assert ended(folders(BEFORE), near, "--fail-on", "throughput=-1%") == LoadTestError.exit_code
    assert "cannot be told whether the limits are kept" in capsys.readouterr().err
