"""Plans: what is refused, and the order of the windows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.scenario import ClosedLoop, Scenario
from loadtest.errors import PlanError
from loadtest.plan import LoadPlan, Step, Target, read_plan, steps

LEVELS = Scenario(name="levels", load=ClosedLoop(users=(1, 4, 16)))
TARGETS = tuple(Target(variant=name, triton_name=f"digits_{name}") for name in ("a", "b", "c", "d"))


def plan(**changes: object) -> LoadPlan:
    given = {
        "model": "digits", "url": "127.0.0.1:8000", "pack": Path("artifacts/digits"), "targets": TARGETS,
        "scenario": LEVELS,
    }  # fmt: skip
    return LoadPlan.model_validate(given | changes)


def levels(*users: int, passes: int = 2) -> Scenario:
    """A closed loop."""
    return Scenario(name="levels", load=ClosedLoop(users=users), passes=passes)


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    written = plan(scenario=levels(2, 3), targets=(Target(variant="a", triton_name="x", outputs=Path("a.npz")),))
    (tmp_path / "plan.json").write_bytes(written.to_json())
    assert read_plan(tmp_path / "plan.json") == written


def test_every_variant_has_one_window_a_pass_and_level() -> None:
    counted = Counter(
        (step.pass_number, step.users, step.targets[0].variant)
        for step in steps(plan(scenario=levels(1, 4, 16, passes=3)))
    )
    assert counted == Counter((number, users, name) for number in (1, 2, 3) for users in (1, 4, 16) for name in "abcd")


def test_levels_follow_each_other_within_a_pass() -> None:
    order = list(dict.fromkeys((step.pass_number, step.users) for step in steps(plan())))
    assert order == [(number, users) for number in (1, 2) for users in (1, 4, 16)]


def test_the_variants_change_places_and_the_seed_decides_how() -> None:
    def order(seed: int) -> list[Step]:
        return list(steps(plan(scenario=levels(1, 4, 16, passes=5), seed=seed)))

    first_places = {step.targets[0].variant for step in order(0)[::4]}
    assert first_places == set("abcd")
    assert order(0) == order(0)
    assert order(0) != order(1)


def test_a_plan_knows_how_many_parts_it_has() -> None:
    assert plan(scenario=levels(1, 4, 16, passes=3)).parts == len(TARGETS) + 3 * 3 * len(TARGETS)


def test_a_variant_named_twice_is_refused() -> None:
    with pytest.raises(PlanError, match="a variant is named twice"):
        plan(targets=(TARGETS[0], TARGETS[0]))


@pytest.mark.parametrize(
    "change",
    [
        {"targets": ()},
        {"scenario": None},
        {"accuracy_s": 0},
        {"usrs": (1,)},
    ],
)
def test_impossible_plans_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        plan(**change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"the plan .*plan\.json cannot be read: No such file"),
        ("{", r"the plan .*plan\.json is wrong at its beginning: Invalid JSON"),
        ('{"model": 1}', r"the plan .*plan\.json is wrong at model: Input should be a valid string"),
        (
            plan().model_dump_json().replace('"http"', '"ftp"'),
            r"the plan .*plan\.json is wrong at protocol: Input should",
        ),
    ],
)
def test_a_plan_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "plan.json").write_text(text)
    with pytest.raises(PlanError, match=message):
        read_plan(tmp_path / "plan.json")
