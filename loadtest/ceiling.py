"""How much the load generator can send at most: near that, it is a part of what is measured.

Its own queue then makes latencies longer, and throughput stops growing because of it and not because of the server. So
the ceiling is measured with the very requests of the run, on a server that does nothing (`loadtest.null`), and above
`loadtest.verdicts.CEILING_SHARE` of it there is no verdict.

It counts requests per second of CPU time, which does not depend on whether the null server keeps up, and hardly on what
else runs on the machine: the users of one process share one thread of Python. It is kept, since it takes a second: for
the same protocol and sizes, host and versions, and for a week.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from core.files import write_atomically
from core.load_results import Ceiling
from core.machine import age_s, describe, now
from core.results import ResultModel
from core.scenario import Protocol

FRESH_S: Final = 7 * 86400.0
PACKAGES: Final = ("trident-triton", "locust", "gevent", "geventhttpclient", "grpcio", "protobuf")


class Ceilings(ResultModel):
    """The file in which ceilings are kept."""

    rows: tuple[Ceiling, ...] = ()


def find_ceiling(
    kept: Path, protocol: Protocol, request_bytes: int, answer_bytes: int, measure: Callable[[], float]
) -> Ceiling:
    """The ceiling of one generator process for requests of this size: a fresh one from the file `kept`, or `measure`
    gives it (requests per second of CPU time), and it is put there."""
    rows, conditions = _read(kept), _conditions()
    subject = (protocol, request_bytes, answer_bytes)
    for row in rows:
        if (_subject(row), row.conditions) == (subject, conditions) and is_fresh(row):
            return row
    found = Ceiling(
        protocol=protocol, rps=measure(), request_bytes=request_bytes, answer_bytes=answer_bytes, measured_at=now(),
        conditions=conditions,
    )  # fmt: skip
    others = (row for row in rows if _subject(row) != subject)
    with suppress(OSError):  # it is measured again next time
        write_atomically(kept, Ceilings(rows=(*others, found)).to_json())
    return found


def is_fresh(row: Ceiling) -> bool:
    """Whether it still counts. One from the future, by a clock that was set back, does not."""
    return -1.0 <= age_s(row.measured_at) < FRESH_S


def _subject(row: Ceiling) -> tuple[Protocol, int, int]:
    return row.protocol, row.request_bytes, row.answer_bytes


def _read(kept: Path) -> tuple[Ceiling, ...]:
    try:
        return Ceilings.model_validate_json(kept.read_bytes()).rows
    except (OSError, ValidationError):
        return ()  # there is none yet, or another version wrote it


def _conditions() -> str:
    """Host and versions, which a ceiling depends on."""
    machine = describe()
    versions = []
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    where = f"{machine.cpu_model}, {machine.cores} cores, {machine.system}, Python {machine.python}"
    return ", ".join((where, *versions))
