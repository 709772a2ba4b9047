"""What a running `trident serve` makes of what was published, asked of its supervisor."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from typing import Any, Final

from core.errors import InferenceError, RepositoryError

POLL_S: Final = 0.1
ANSWER_S: Final = 5.0


class RefusedError(RepositoryError):
    """The server did not take a version, and serves what it served before."""


def wait_until_served(url: str, model: str, version: int, since_s: float, timeout_s: float) -> float:
    """Returns, with the seconds it took, when the server under the supervisor at `url` (`host:port`) serves a version.
    Raises RefusedError if it has refused it after `since_s` (seconds since 1970), InferenceError if nobody answers or
    it takes too long."""
    began_s = time.monotonic()
    while True:
        told = _ask(url)
        refusal = told["refused"].get(model)
        if refusal and version in refusal["versions"] and refusal["at"] >= since_s:
            raise RefusedError(str(refusal["reason"]))
        rows = [row for row in told["models"] if row["name"] == model]
        if any(row["version"] == version and row["ready"] for row in rows) and not refusal:
            return time.monotonic() - began_s
        if time.monotonic() - began_s > timeout_s:
            now = ", ".join(f"version {row['version']} {'ready' if row['ready'] else row['reason']}" for row in rows)
            raise InferenceError(
                f"{model} version {version} is not served after {timeout_s:g} s; the server has {now or 'none of it'}"
            )
        time.sleep(POLL_S)


def _ask(url: str) -> Any:
    try:
        with urllib.request.urlopen(f"http://{url}/models", timeout=ANSWER_S) as answer:
            return json.load(answer)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InferenceError(
            f"no supervisor answers at {url} ({error}); give the health address that `trident serve` shows"
        ) from error
