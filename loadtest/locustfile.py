"""Locust's own command line and web page for one served model, with the same users as `trident loadtest`:

    TRIDENT_PACK=artifacts/fashion TRIDENT_MODEL=fashion_onnx_fp32 \\
        locust -f loadtest/locustfile.py --host http://127.0.0.1:8000 --web-host 127.0.0.1

`--host grpc://127.0.0.1:8001` speaks gRPC, `--headless -u 8 -t 30s` runs it without the page. Locust rounds its
percentiles; how many answers were right is logged when a test stops.
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


class TritonUser(InferUser):
    """The user that Locust starts. Its job is set once the command line has been read."""


def read_environment() -> tuple[SamplePack, str]:
    """The sample pack and the model's name on the server. Raises UsageError saying what to set."""
    folder, model = os.environ.get("TRIDENT_PACK"), os.environ.get("TRIDENT_MODEL")
    if not folder or not model:
        raise UsageError(
            "set TRIDENT_PACK to the folder of a sample pack, such as artifacts/fashion, and TRIDENT_MODEL to the name "
            "of a model on the server, such as fashion_onnx_fp32"
        )
    return read_pack(Path(folder)), model


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: object) -> None:
    """Reads the pack, gives the users their job, and counts right answers."""
    try:
        pack, model = read_environment()
    except TridentError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    metric, golden = get_metric(pack.info.metric, pack.info.higher_is_better), pack.goldens[pack.info.metric_output]
    order = until(math.inf, pack.info.count, "locustfile").draw()
    protocol: ProtocolName = "grpc" if (environment.host or "").startswith("grpc://") else "http"
    requests = open_wire(protocol).encode_pack(pack)
    TritonUser.job = Job((model,), protocol, requests, golden[:1].nbytes, order, ANSWER_TIMEOUT_S)
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
