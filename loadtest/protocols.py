"""The same load test over several protocols, one after the other, as one report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from core.files import write_atomically
from core.results import LoadReport
from loadtest.events import LoadEvent
from loadtest.launch import run_plan
from loadtest.plan import LoadPlan


def no_memory() -> dict[str, int]:
    """For a server whose processes are out of reach."""
    return {}


def run_plans(
    plans: Sequence[LoadPlan],
    out: Path,
    on_event: Callable[[LoadEvent], None],
    read_memory: Callable[[], dict[str, int]] = no_memory,
) -> LoadReport:
    """Runs the plans, which differ in protocol and address, each in a process and a folder of its own inside `out`, and
    hands each event to `on_event`, counted over all plans.

    `read_memory` is asked after the last window for the bytes that each model holds, by its Triton name. Leaves in
    `out` the merged `load.json`, which is returned, and `requests.csv`. Raises GeneratorError if a process fails.
    """
    total, done, reports = sum(plan.parts for plan in plans), 0, []
    for plan in plans:

        def tell(event: LoadEvent, before: int = done) -> None:
            on_event(event.model_copy(update={"done": before + event.done, "total": total}))

        reports.append(run_plan(plan, out / plan.protocol, tell))
        done += plan.parts
    resident_bytes = read_memory()
    names = {target.triton_name: target.variant for plan in plans for target in plan.targets}
    report = merge(reports, {names[name]: held for name, held in resident_bytes.items() if name in names})
    join_files([out / plan.protocol / "requests.csv" for plan in plans], out / "requests.csv")
    write_atomically(out / "load.json", report.to_json())
    return report


def merge(reports: Sequence[LoadReport], resident_bytes: dict[str, int]) -> LoadReport:
    """One report of several protocols: the rows of all, in their order; as `url` all addresses, separated by a comma
    and a space; the rest is the first's."""
    return reports[0].model_copy(
        update={
            "url": ", ".join(report.url for report in reports),
            "windows": tuple(window for report in reports for window in report.windows),
            "accuracy": tuple(row for report in reports for row in report.accuracy),
            "resident_bytes": resident_bytes,
        }
    )


def join_files(parts: Sequence[Path], whole: Path) -> None:
    """Moves CSV files with the same header into one."""
    with whole.open("wb") as joined:
        for number, part in enumerate(parts):
            with part.open("rb") as file:
                header = file.readline()
                if number == 0:
                    joined.write(header)
                shutil.copyfileobj(file, joined)
            part.unlink()
