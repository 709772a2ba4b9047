"""Protobuf's wire format, read field by field without loading what is not asked for: a model of gigabytes is mostly
weights, and its signature a few hundred bytes between them.

Encoding: https://protobuf.dev/programming-guides/encoding/"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Final

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIXED: Final = {FIXED64: 8, FIXED32: 4}
Buffer = bytes | mmap.mmap


class WireError(ValueError):
    """These bytes are no protobuf message, or not the whole of one."""


def fields(data: Buffer, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """`(number, wire type, a, b)` of each field: for VARINT `a` is the value; for others the value is `data[a:b]`.
    Raises WireError."""
    at, end = start, len(data) if end is None else end
    while at < end:
        key, at = _varint(data, at, end)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise WireError(f"no field has number 0 (byte {at})")
        if kind == VARINT:
            value, at = _varint(data, at, end)
            yield number, kind, value, at
            continue
        if kind == BYTES:
            size, at = _varint(data, at, end)
        elif kind in FIXED:
            size = FIXED[kind]
        else:
            raise WireError(f"wire type {kind} does not exist any more (byte {at})")
        if at + size > end:
            raise WireError(f"it ends {at + size - end} bytes too early")
        yield number, kind, at, at + size
        at += size


def text(data: Buffer, start: int, end: int) -> str:
    """A string field; bytes that are no UTF-8 are replaced."""
    return data[start:end].decode("utf-8", "replace")


def _varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise WireError("it ends within a number" if at >= end else "a number is longer than numbers are")
