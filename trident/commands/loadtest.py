"""`trident loadtest`: every published variant under load, then the comparison as table and summary.json."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from pydantic import ValidationError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from core.errors import InputError, LoadTestError, RepositoryError, UsageError
from core.files import write_atomically
from core.load_results import LoadReport
from core.machine import now
from core.results import ModelBuild
from core.scenario import Protocol, Scenario
from loadtest import run_plans
from loadtest.events import LoadEvent
from loadtest.plan import LoadPlan, Target
from loadtest.protocols import no_memory
from loadtest.scenarios import OPTIONS, Changes, change, find_scenario
from trident import report
from trident.built import find_build
from trident.console import progress, result_console
from trident.history import keep
from trident.loadtest_modes import show_page, work
from trident.remarks import caveats, generator_words, left_out
from trident.summary import summarize, summary_table


def run(options: argparse.Namespace) -> int:
    """Load-tests; 8 if requests failed."""
    if options.worker and options.model:  # of what was built, a worker needs the sample pack only
        return work(options, options.artifacts / options.model)
    model = find_build(options.artifacts, options.model)
    pack = (options.artifacts / model.model).absolute()
    if options.worker:
        return work(options, pack)
    targets = _targets(options.artifacts, model)
    if not targets:
        raise InputError(f"no variant of {model.model} is published; see the reasons in `trident build`")
    _check(options)
    if options.web is not None:
        with _server(options, targets) as place:
            return show_page(options, pack, targets, place.urls)
    out = options.out or options.artifacts / model.model / "loadtest"
    _make(out)
    scenario = change(find_scenario(options.scenario), _changes(options))
    with _server(options, targets) as place:
        plans = [_plan(options, model, scenario, place, protocol) for protocol in place.urls]
        load = _run_with_progress(plans, out, place.read_memory)
    own = not (options.url or options.grpc_url)
    summary = summarize(model, load, now(), own, _commands(options, model, out), options.price)
    with _writing(out):
        write_atomically(out / "summary.json", summary.to_json())
        report.write(out / "report.html", model, load, summary)
    try:
        keep(summary, options.artifacts)
    except OSError as error:
        progress.print(f"! not kept in the history: {error}", soft_wrap=True, markup=False)
    if options.json:
        sys.stdout.buffer.write(summary.to_json())
    else:
        console = result_console()
        console.print(summary_table(summary))
        for remark in (*left_out(summary), *caveats(summary, load)):
            console.print(f"! {remark}", soft_wrap=True, markup=False)
        for sentence in generator_words(load):
            console.print(sentence, soft_wrap=True, markup=False)
        console.print(f"Written: {out / 'summary.json'}, {out / 'load.json'}, {out / 'requests.parquet'}")
        console.print(f"The report, for any browser: {out / 'report.html'}")
    failures = sum(row.failures or 0 for row in summary.rows)
    if failures:
        raise LoadTestError(f"{failures} requests failed; see {out / 'requests.parquet'} (columns ok, reason)")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises UsageError for options that do not go together."""
    if options.expect_workers and not (options.url or options.grpc_url):
        raise UsageError(
            "workers on other hosts do not reach a server that is started here, on 127.0.0.1; name a running one with "
            "--url or --grpc-url"
        )


