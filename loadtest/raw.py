"""The raw requests, one row each, for whoever wants to judge for themselves.

Parquet, and not CSV: a soak of an hour has millions of rows, which take a fraction of the space and are read by column.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import InputError
from core.scenario import Protocol
from loadtest.errors import recording
from loadtest.judge import Recorded
from loadtest.reasons import kind_of

_NAME = pa.dictionary(pa.int16(), pa.string())
SCHEMA: Final = pa.schema(
    [
        ("variant", _NAME), ("protocol", _NAME), ("users", pa.int16()), ("offered_rps", pa.float64()),
        ("pass", pa.int16()), ("sample", pa.int32()), ("due_s", pa.float64()), ("sent_s", pa.float64()),
        ("latency_ms", pa.float64()), ("ok", pa.bool_()), ("reason", _NAME), ("score", pa.float64()),
    ]
)  # fmt: skip
"""`due_s` and `sent_s` count from the window's beginning, `latency_ms` from `sent_s`. Pass 0 is the
served accuracy. `score` is the sample's own, empty where `ok` is not or the metric is one of all samples together."""


class RawRequests:
    """Writes a file of raw requests, which has its name only when it is whole. Raises RecordingError."""

    def __init__(self, path: Path) -> None:
        self._path, self._beside = path, path.with_name(f".{path.name}.tmp")
        with recording(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._beside, SCHEMA, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with recording(self._path):
                self._writer.close()
                if kind is None:
                    self._beside.replace(self._path)
        finally:
            self._beside.unlink(missing_ok=True)

    def write(
        self, variant: str, protocol: Protocol, users: int, offered_rps: float | None, number: int, recorded: Recorded
    ) -> None:
        """Adds the requests of one run (pass `number`), in the order in which they were answered."""
        rows = len(recorded.good)
        scores = np.full(rows, np.nan)
        if recorded.metric.score and len(recorded.outputs):
            scores[recorded.good] = recorded.metric.score(recorded.outputs, recorded.labels)
        columns = (
            [variant] * rows, [protocol] * rows, [users] * rows, [offered_rps] * rows, [number] * rows,
            recorded.samples, recorded.due_s - recorded.origin_s, recorded.sent_s - recorded.origin_s,
            recorded.sent_ms, recorded.good,
            [kind_of(failure) if failure else None for failure in recorded.failures], scores,
        )  # fmt: skip
        arrays = [
            pa.array(column, field.type, from_pandas=True)  # what is no number becomes empty
            for column, field in zip(columns, SCHEMA, strict=True)
        ]
        with recording(self._path):
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))


def join_files(parts: Sequence[Path], whole: Path) -> None:
    """Moves files of raw requests into one. Raises RecordingError."""
    beside = whole.with_name(f".{whole.name}.tmp")
    try:
        with recording(whole):
            with pq.ParquetWriter(beside, SCHEMA, compression="zstd") as writer:
                for part in parts:
                    with pq.ParquetFile(part) as file:
                        for group in range(file.num_row_groups):
                            writer.write_table(file.read_row_group(group).cast(SCHEMA))
            beside.replace(whole)
    finally:
        beside.unlink(missing_ok=True)
    for part in parts:
        part.unlink()


def read_scores(path: Path) -> dict[tuple[str, Protocol], dict[int, float]]:
    """Variant and protocol -> sample -> its score, of the pass that measures served accuracy. Raises InputError."""
    columns = ["variant", "protocol", "sample", "score"]
    try:
        table = pq.read_table(path, columns=columns, filters=[("pass", "==", 0), ("ok", "==", True)])
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"the raw requests {path} cannot be read: {str(error).splitlines()[0]}") from error
    found: dict[tuple[str, Protocol], dict[int, float]] = {}
    for variant, protocol, sample, score in zip(*(table[name].to_pylist() for name in columns), strict=True):
        if score is not None:
            found.setdefault((variant, protocol), {})[sample] = score
    return found
