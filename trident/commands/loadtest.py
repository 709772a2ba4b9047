"""`trident loadtest`: every published variant under load, then the comparison as table and summary.json."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from core.errors import InputError, LoadTestError
from core.files import write_atomically
from core.machine import now
from core.results import LoadReport, ModelBuild
from loadtest import run_plan
from loadtest.events import LoadEvent
from loadtest.plan import LoadPlan, Target
from trident.console import progress, result_console
from trident.summary import remarks, summarize, summary_table


def run(options: argparse.Namespace) -> int:
    """Load-tests; 8 if requests failed."""
    model = find_build(options.artifacts, options.model)
    targets = _targets(options.artifacts, model)
    if not targets:
        raise InputError(f"no variant of {model.model} is published; see the reasons in `trident build`")
    out = options.out or options.artifacts / model.model / "loadtest"
    with _server(options, targets) as url:
        plan = _plan(options, model, targets, url)
        load = _run_with_progress(plan, out)
    summary = summarize(model, load, now())
    write_atomically(out / "summary.json", summary.to_json())
    if options.json:
        sys.stdout.buffer.write(summary.to_json())
    else:
        console = result_console()
        console.print(summary_table(summary))
        for remark in remarks(summary):
            console.print(f"! {remark}", soft_wrap=True, markup=False)
        console.print(f"Written: {out / 'summary.json'}, {out / 'load.json'}, {out / 'requests.csv'}")
    failures = sum(row.failures or 0 for row in summary.rows)
    if failures:
        raise LoadTestError(f"{failures} requests failed; see {out / 'requests.csv'} (column ok)")
    return 0


def find_build(artifacts: Path, name: str | None) -> ModelBuild:
    """What the last build of a model reported; of the only model if no name is given."""
    paths = {path.parent.name: path for path in sorted(artifacts.glob("*/build.json"))}
    if not paths:
        raise InputError(f"{artifacts} holds no built model; build first with `make build-repo`")
    if name is None and len(paths) > 1:
        raise InputError(f"name one of the models that were built: {', '.join(paths)}")
    path = paths.get(name or next(iter(paths)))
    if path is None:
        raise InputError(f"{name!r} was not built; there are {', '.join(paths)}")
    try:
        return ModelBuild.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} cannot be read; build again with `make build-repo`") from error


def _targets(artifacts: Path, model: ModelBuild) -> tuple[Target, ...]:
    """The published variants, each with the file of its in-process answers."""
    folder = (artifacts / model.model / "outputs").absolute()
    return tuple(
        Target(variant=row.variant, triton_name=row.triton_name, outputs=folder / f"{row.variant}.npz")
        for row in model.rows
        if row.status == "published"
    )


def _plan(options: argparse.Namespace, model: ModelBuild, targets: tuple[Target, ...], url: str) -> LoadPlan:
    try:
        return LoadPlan(
            model=model.model,
            url=url,
            pack=(options.artifacts / model.model).absolute(),
            targets=targets,
            users=tuple(sorted(set(options.users))),
            passes=options.passes,
            window_s=options.seconds,
            seed=options.seed,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise LoadTestError(f"{'.'.join(map(str, first['loc']))}: {first['msg']} (it is {first['input']})") from error


@contextmanager
def _server(options: argparse.Namespace, targets: tuple[Target, ...]) -> Iterator[str]:
    """The running server that was named, or one of our own on free ports for as long as the test takes."""
    if options.url:
        yield options.url
        return
    from server.options import ServeOptions  # only here: testing a remote server needs none installed
    from server.supervisor import Server

    names = tuple(target.triton_name for target in targets)
    wanted = ServeOptions(repository=options.repository, models=names, golden_interval_s=0)
    with Server(wanted, lambda sentence: progress.print(sentence, soft_wrap=True, markup=False)) as server:
        yield server.http_url


def _run_with_progress(plan: LoadPlan, out: Path) -> LoadReport:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=progress) as bar:
        task = bar.add_task("load test", total=None)

        def on_event(event: LoadEvent) -> None:
            bar.update(task, total=event.total, completed=event.done, description="load test")
            bar.console.print(event.message, soft_wrap=True, markup=False)

        return run_plan(plan, out, on_event)