def _make(folder: Path) -> None:
    """Makes the folder of the results before anything is measured. Raises RepositoryError."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("summary.json", "report.html"):  # an earlier run's
            (folder / name).unlink(missing_ok=True)
        write_atomically(folder / "plan.json", b"{}\n")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RepositoryError(
            f"{folder} cannot be written ({why}); make room there, or name another folder with --out"
        ) from error


def _commands(options: argparse.Namespace, model: ModelBuild, out: Path) -> tuple[str, ...]:
    """What to type to do the same again."""
    addresses = [(name, url) for name, url in (("--url", options.url), ("--grpc-url", options.grpc_url)) if url]
    load = [
        "trident", "loadtest", model.model, *(word for pair in addresses for word in pair),
        "--scenario", options.scenario, *_changed(_changes(options)), "--protocols", *options.protocols,
        "--seed", str(options.seed), *_price(options), *_generators(options), "--out", str(out), *_places(options),
    ]  # fmt: skip
    build = ["trident", "build", model.spec, *_places(options)]
    return shlex.join(build), shlex.join(load)


def _price(options: argparse.Namespace) -> list[str]:
    return [] if options.price is None else ["--price", f"{options.price:g}"]


def _generators(options: argparse.Namespace) -> list[str]:
    given = (("--processes", options.processes, 1), ("--expect-workers", options.expect_workers, 0))
    return [word for option, value, usual in given if value != usual for word in (option, str(value))]


def _changes(options: argparse.Namespace) -> Changes:
    return Changes(
        users=tuple(sorted(set(options.users))) if options.users else None,
        rate_rps=options.rate,
        seconds=options.seconds,
        connections=options.connections,
        p99_ms=options.p99,
        passes=options.passes,
    )


def _changed(changes: Changes) -> list[str]:
    """The changes as they are typed."""
    given = [(OPTIONS[field.name], getattr(changes, field.name)) for field in fields(changes)]
    return [
        word
        for option, value in given
        if value is not None
        for word in (option, *(f"{one:g}" for one in (value if isinstance(value, tuple) else (value,))))
    ]


def _places(options: argparse.Namespace) -> list[str]:
    """The folders, where they are not the usual ones."""
    usual = {"repository": Path("model_repository"), "artifacts": Path("artifacts")}
    named = {name: getattr(options, name) for name in usual if getattr(options, name) != usual[name]}
    return [word for name, path in named.items() for word in (f"--{name}", str(path))]


def _targets(artifacts: Path, model: ModelBuild) -> tuple[Target, ...]:
    """The published variants, each with the file of its in-process answers."""
    folder = (artifacts / model.model / "outputs").absolute()
    return tuple(
        Target(variant=row.variant, triton_name=row.triton_name, outputs=folder / f"{row.variant}.npz")
        for row in model.rows
        if row.status == "published"
    )


def _plan(
    options: argparse.Namespace, model: ModelBuild, scenario: Scenario, place: _Place, protocol: Protocol
) -> LoadPlan:
    try:
        return LoadPlan(
            model=model.model,
            url=place.urls[protocol],
            protocol=protocol,
            pack=(options.artifacts / model.model).absolute(),
            targets=place.targets,
            metrics_port=options.metrics_port,
            processes=options.processes,
            expect_workers=options.expect_workers,
            master_host=options.master_bind_host,
            master_port=options.master_bind_port if options.expect_workers else 0,
            baseline=model.baseline_variant,
            scenario=scenario,
            ceilings=(options.artifacts / "ceilings.json").absolute(),
            server_pid=place.server_pid,
            seed=options.seed,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise LoadTestError(f"{'.'.join(map(str, first['loc']))}: {first['msg']} (it is {first['input']})") from error


@dataclass(frozen=True)
class _Place:
    """A running server: its address for each protocol that is to be tested, the variants with the processes that serve
    them, where these are known, its own process, and how to learn what its models hold."""

    urls: dict[Protocol, str]
    targets: tuple[Target, ...]
    read_memory: Callable[[], dict[str, int]] = no_memory
    server_pid: int | None = None


@contextmanager
def _server(options: argparse.Namespace, targets: tuple[Target, ...]) -> Iterator[_Place]:
    """The running server that was named, or one of our own on free ports for as long as the test takes."""
    if options.url or options.grpc_url:
        yield _Place(_wanted(options, options.url, options.grpc_url), targets)
        return
    from server.options import ServeOptions  # only here: testing a remote server needs none installed
    from server.stubs import find_stubs
    from server.supervisor import Server

    names = tuple(target.triton_name for target in targets)
    wanted = ServeOptions(repository=options.repository, models=names, golden_interval_s=0)
    with Server(wanted, lambda sentence: progress.print(sentence, soft_wrap=True, markup=False)) as server:
        stubs = find_stubs(server.shm_prefix)
        served = tuple(
            target.model_copy(update={"pids": tuple(stub.pid for stub in stubs if stub.model == target.triton_name)})
            for target in targets
        )
        urls = _wanted(options, server.http_url, server.grpc_url)
        yield _Place(urls, served, server.resident_bytes, server.pid)


def _wanted(options: argparse.Namespace, http_url: str | None, grpc_url: str | None) -> dict[Protocol, str]:
    urls: dict[Protocol, str | None] = {"http": http_url, "raw": http_url, "grpc": grpc_url}
    found = {protocol: url for protocol, url in urls.items() if url and protocol in options.protocols}
    if not found:
        raise UsageError(
            f"no address was given for {' or '.join(options.protocols)}; "
            "--url names a server's HTTP address, --grpc-url its gRPC address"
        )
    return found


def _run_with_progress(plans: list[LoadPlan], out: Path, read_memory: Callable[[], dict[str, int]]) -> LoadReport:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=progress) as bar:
        task = bar.add_task("load test", total=None)

        def on_event(event: LoadEvent) -> None:
            bar.update(task, total=event.total, completed=event.done, description="load test")
            bar.console.print(event.message, soft_wrap=True, markup=False)

        return run_plans(plans, out, on_event, read_memory)
