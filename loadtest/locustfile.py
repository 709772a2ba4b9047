"""Locust's own command line and web page for served models, with the same users as `trident loadtest`:

    TRIDENT_PACK=artifacts/fashion TRIDENT_MODEL=fashion_onnx_fp32 \\
        locust -f loadtest/locustfile.py --host http://127.0.0.1:8000 --web-host 127.0.0.1

`--host grpc://127.0.0.1:8001` speaks gRPC, `--headless -u 8 -t 30s` runs it without the page. TRIDENT_MODEL may name
several models, separated by commas: each is a user class of its own (`--class-picker`), all together are mixed traffic.
Locust rounds its percentiles; how many answers were right is logged when a test stops.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from pathlib import Path

import gevent
import numpy as np
from locust import events
from locust.env import Environment

from client.transport import ProtocolName
from core.errors import TridentError, UsageError
from core.metrics import get_metric
from core.samples import SamplePack, read_pack
from loadtest.job import Exchange, Job, until
from loadtest.user import InferUser
from loadtest.wire import open_wire

ANSWER_TIMEOUT_S = 30.0


def names_of_models() -> list[str]:
    """Those that the environment names."""
    return [name for name in os.environ.get("TRIDENT_MODEL", "").split(",") if name]


def make_user(name: str) -> type[InferUser]:
    """The user that Locust starts for a model. Its job is set once the command line has been read."""
    return type(name, (InferUser,), {"__module__": __name__})


# Locust looks for user classes among what the file defines; without one it would not get as far as our own message.
globals().update({name: make_user(name) for name in names_of_models() or ["TritonUser"]})


def read_environment() -> SamplePack:
    """The sample pack. Raises UsageError saying what to set."""
    folder = os.environ.get("TRIDENT_PACK")
    if not folder or not names_of_models():
        raise UsageError(
            "set TRIDENT_PACK to the folder of a sample pack, such as artifacts/fashion, and TRIDENT_MODEL to the name "
            "of a model on the server, such as fashion_onnx_fp32"
        )
    return read_pack(Path(folder))


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: object) -> None:
    """Reads the pack, gives the users their job, and counts right answers."""
    try:
        pack = read_environment()
    except TridentError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    metric, golden = get_metric(pack.info.metric, pack.info.higher_is_better), pack.goldens[pack.info.metric_output]
    order = until(math.inf, pack.info.count, "locustfile").draw()
    protocol: ProtocolName = "grpc" if (environment.host or "").startswith("grpc://") else "http"
    requests = open_wire(protocol).encode_pack(pack)
    for name in names_of_models():
        globals()[name].job = Job((name,), protocol, requests, golden[:1].nbytes, order, ANSWER_TIMEOUT_S)
    answers: list[tuple[int, bytes]] = []

    def keep_answer(context: dict[str, Exchange], **_: object) -> None:
        exchange = context["exchange"]
        if not exchange.failure:
            answers.append((exchange.sample, exchange.answer))

    def tell_score(**_: object) -> None:
        if answers:
            outputs = np.frombuffer(b"".join(answer for _, answer in answers), golden.dtype)
            value = metric.value(outputs.reshape(-1, *golden.shape[1:]), pack.labels[[sample for sample, _ in answers]])
            logging.info("%s of the %d answers under load: %.4f", metric.name, len(answers), value)

    environment.events.request.add_listener(keep_answer)
    environment.events.test_start.add_listener(lambda **_: answers.clear())
    environment.events.test_stop.add_listener(tell_score)
    # The event loop's clock stands since before the imports; a run time shorter than these would be over at once.
    gevent.get_hub().loop.update_now()
