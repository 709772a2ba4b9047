"""One load test from its plan to its report, in the load test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client import InferenceClient
from client.address import parse_address
from core.errors import InferenceError
from core.files import write_atomically
from core.load_results import Capacity, Ceiling, LoadReport, LoadWindow, ServedAccuracy
from core.machine import cores, describe, now
from core.samples import SamplePack, read_arrays, read_pack
from core.scenario import CapacitySearch
from loadtest.ceiling import find_ceiling
from loadtest.errors import PlanError, ServerLostError, recording
from loadtest.events import LoadEvent, describe_ceiling
from loadtest.generator import measure_ceiling
from loadtest.live import Live, exported
from loadtest.plan import LoadPlan, Target, steps
from loadtest.raw import RawRequests
from loadtest.session import Session, answer_bytes, measure, search, serve_once
from loadtest.wire import open_wire
from loadtest.workers import Workers

Tell = Callable[[LoadEvent], None]


def run(plan: LoadPlan, out: Path, tell: Tell) -> LoadReport:
    """Each variant's served accuracy, then all windows. Writes `requests.parquet` and `load.json` into `out`, both only
    when all is done. Raises ServerLostError, RecordingError, PlanError, GeneratorError; InferenceError, InputError."""
    accuracy: list[ServedAccuracy] = []
    windows: list[LoadWindow] = []
    found: list[Capacity] = []
    with opened(plan, out, tell) as session:

        def say(kind: Literal["accuracy", "window"], variant: str, done: int, message: str) -> None:
            tell(LoadEvent(kind=kind, variant=variant, done=done, total=plan.parts, message=message))
            session.live.done(done)

        try:
            for done, target in enumerate(plan.targets, start=1):
                served, message = serve_once(session, target)
                accuracy.append(served)
                say("accuracy", target.variant, done, message)
            for done, step in enumerate(steps(plan), start=len(accuracy) + 1):

                def say_window(variant: str, message: str, done: int = done) -> None:
                    say("window", variant, done, message)

                if isinstance(step.load, CapacitySearch):
                    probes, row = search(session, step, step.load, say_window)
                    found.append(row)
                    windows += probes
                else:
                    windows += measure(session, step, f"{plan.seed} {step.pass_number} {step.users}", say_window)
        except InferenceError as error:
            raise ServerLostError(
                f"the server stopped answering when {done - 1} of {plan.parts} parts of the load test were done: "
                f"{error}; nothing is judged from half a run"
            ) from error
        report = LoadReport(
            created_at=now(),
            model=plan.model,
            server_version=session.client.server_version(),
            url=f"{plan.protocol}://{session.address}",
            scenario=plan.scenario,
            seed=plan.seed,
            processes=plan.workers or 1,
            machine=describe(),
            samples_sha256=session.pack.info.sha256,
            windows=tuple(windows),
            accuracy=tuple(accuracy),
            capacity=tuple(found),
            ceilings=(session.ceiling,) if session.ceiling else (),
        )
    with recording(out / "load.json"):
        write_atomically(out / "load.json", report.to_json())
    return report


@contextmanager
def opened(plan: LoadPlan, out: Path, tell: Tell) -> Iterator[Session]:
    """All that a load test needs, made, checked and told of: a client, the file of raw requests, the generator's
    ceiling, its workers, its metrics."""

    def note(message: str) -> None:
        tell(LoadEvent(kind="note", variant="", done=0, total=plan.parts, message=message))

    pack, wire = read_pack(plan.pack), open_wire(plan.protocol)
    address, requests = parse_address(plan.url, wire.scheme), wire.encode_pack(pack)
    with ExitStack() as stack:
        client = stack.enter_context(InferenceClient(plan.url, wire.scheme, plan.timeout_s))
        raw = stack.enter_context(RawRequests(out / "requests.parquet"))
        in_process = {target.variant: check_target(target, pack, client) for target in plan.targets}
        live = Live(plan)
        if plan.metrics_port is not None:
            note(f"metrics while it runs: {stack.enter_context(exported(live, plan.metrics_port))}")
        ceiling = ask_ceiling(plan, pack, requests)
        if ceiling:
            note(describe_ceiling(ceiling))
        workers = stack.enter_context(Workers(plan, pack.info.sha256, answer_bytes(pack))) if plan.workers else None
        yield Session(plan, pack, requests, address, client, raw, in_process, live, ceiling, workers)


def ask_ceiling(plan: LoadPlan, pack: SamplePack, requests: tuple[bytes, ...]) -> Ceiling | None:
    """What the load generator can send at most, with all its processes, if the plan asks."""
    if plan.ceilings is None:
        return None
    size = answer_bytes(pack)
    found = find_ceiling(
        plan.ceilings, plan.protocol, len(requests[0]), size, lambda: measure_ceiling(plan.protocol, requests, size)
    )
    # Processes beyond the cores share them. Those on other hosts count as if they were like this one.
    many = min(plan.local_workers, cores()) + plan.expect_workers or 1
    return found.model_copy(update={"rps": found.rps * many, "processes": many})


def check_target(target: Target, pack: SamplePack, client: InferenceClient) -> NDArray[np.generic] | None:
    """The variant's in-process answers, if the plan names any. Raises PlanError or InferenceError unless the server has
    the variant and it takes and gives what the pack holds."""
    metadata = client.metadata(target.triton_name)
    metadata.check_inputs({name: array[:1] for name, array in pack.inputs.items()})
    metadata.check_outputs((name := pack.info.metric_output,))
    golden = pack.goldens[name]
    served = next(tensor for tensor in metadata.outputs if tensor.name == name)
    if not served.fits(golden[:1]):
        raise PlanError(
            f"{target.triton_name} gives {served}, but the sample pack of {pack.info.model} was made for "
            f"{golden.dtype} {list(golden.shape)}; build the model again"
        )
    if target.outputs is None:
        return None
    answers = read_arrays(target.outputs).get(name)
    if answers is None or len(answers) != pack.info.count:
        raise PlanError(f"{target.outputs} does not hold {name!r} for the pack's {pack.info.count} samples")
    return answers
