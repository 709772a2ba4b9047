"""`trident wait`: until a server, or some of its models, take requests. For scripts."""

from __future__ import annotations

import argparse
import json
import time

from client import InferenceClient
from core.errors import InferenceError
from trident.connect import connect

POLL_S = 0.2
ANSWER_S = 2.0


def run(options: argparse.Namespace) -> int:
    """0 once all are ready. Raises InferenceError, naming what is not, if that takes too long."""
    began_s = time.monotonic()
    with connect(options, timeout_s=min(options.timeout, ANSWER_S)) as client:
        while missing := _missing(client, options.models):
            if time.monotonic() - began_s > options.timeout:
                raise InferenceError(f"not ready after {options.timeout:g} s: {missing}")
            time.sleep(POLL_S)
    seconds = time.monotonic() - began_s
    print(json.dumps({"ready": True, "seconds": round(seconds, 3)}) if options.json else f"ready after {seconds:.1f} s")
    return 0


def _missing(client: InferenceClient, models: list[str]) -> str:
    """What does not take requests yet, in words; empty if all do."""
    if not client.is_live():
        return "no server answers; is it started, and is this its address?"
    if models:
        return ", ".join(model for model in models if not client.is_ready(model))
    return "" if client.is_ready() else "the server is there, but not all of its models take requests; see its log"
