"""The same load test over several protocols, one after the other, as one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from core.files import write_atomically
from core.load_results import LoadReport
from loadtest.errors import recording
from loadtest.events import LoadEvent
from loadtest.launch import run_plan
from loadtest.plan import LoadPlan
from loadtest.verdicts import contrasts


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
    `out` the merged `load.json`, which is returned, and `requests.parquet`. Raises GeneratorError if a process fails.
    """
    for name in ("load.json", "requests.parquet"):
        (out / name).unlink(missing_ok=True)  # an earlier run's, which must not be taken for this one's if it fails
    total, done, reports = sum(plan.parts for plan in plans), 0, []
    for plan in plans:

        def tell(event: LoadEvent, before: int = done) -> None:
            on_event(event.model_copy(update={"done": before + event.done, "total": total}))

        reports.append(run_plan(plan, out / plan.protocol, tell))
        done += plan.parts
    resident_bytes = read_memory()
    names = {target.triton_name: target.variant for plan in plans for target in plan.targets}
    held = {names[name]: size for name, size in resident_bytes.items() if name in names}
    report = merge(reports, held, plans[0].baseline)
    from loadtest.raw import join_files  # only here: it takes pyarrow a while to load

    join_files([out / plan.protocol / "requests.parquet" for plan in plans], out / "requests.parquet")
    with recording(out / "load.json"):
        write_atomically(out / "load.json", report.to_json())
    return report


def merge(reports: Sequence[LoadReport], resident_bytes: dict[str, int], baseline: str | None) -> LoadReport:
    """One report of several protocols: the rows of all, in their order, and the verdicts against the baseline; as `url`
    all addresses, separated by a comma and a space; the rest is the first's."""
    windows = tuple(window for report in reports for window in report.windows)
    return reports[0].model_copy(
        update={
            "url": ", ".join(report.url for report in reports),
            "windows": windows,
            "accuracy": tuple(row for report in reports for row in report.accuracy),
            "capacity": tuple(row for report in reports for row in report.capacity),
            "ceilings": tuple(row for report in reports for row in report.ceilings),
            "contrasts": contrasts(windows, baseline) if baseline else (),
            "resident_bytes": resident_bytes,
        }
    )
