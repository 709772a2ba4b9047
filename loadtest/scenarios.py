"""The named scenarios, a scenario from a YAML file, and what the command line changes in one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from core.errors import InputError, UsageError
from core.scenario import CapacitySearch, ClosedLoop, OpenLoop, Scenario

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="levels", load=ClosedLoop(users=(1, 4, 16))),
        Scenario(name="single", load=ClosedLoop(users=(1,))),
        Scenario(name="closed", load=ClosedLoop(users=(8,))),
        Scenario(name="ab", load=ClosedLoop(users=(4,), seconds=1.0), passes=20),
        Scenario(name="constant", load=OpenLoop(rate_rps=100, arrivals="constant")),
        Scenario(name="poisson", load=OpenLoop(rate_rps=100)),
        Scenario(
            name="step",
            load=OpenLoop(rate_rps=200, seconds=20, phases=((0.25, 0.25), (0.5, 0.5), (0.75, 0.75), (1, 1))),
        ),
        Scenario(name="ramp", load=OpenLoop(rate_rps=200, seconds=20, phases=((0, 0.25), (0.25, 0.5), (0.5, 1)))),
        Scenario(name="capacity", load=CapacitySearch(p99_ms=20), passes=1),
        Scenario(name="soak", load=OpenLoop(rate_rps=100, seconds=600, phases=((1, 1),) * 10), passes=1),
        Scenario(name="mixed", load=OpenLoop(rate_rps=100, mixed=True)),
    )
}
"""By name. What each is for stands in docs/load-testing.md."""


@dataclass(frozen=True)
class Changes:
    """What is to be other than in the scenario; None leaves it. Names are those of the scenario's fields."""

    users: tuple[int, ...] | None = None
    rate_rps: float | None = None
    seconds: float | None = None
    connections: int | None = None
    p99_ms: float | None = None
    passes: int | None = None


OPTIONS: Final = {
    "users": "--users", "rate_rps": "--rate", "seconds": "--seconds", "connections": "--connections",
    "p99_ms": "--p99", "passes": "--passes",
}  # fmt: skip
KINDS: Final = {"closed": "a closed loop", "open": "an open loop", "capacity": "a capacity search"}


def find_scenario(name: str) -> Scenario:
    """A named scenario, or that of a YAML file. Raises UsageError for an unknown name, InputError for a bad file."""
    if name in SCENARIOS:
        return SCENARIOS[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"there is no scenario {name!r}; take {', '.join(SCENARIOS)}, or name a .yaml file")
    try:
        read = yaml.safe_load(path.read_text())
        return Scenario.model_validate({"name": path.stem, **read} if isinstance(read, dict) else read)
    except OSError as error:
        raise InputError(f"the scenario {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"the scenario {path} is no YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        raise InputError(f"the scenario {path} is wrong at {first_mistake(error)}") from error


def change(scenario: Scenario, changes: Changes) -> Scenario:
    """The scenario with the changes. Raises UsageError for one that it has no use for, or an impossible value."""
    load = scenario.load.model_dump()
    whole = scenario.model_dump()
    for field in fields(changes):
        value = getattr(changes, field.name)
        if value is None:
            continue
        if field.name == "passes":
            whole["passes"] = value
        elif field.name in load:
            load[field.name] = value
        else:
            raise UsageError(
                f"{OPTIONS[field.name]} says nothing to scenario {scenario.name!r}: it is {KINDS[scenario.load.kind]}"
            )
    try:
        return Scenario.model_validate({**whole, "load": load})
    except ValidationError as error:
        raise UsageError(f"scenario {scenario.name!r} cannot be changed so: {first_mistake(error)}") from error


def first_mistake(error: ValidationError) -> str:
    """Where the first mistake is, and what."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in KINDS)
    return f"{where or 'its beginning'}: {first['msg'].removeprefix('Value error, ')}"
