"""Named scenarios, files of one's own, and what the command line changes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.errors import InputError, UsageError
from core.scenario import ClosedLoop, OpenLoop, Scenario, describe_load
from loadtest.scenarios import SCENARIOS, Changes, change, find_scenario

MINE = """\
passes: 3
load:
  kind: open
  rate_rps: 50
  mixed: true
  weights: {onnx_fp32: 3, openvino_int8: 1}
"""


def test_every_scenario_of_the_table_can_be_found_and_survives_a_file() -> None:
    for name, scenario in SCENARIOS.items():
        assert find_scenario(name) is scenario
        assert Scenario.model_validate_json(scenario.to_json()) == scenario


def test_every_scenario_is_described() -> None:
    table = (
        (Path(__file__).parents[3] / "docs/load-testing.md")
        .read_text()
        .split("## Scenarios")[1]
        .split("\n`--users`")[0]
    )
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert re.findall(r"`(\w+)`", " ".join(rows)) == list(SCENARIOS)


def test_a_file_has_its_name_and_the_usual_rest(tmp_path: Path) -> None:
    path = tmp_path / "evening.yaml"
    path.write_text(MINE)
    found = find_scenario(str(path))
    assert (found.name, found.passes, found.warmup_s) == ("evening", 3, 0.25)
    assert isinstance(found.load, OpenLoop)
    assert (found.load.rate_rps, found.load.weights["onnx_fp32"], found.load.arrivals) == (50, 3, "poisson")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("load: [", "is no YAML"),
        ("3", "is wrong at its beginning"),
        ("load: {kind: open}", r"is wrong at load\.rate_rps: Field required"),
        ("load: {kind: fast}", "is wrong at load"),
        ("load: {kind: closed, users: []}", r"is wrong at load\.users"),
        ("load: {kind: open, rate_rps: 5, weights: {a: 1}}", "weights are for mixed traffic"),
        ("load: {kind: open, rate_rps: 5, phases: [[0, 0]]}", "nothing would be sent"),
        ("load: {kind: closed, users: [1], rate: 3}", r"is wrong at load\.rate: Extra"),
    ],
)
def test_a_file_that_is_wrong_is_told_of(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        find_scenario(str(path))


def test_an_unknown_name_is_told_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no scenario 'spike'; take levels, single"):
        find_scenario("spike")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        find_scenario(str(tmp_path / "no.yaml"))


def test_changes_reach_the_load_and_the_rest_stays() -> None:
    changed = change(SCENARIOS["levels"], Changes(users=(2,), seconds=1.5, passes=7))
    assert changed == Scenario(name="levels", load=ClosedLoop(users=(2,), seconds=1.5), passes=7)
    assert change(SCENARIOS["levels"], Changes()) == SCENARIOS["levels"]
    ramp = change(SCENARIOS["ramp"], Changes(rate_rps=900)).load
    assert isinstance(ramp, OpenLoop)
    assert (ramp.rate_rps, ramp.phases) == (900, ((0, 0.25), (0.25, 0.5), (0.5, 1)))


def test_a_change_without_effect_is_refused() -> None:
    with pytest.raises(UsageError, match="--rate says nothing to scenario 'levels': it is a closed loop"):
        change(SCENARIOS["levels"], Changes(rate_rps=9))
    with pytest.raises(UsageError, match="--users says nothing to scenario 'capacity': it is a capacity search"):
        change(SCENARIOS["capacity"], Changes(users=(9,)))
    with pytest.raises(UsageError, match=r"cannot be changed so: load\.rate_rps: Input should be greater than 0"):
        change(SCENARIOS["poisson"], Changes(rate_rps=-1))


def test_a_load_in_words() -> None:
    assert [describe_load(1, None), describe_load(4, None), describe_load(64, 1234.5)] == [
        "1 user",
        "4 users",
        "1234 requests/s",
    ]
